/**
 * What a playbook is told of an event, as a file of variables in which nothing is a template.
 *
 * Ansible takes extra variables for its own text: `{{ lookup('pipe', 'rm …') }}` in a commit message would be run by
 * whoever uses that variable. So every text is tagged `!unsafe`. It has to be YAML: in JSON, where Ansible's mark is an
 * object with the key `__ansible_unsafe`, a body could bring such objects, or vaults, of its own, and keys have no mark.
 */
import { SlipwayError } from "../../lib/errors.ts";
import type { Json } from "../../model.ts";

export interface PlaybookEvent {
  readonly topic: string;
  readonly id: string;
  readonly severity: number;
  readonly headers: Readonly<Record<string, Json>>;
  readonly body: Readonly<Record<string, Json>>;
}

/** Ansible reads about half a MiB a second; events have kilobytes. */
const MOST_CHARACTERS = 16 * 1024 * 1024;

/**
 * The variables `msg` (the body, as loopabull had it) and `slipway_event` (`topic`, `id`, `severity`, `headers`,
 * `body`), as ASCII text for `ansible-playbook -e @FILE.yml`; ansible-core 2.9 … 2.19 read the same from it. Pure.
 *
 * Keys are kept but for those that hold the beginning of a template, see `tameKey`. Lone surrogates become U+FFFD.
 * @throws SlipwayError `invalid` if the text gets longer than 16 Mi characters
 */
export function eventVariables({ topic, id, severity, headers, body }: PlaybookEvent): string {
  // Ansible reads slowly, so the body is there once and is referred to.
  const parts: string[] = ['"msg": &body '];
  write({ ...body }, parts);
  parts.push('\n"slipway_event": {? "body"\n : *body ');
  for (const [name, value] of Object.entries({ topic, id, severity, headers: { ...headers } })) {
    parts.push(`,\n ? "${name}"\n : `);
    write(value, parts);
  }
  parts.push("}");
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  if (length > MOST_CHARACTERS) {
    throw new SlipwayError("invalid", `the event is too large for a playbook: ${length} characters of variables`, {
      subject: id,
      next: "Handle the event with a rule that does not need its whole body.",
    });
  }
  return `${parts.join("")}\n`;
}

// Flow style, with the sign for a key before each: without it a key ends at 1024 characters. The break before the colon
// is for newer libyaml, which does not find it otherwise.
function write(value: Json, parts: string[]): void {
  if (typeof value === "string") parts.push(scalar(value));
  else if (typeof value === "number") parts.push(number(value));
  else if (value === null || typeof value === "boolean") parts.push(String(value));
  else if (Array.isArray(value)) {
    parts.push("[");
    for (const [n, one] of value.entries()) {
      if (n > 0) parts.push(", ");
      write(one, parts);
    }
    parts.push("]");
  } else {
    parts.push("{");
    for (const [n, [key, one]] of Object.entries(value).entries()) {
      parts.push(n > 0 ? ",\n ? " : "? ", scalar(tameKey(key)), "\n : ");
      write(one, parts);
    }
    parts.push("}");
  }
}

/**
 * A blank after each brace that begins a template, or could with what follows the key: `{{` becomes `{ {`.
 *
 * Ansible before 2.19 forgets that keys are unsafe: it asks an object's *values* whether what an expression gives must
 * not be evaluated again, so `{{ msg.keys() | first }}` of an object without texts runs what the key says. Two keys stay
 * two keys: whoever wrote a blank there gets one more.
 */
export function tameKey(key: string): string {
  return key.replace(/\{( *)(?=[{%#]|$)/g, "{ $1");
}

/**
 * What YAML may take for a number, a date, a truth value or nothing. From 2.19 on Ansible looks again at what is tagged
 * `!unsafe`, whatever quotes it has, so these stand in quotes alone, and no template can be written in them.
 */
const AMBIGUOUS = /^(?:[-+.\d][-+.:\w \t]*|[A-Za-z]{1,5}|~|<<|=|[!&*]|)$/;

function scalar(text: string): string {
  const quoted = JSON.stringify(text.toWellFormed()).replace(/[^\n -~]/gu, (char) => {
    const code = char.codePointAt(0)!;
    return code > 0xffff ? `\\U${hex(code, 8)}` : `\\u${hex(code, 4)}`;
  });
  return AMBIGUOUS.test(text) ? quoted : `!unsafe ${quoted}`;
}

const hex = (code: number, digits: number) => code.toString(16).toUpperCase().padStart(digits, "0");

/** YAML 1.1 sees a number in an exponent only after a point. */
function number(value: number): string {
  const text = JSON.stringify(value);
  return text.includes("e") ? `!!float "${text}"` : text;
}
