/** True if one of the patterns takes the text whole. `*` stands for any characters, everything else for itself. */
export function matchesAny(patterns: readonly string[], text: string): boolean {
  return indexOfMatch(patterns, text) >= 0;
}

/** Position of the first pattern that takes the text; -1 for none. */
export function indexOfMatch(patterns: readonly string[], text: string): number {
  return patterns.findIndex((pattern) => matches(pattern, text));
}

function matches(pattern: string, text: string): boolean {
  const parts = pattern.split("*");
  if (parts.length === 1) return pattern === text;
  const first = parts[0]!;
  const last = parts.at(-1)!;
  if (!text.startsWith(first) || !text.endsWith(last) || text.length < first.length + last.length) return false;
  // Each middle part at its earliest place: what is left over can only help the parts after it.
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return at <= text.length - last.length;
}
