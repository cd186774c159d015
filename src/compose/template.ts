import { SlipwayError } from "../lib/errors.ts";

/**
 * What a name template may hold. `{x}` becomes the value; `{-x}` becomes a dash and the value, or nothing where there
 * is no value (likewise `{.x}` and `{_x}`).
 */
export const PLACEHOLDERS = {
  arch: "architecture in the compose's word: x86_64, aarch64",
  azure_arch: "x64 or Arm64",
  go_arch: "amd64, arm64, ppc64le, s390x",
  build: "the label's version (1.6) of a milestone, else date.respin (20251021.0)",
  channel: "rawhide, branched, cloud, rc … or what the system's channels say",
  compose: "the compose's id",
  date: "YYYYMMDD",
  file: "the artifact's file name without its format",
  format: "the artifact's format: raw.xz",
  kind: "rc, nightly, rawhide, eln, branched",
  label: "the whole label: RC-1.6; nothing for a nightly",
  label_version: "1.6; nothing for a nightly",
  number: "the release as a number: 43; Rawhide's number for Rawhide and ELN",
  prerelease: "Prerelease before a release, else nothing",
  release: "the release's name: Fedora",
  respin: "the compose's respin: 0",
  short: "the release's short name: Fedora, Fedora-Cloud",
  subvariant: "Cloud_Base",
  type: "the artifact's type: raw-xz",
  variant: "the compose's variant: Cloud",
  version: "43, Rawhide, ELN",
} as const;

export type Placeholder = keyof typeof PLACEHOLDERS;
export type PlaceholderValues = Readonly<Record<Placeholder, string>>;

/** These differ between the files of one group, so what names a whole group cannot hold them. */
export const PER_FILE: readonly Placeholder[] = ["arch", "azure_arch", "go_arch", "file", "format", "type", "variant"];

const FIELD = /\{([-._]?)([^{}]*)\}/g;

/**
 * What is wrong with a template, naming the nearest placeholder there is; undefined if nothing.
 * @param allowed all by default
 */
export function checkTemplate(template: string, allowed = Object.keys(PLACEHOLDERS)): string | undefined {
  for (const [whole, , name = ""] of template.matchAll(FIELD)) {
    if (allowed.includes(name)) continue;
    if (Object.hasOwn(PLACEHOLDERS, name)) return `${whole} cannot stand here: one name serves several files`;
    const near = nearest(name, allowed);
    return `there is no placeholder ${whole}${near ? `; did you mean {${near}}?` : `; there are {${allowed.join("}, {")}}`}`;
  }
  if (/[{}]/.test(template.replace(FIELD, ""))) return "a brace is left open";
  return undefined;
}

/** @throws SlipwayError `invalid` for a template `checkTemplate` would refuse */
export function fillTemplate(template: string, values: Partial<PlaceholderValues>): string {
  const wrong = checkTemplate(template, Object.keys(values));
  if (wrong) throw new SlipwayError("invalid", `template "${template}": ${wrong}`, { subject: template });
  return template.replace(FIELD, (_, separator: string, name: Placeholder) => {
    const value = values[name] ?? "";
    return value === "" ? "" : separator + value;
  });
}

/** The known name that a misspelt one most likely means; undefined when none is close. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  // A name of 8 letters may be off by 3: enough for two slips and a plural, too little for another word.
  const limit = Math.max(1, Math.ceil(name.length / 3));
  let best: { name: string; distance: number } | undefined;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance <= limit && (!best || distance < best.distance)) best = { name: candidate, distance };
  }
  return best?.name;
}

/** Letters to insert, delete, change or swap with their neighbour. */
function editDistance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 40) return 41;
  const row = (at: number) => [at, ...Array<number>(b.length).fill(0)];
  let beforeLast: number[] = [];
  let last = row(0).map((_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = row(i);
    for (let j = 1; j <= b.length; j++) {
      const changed = last[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next[j] = Math.min(last[j]! + 1, next[j - 1]! + 1, changed);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) next[j] = Math.min(next[j]!, beforeLast[j - 2]! + 1);
    }
    [beforeLast, last] = [last, next];
  }
  return last[b.length]!;
}
