import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Compose, type ReleaseState, readCompose } from "../index.ts";

export const TESTDATA = join(import.meta.dirname, "../testdata");

/** One case of `testdata/` as text, for tests that break it. */
export function composeFiles(id: string) {
  const read = (name: string) => readFileSync(join(TESTDATA, id, name), "utf8");
  return {
    composeinfo: read("composeinfo.json"),
    images: read("images.json"),
    location: `https://kojipkgs.fedoraproject.org/compose/${id}/compose`,
  };
}

export function fixture(id: string): Compose {
  return readCompose(composeFiles(id));
}

export function releasesOf(id: string): ReleaseState {
  const given = JSON.parse(readFileSync(join(TESTDATA, id, "releases.json"), "utf8"));
  return { end_of_life: {}, unknown_end_of_life_months: 13, ...given };
}

export interface MadeImage {
  type: string;
  format: string;
  subvariant?: string;
  arch?: string;
  path?: string;
  [field: string]: unknown;
}

export interface MadeCompose {
  id?: string;
  type?: string;
  label?: string;
  short?: string;
  version?: string;
  releaseType?: string;
  status?: string;
  images?: readonly MadeImage[];
}

/** Metadata of format 1.2 made for one test. */
export function madeFiles({ images = [], status, ...made }: MadeCompose) {
  const { id = "Fedora-43-20251021.0", type = "production", label, short = "Fedora", version = "43" } = made;
  const date = /(\d{8})/.exec(id)?.[1] ?? "20251021";
  const compose = { id, type, date, respin: Number(/\.(\d+)$/.exec(id)?.[1] ?? 0) };
  const release = { name: "Fedora", short, version, type: made.releaseType ?? "ga" };
  const entries = images.map((image, index) => ({
    arch: "x86_64",
    subvariant: "Cloud_Base",
    path: `Cloud/${image.arch ?? "x86_64"}/images/image-${index}.${image.format}`,
    size: 1000 + index,
    checksums: { sha256: String(index).padStart(64, "0") },
    ...image,
  }));
  return {
    composeinfo: JSON.stringify({
      header: { type: "productmd.composeinfo", version: "1.2" },
      payload: { compose: { ...compose, ...(label ? { label } : {}) }, release, variants: {} },
    }),
    images: JSON.stringify({
      header: { type: "productmd.images", version: "1.2" },
      payload: { compose, images: { Cloud: { any: entries } } },
    }),
    location: "https://example.org/compose",
    ...(status === undefined ? {} : { status }),
  };
}

export function madeCompose(made: MadeCompose): Compose {
  return readCompose(madeFiles(made));
}
