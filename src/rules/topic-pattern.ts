/**
 * Patterns of topics as AMQP's topic exchanges have them: words between dots, `*` one word, `#` any number, none
 * included. Pure.
 */

/** Topics have at most 255 bytes, and so have bindings. */
const MOST_BYTES = 255;

/** What is wrong with a pattern, in words; undefined if nothing is. */
export function problemWithPattern(pattern: string): string | undefined {
  if (Buffer.byteLength(pattern) > MOST_BYTES) return `a topic has at most ${MOST_BYTES} bytes`;
  if (/\s/.test(pattern)) return "a topic has no spaces";
  const mixed = pattern.split(".").find((word) => word.length > 1 && /[*#]/.test(word));
  return mixed === undefined ? undefined : `"${mixed}" is no word and no wildcard: * and # stand for whole words`;
}

/** Linear in topic × pattern, whatever stands in them: a sender chooses the topic. */
export function topicMatches(pattern: string, topic: string): boolean {
  const wanted = pattern.split(".");
  const words = topic.split(".");
  // reached[i]: the words so far are covered by the first i of the pattern.
  let reached = closure(wanted, [true, ...wanted.map(() => false)]);
  for (const word of words) {
    const next = new Array<boolean>(wanted.length + 1).fill(false);
    wanted.forEach((one, at) => {
      if (one === "#") next[at + 1] ||= reached[at]! || reached[at + 1]!;
      else if (one === "*" || one === word) next[at + 1] ||= reached[at]!;
    });
    reached = closure(wanted, next);
  }
  return reached[wanted.length]!;
}

/** `#` covers nothing, too. */
function closure(wanted: readonly string[], reached: boolean[]): boolean[] {
  wanted.forEach((one, at) => {
    if (one === "#" && reached[at]) reached[at + 1] = true;
  });
  return reached;
}
