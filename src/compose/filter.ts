import type { Artifact } from "../model.ts";
import { byText } from "./order.ts";
import type { ArtifactFilter } from "./types.ts";
import { indexOfMatch, matchesAny } from "./wildcard.ts";

/** In the order a person would ask: a qcow2 is not "the wrong subvariant". */
const FIELDS = ["type", "format", "variant", "subvariant", "arch"] as const;

export function takes(filter: ArtifactFilter, artifact: Artifact): boolean {
  return fieldsTaken(filter, artifact) === FIELDS.length;
}

/**
 * The artifacts a filter takes, the preferred ones first: the order of the filter's own lists of types, then formats,
 * decides between two files that would make one image. Ties go by path, so the order never depends on the metadata's.
 */
export function taken(filter: ArtifactFilter, artifacts: readonly Artifact[]): Artifact[] {
  const rank = (wanted: readonly string[] | undefined, has: string) => (wanted ? indexOfMatch(wanted, has) : 0);
  return artifacts
    .filter((artifact) => takes(filter, artifact))
    .sort(
      (a, b) =>
        rank(filter.type, a.type) - rank(filter.type, b.type) ||
        rank(filter.format, a.format) - rank(filter.format, b.format) ||
        byText(a.path, b.path),
    );
}

/** Why no rule of the system takes an artifact: told from the rule that came nearest to taking it. */
export function whyNotTaken(
  artifact: Artifact,
  rules: readonly { readonly select: ArtifactFilter }[],
  system: string,
): string {
  const furthest = Math.max(-1, ...rules.map((rule) => fieldsTaken(rule.select, artifact)));
  const field = FIELDS[furthest];
  if (field === "format") return `${artifact.type}: format ${artifact.format} is not selected by ${system}`;
  if (field === "variant") return `${artifact.type}: variant ${artifact.variant} is not selected by ${system}`;
  if (field === "subvariant") {
    const has = artifact.subvariant === "" ? "without a subvariant" : `of subvariant ${artifact.subvariant}`;
    return `${artifact.type} ${has} is not selected by ${system}`;
  }
  if (field === "arch") return `arch ${artifact.arch} is not offered`;
  return `${artifact.type}: no rule of ${system} selects it`;
}

/** How many of FIELDS, from the first, the filter takes. */
function fieldsTaken(filter: ArtifactFilter, artifact: Artifact): number {
  const refused = FIELDS.findIndex((field) => {
    const wanted = filter[field];
    return wanted !== undefined && !matchesAny(wanted, artifact[field]);
  });
  return refused < 0 ? FIELDS.length : refused;
}
