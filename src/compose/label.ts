import { SlipwayError } from "../lib/errors.ts";

/** Milestones in the order a release passes them. */
const LABEL_NAMES = [
  ...["EA", "DevelPhaseExit", "InternalAlpha", "Alpha", "InternalSnapshot", "Beta", "Snapshot"],
  ...["RC", "Update", "SecurityFix"],
] as const;

/** `RC-1.6` taken apart. Only production composes have one. */
export interface Label {
  /** As written: `RC-1.6`. */
  readonly text: string;
  readonly name: (typeof LABEL_NAMES)[number];
  /** `1.6`. */
  readonly version: string;
  /** True for `RC-20190611.0`, the labels of nightlies after a release. */
  readonly dated: boolean;
  /** True for a milestone before the release candidates. */
  readonly early: boolean;
}

/** @throws SlipwayError `invalid` */
export function parseLabel(text: string): Label {
  const match = /^([A-Za-z]+)-(\d{1,8}\.\d{1,8})$/.exec(text);
  const name = LABEL_NAMES.find((known) => known === match?.[1]);
  if (!match || !name) {
    throw new SlipwayError("invalid", `"${text.slice(0, 80)}" is not a compose label`, {
      subject: "compose label",
      next: `A label is one of ${LABEL_NAMES.join(", ")} and two numbers: RC-1.6.`,
    });
  }
  const version = match[2]!;
  return { text, name, version, dated: /^\d{8}\./.test(version), early: rank(name) < rank("RC") };
}

/** Orders labels by milestone, then by their numbers: < 0 when `a` came first. */
export function compareLabels(a: Label, b: Label): number {
  if (a.name !== b.name) return rank(a.name) - rank(b.name);
  const [aMajor = 0, aMinor = 0] = a.version.split(".").map(Number);
  const [bMajor = 0, bMinor = 0] = b.version.split(".").map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}

function rank(name: Label["name"]): number {
  return LABEL_NAMES.indexOf(name);
}
