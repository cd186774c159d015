import { type ImageVersion, type Placement, versionId } from "../catalog/catalog.ts";
import type { PlannedImage } from "../compose/index.ts";
import type { Journey, ReleaseFacts } from "./groups.ts";

/** The catalog's row for an artifact of a compose. Pure. */
export function versionOf(facts: ReleaseFacts, item: PlannedImage): ImageVersion {
  const { artifact } = item;
  return {
    id: versionId(facts.system, facts.composeId, artifact.sha256, item.arch),
    system: facts.system,
    composeId: facts.composeId,
    kind: facts.kind,
    label: facts.label,
    artifactPath: artifact.path,
    artifactSha256: artifact.sha256,
    subvariant: artifact.subvariant,
    arch: item.arch,
    release: facts.releaseNumber,
  };
}

export function placementOf(facts: ReleaseFacts, { item, spec }: Journey): Placement {
  return {
    versionId: versionId(facts.system, facts.composeId, item.artifact.sha256, item.arch),
    target: item.target,
    cloud: item.cloud,
    name: spec.name,
    key: spec.key,
    definition: spec.definition,
    version: spec.version,
  };
}
