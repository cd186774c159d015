import type { PlannedImage } from "../compose/index.ts";
import { diskKey, imageKey } from "../lib/image-key.ts";
import type { ImageSpec, Region } from "../model.ts";

/** What a driver is told about a planned image. Pure; `diskBytes` is 0 until the disk has been opened. */
export function imageSpec(item: PlannedImage, regions: readonly string[] = item.regions): ImageSpec {
  const identity = { target: item.target, name: item.name, arch: item.arch, sha256: item.artifact.sha256 };
  return {
    key: imageKey({ ...identity, kind: "image" }),
    diskKey: diskKey(identity),
    name: item.name,
    description: item.description,
    arch: item.arch,
    diskBytes: 0,
    homeRegion: item.homeRegion,
    regions,
    ...(item.definition === undefined ? {} : { definition: item.definition }),
    ...(item.version === undefined ? {} : { version: item.version }),
    ...(item.family === undefined ? {} : { family: item.family }),
    ...(item.aws === undefined ? {} : { aws: item.aws }),
    endOfLife: item.endOfLife,
    tags: item.facts,
  };
}

/** Names the journal of a staged disk. The home region's has no region in its name: journals of older runs keep theirs. */
export function transferId(target: string, spec: Pick<ImageSpec, "diskKey" | "homeRegion">, region: Region): string {
  const name = `${target}/${spec.diskKey}`;
  return region === spec.homeRegion ? name : `${name}/${region}`;
}
