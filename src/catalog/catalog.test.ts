import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import type { CloudImage } from "../model.ts";
import {
  type ImageVersion,
  listContainers,
  listImages,
  type Placement,
  recordContainer,
  recordImage,
  recordMissing,
  recordVersion,
  versionId,
} from "./catalog.ts";
import { noteTagMove, recordSpec, setContainerState, specsOf, tagMovesOf } from "./offers.ts";
import { CATALOG_MIGRATIONS, type CatalogTables } from "./schema.ts";

let database: Database;

beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("catalog", CATALOG_MIGRATIONS);
});
afterAll(() => database?.close());

const db = () => database.kysely<CatalogTables>();
const down = { code: "unavailable", message: "the region does not answer" };

function version(composeId: string, arch = "x86_64"): ImageVersion {
  const sha256 = "ab".repeat(32);
  return {
    id: versionId("cloud", composeId, sha256, arch),
    system: "cloud",
    composeId,
    kind: "nightly",
    label: undefined,
    artifactPath: `Cloud/${arch}/images/x.raw.xz`,
    artifactSha256: sha256,
    subvariant: "Cloud_Base",
    arch,
    release: 43,
  };
}

async function placed(composeId: string, name = `image-${composeId}`): Promise<Placement> {
  const known = version(composeId);
  await recordVersion(db(), known, "run-1");
  return { versionId: known.id, target: "aws", cloud: "aws", name, key: "k".repeat(52) };
}

function image(place: Placement, region: string, changes: Partial<CloudImage> = {}): CloudImage {
  return { key: place.key, region, id: `ami-${region}`, name: place.name, state: "candidate", ...changes };
}

const of = (composeId: string) => listImages(db(), { composeId });

test("a version and its image are one row each, however often they are recorded", async () => {
  const place = await placed("C-1");
  await recordVersion(db(), version("C-1"), "run-2");
  await recordImage(db(), place, image(place, "us-east-1", { diskId: "snap-1" }));
  await recordImage(db(), place, image(place, "us-east-1", { diskId: "snap-1" }));
  expect(await of("C-1")).toEqual([
    {
      version: version("C-1"),
      target: "aws",
      cloud: "aws",
      region: "us-east-1",
      id: "ami-us-east-1",
      name: "image-C-1",
      key: place.key,
      diskId: "snap-1",
      state: "candidate",
      error: undefined,
      definition: undefined,
      definitionVersion: undefined,
      offeredAt: undefined,
      changedAt: expect.any(String),
    },
  ]);
});

test("an image that is offered says since when", async () => {
  const place = await placed("C-2");
  await recordImage(db(), place, image(place, "us-east-1"));
  await recordImage(db(), place, image(place, "us-east-1", { state: "active" }));
  expect(await of("C-2")).toMatchObject([{ state: "active", offeredAt: expect.stringMatching(/Z$/) }]);
});

test("offering again does not change since when it was offered", async () => {
  const place = await placed("C-3");
  await recordImage(db(), place, image(place, "us-east-1", { state: "active" }));
  const [before] = await of("C-3");
  await recordImage(db(), place, image(place, "us-east-1", { state: "active" }));
  const [after] = await of("C-3");
  expect(after?.offeredAt).toBe(before?.offeredAt);
});

test("what is missing is told with its reason, gives way to the image, and never hides one", async () => {
  const place = await placed("C-4");
  await recordMissing(db(), place, "eu-west-1", down);
  expect(await of("C-4")).toMatchObject([{ region: "eu-west-1", state: "missing", id: undefined, error: down }]);
  await recordMissing(db(), place, "eu-west-1", { ...down, message: "still not" });
  expect(await of("C-4")).toMatchObject([{ error: { message: "still not" } }]);
  await recordImage(db(), place, image(place, "eu-west-1"));
  const there = await of("C-4");
  expect(there).toMatchObject([{ state: "candidate", id: "ami-eu-west-1", error: undefined }]);
  await recordMissing(db(), place, "eu-west-1", down);
  expect(await of("C-4")).toEqual(there);
  // A candidate that was left behind when its siblings were offered is to be caught up with; what is out stays out.
  await recordMissing(db(), place, "eu-west-1", down, { leftBehind: true });
  expect(await of("C-4")).toMatchObject([{ state: "missing", id: undefined, error: down }]);
  await recordImage(db(), place, image(place, "eu-west-1", { state: "active" }));
  await recordMissing(db(), place, "eu-west-1", down, { leftBehind: true });
  expect(await of("C-4")).toMatchObject([{ state: "active", id: "ami-eu-west-1" }]);
});

test("an image without its version is refused: nothing hangs in the air", async () => {
  const place = { ...(await placed("C-5")), versionId: "nobody" };
  await expect(recordImage(db(), place, image(place, "us-east-1"))).rejects.toThrow();
});

test("newest compose first, and within it by name, target and region", async () => {
  for (const [composeId, name] of [
    ["order-1", "b"],
    ["order-2", "a"],
  ] as const) {
    const place = await placed(composeId, `order-${name}`);
    for (const region of ["us-east-1", "eu-west-1"]) await recordImage(db(), place, image(place, region));
  }
  const found = await listImages(db(), { search: "order-" });
  expect(found.map(({ name, region }) => `${name} ${region}`)).toEqual([
    "order-a eu-west-1",
    "order-a us-east-1",
    "order-b eu-west-1",
    "order-b us-east-1",
  ]);
});

test("a search is plain text in name, id or compose; filters join", async () => {
  const place = await placed("find_1", "find%me");
  await recordImage(db(), place, image(place, "us-east-1", { id: "ami-find" }));
  await recordImage(db(), place, image(place, "eu-west-1", { state: "active" }));
  const count = async (filter: Parameters<typeof listImages>[1]) => (await listImages(db(), filter)).length;
  expect(await count({ search: "find%me" })).toBe(2);
  expect(await count({ search: "FIND_1" })).toBe(2);
  expect(await count({ search: "ami-find" })).toBe(1);
  expect(await count({ search: "find-me" })).toBe(0);
  expect(await count({ search: "find%me", state: "active" })).toBe(1);
  expect(await count({ search: "find%me", target: "azure" })).toBe(0);
  expect(await count({ versionId: place.versionId, limit: 1 })).toBe(1);
});

test("a repository of a compose is one row a registry; a repeat brings it up to date", async () => {
  const container = {
    system: "cloud",
    composeId: "C-6",
    kind: "nightly",
    target: "quay",
    registry: "quay.io/fedora",
    repository: "fedora",
    digest: `sha256:${"1".repeat(64)}`,
    tags: ["43.1", "43"],
    architectures: ["x86_64"],
    release: 43,
    state: "active" as const,
    floating: ["43"],
  };
  await recordContainer(db(), container, "run-1");
  await recordContainer(db(), container, "run-1");
  const grown = { ...container, digest: `sha256:${"2".repeat(64)}`, architectures: ["x86_64", "aarch64"] };
  await recordContainer(db(), grown, "run-2");
  await recordContainer(db(), { ...container, target: "other", registry: "registry.example" }, "run-2");
  const found = await listContainers(db(), { composeId: "C-6" });
  expect(found).toMatchObject([{ ...container, target: "other", registry: "registry.example" }, grown]);
  expect(await listContainers(db(), { search: "fed_ra" })).toEqual([]);
});

test("a repository that was offered is not a candidate again because its release is repeated", async () => {
  const container = {
    ...{ system: "cloud", composeId: "C-7", kind: "nightly", target: "quay", registry: "quay.io/fedora" },
    ...{ repository: "fedora", digest: `sha256:${"3".repeat(64)}`, architectures: ["x86_64"], release: 43 },
    ...{ tags: ["43.1"], state: "candidate" as const, floating: ["43", "latest"] },
  };
  await recordContainer(db(), container, "run-1");
  const [before] = await listContainers(db(), { composeId: "C-7" });
  expect(before).toMatchObject({ state: "candidate", tags: ["43.1"], floating: ["43", "latest"] });
  await setContainerState(db(), before!.id, "active", ["43.1", "43", "latest"]);
  await recordContainer(db(), container, "run-2");
  expect(await listContainers(db(), { composeId: "C-7" })).toMatchObject([
    { state: "active", tags: ["43.1", "43", "latest"] },
  ]);
});

test("what a driver was told and where a tag pointed are kept, the newest of each", async () => {
  const place = await placed("C-8");
  const spec = { ...{ key: "k", diskKey: "d", name: "n", description: "", arch: "x86_64", diskBytes: 1, tags: {} } };
  await recordSpec(db(), place.versionId, "aws", { ...spec, homeRegion: "a", regions: ["a"] });
  await recordSpec(db(), place.versionId, "aws", { ...spec, homeRegion: "a", regions: ["a", "b"] });
  const kept = await specsOf(db(), [place.versionId]);
  expect([...kept]).toEqual([[`${place.versionId} aws`, { ...spec, homeRegion: "a", regions: ["a", "b"] }]]);

  await noteTagMove(db(), { containerId: "c", tag: "latest", previous: "sha256:1" });
  await noteTagMove(db(), { containerId: "c", tag: "43", previous: "sha256:1" });
  await noteTagMove(db(), { containerId: "c", tag: "43", previous: undefined });
  expect(await tagMovesOf(db(), ["c", "other"])).toEqual([
    { containerId: "c", tag: "43", previous: undefined },
    { containerId: "c", tag: "latest", previous: "sha256:1" },
  ]);
});
