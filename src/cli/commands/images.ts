import { attestationsOf } from "../../catalog/attestations.ts";
import { type CatalogedContainer, type CatalogedImage, listContainers, listImages } from "../../catalog/catalog.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { EXIT, type Paint, table } from "../output.ts";
import type { Session } from "../session.ts";

/** What was released, one row an image and target; regions are counted. */
export async function listReleased(
  session: Session,
  options: { compose?: string; search?: string; system?: string; limit: string },
): Promise<number> {
  const { db } = await session.services();
  const filter = { composeId: options.compose, search: options.search, system: options.system };
  const limit = Number(options.limit);
  const images = await listImages(db, { ...filter, limit: limit * 50 });
  const containers = await listContainers(db, { ...filter, limit });
  session.output.data({ images: imageMap(images), containers }, (paint) => {
    const rows = [...grouped(images).values()].slice(0, limit).map((group) => imageRow(group, paint));
    rows.push(...containers.map((container) => containerRow(container, paint)));
    if (rows.length === 0) return `No images. ${paint.dim('"slipway release COMPOSE" makes some.')}`;
    return table(["state", "cloud", "target", "arch", "name", "where"], rows, paint);
  });
  return EXIT.done;
}

/** Everything about one image: by name, by a cloud's id, by digest. */
export async function showImage(session: Session, name: string): Promise<number> {
  const { db } = await session.services();
  const images = (await listImages(db, { search: name })).filter((image) => image.name === name || image.id === name);
  const wanted = images[0]?.name;
  const all =
    wanted === undefined ? [] : (await listImages(db, { search: wanted })).filter((one) => one.name === wanted);
  const containers = (await listContainers(db, { search: name.split(/[:@]/)[0] })).filter(
    (one) =>
      one.repository === name || one.digest === name || one.tags.some((tag) => `${one.repository}:${tag}` === name),
  );
  if (all.length + containers.length === 0) {
    throw new SlipwayError("not-found", "the catalog has no such image", {
      subject: name,
      next: '"slipway images list --search PART" finds one by a part of its name.',
    });
  }
  const subjects = [...all.map(({ version }) => version.id), ...containers.map(({ id }) => id)];
  const attestations = await attestationsOf(db, [...new Set(subjects)]);
  const signed = (id: string) => {
    const found = attestations.get(id);
    return found === undefined ? "no" : `${found.createdAt.slice(0, 16)} by key ${found.keyId.slice(0, 16)}`;
  };
  const statements = [...attestations.values()].map(({ subject, keyId, statementSha256, createdAt }) => {
    return { subject, keyId, statementSha256, createdAt };
  });
  session.output.data({ images: imageMap(all), containers, attestations: statements }, (paint) => {
    const parts = [...grouped(all).values()].map((group) => describeImage(group, signed(group[0]!.version.id), paint));
    parts.push(...containers.map((container) => describeContainer(container, signed(container.id), paint)));
    return parts.join("\n\n");
  });
  return EXIT.done;
}

/**
 * Region → AMI for every AWS image of a compose, or of the newest one: what the website lists. With `get-amis`, the
 * YAML that its generator writes.
 */
export async function listAmis(session: Session, options: { compose?: string; format?: string }): Promise<number> {
  const { db } = await session.services();
  const all = (await listImages(db, { composeId: options.compose })).filter(
    (image) => image.cloud === "aws" && image.id !== undefined && image.state === "active",
  );
  const composeId = options.compose ?? all[0]?.version.composeId;
  const amis: Record<string, Record<string, Record<string, string>>> = {};
  for (const image of all.filter((one) => one.version.composeId === composeId)) {
    amis[image.name] ??= {};
    amis[image.name]![image.version.arch] ??= {};
    amis[image.name]![image.version.arch]![image.region] = image.id!;
  }
  if (options.format === "get-amis") {
    process.stdout.write(websiteYaml(all.filter((one) => one.version.composeId === composeId)));
    return EXIT.done;
  }
  session.output.data(amis, (paint) =>
    Object.keys(amis).length === 0
      ? "No AMI is offered."
      : Object.entries(amis)
          .flatMap(([name, byArch]) =>
            Object.entries(byArch).map(
              ([arch, regions]) =>
                `${paint.bold(name)} ${paint.dim(arch)}\n${table(["region", "ami"], Object.entries(regions), paint)}`,
            ),
          )
          .join("\n\n"),
  );
  return EXIT.done;
}

/** `{ga: {x86_64: {region: ami}}, beta: {…}}`, the shape of the website's data file. */
function websiteYaml(images: readonly CatalogedImage[]): string {
  const lines: string[] = [];
  for (const [key, wanted] of [
    ["ga", false],
    ["beta", true],
  ] as const) {
    lines.push(`${key}:`);
    for (const arch of ["x86_64", "aarch64"]) {
      const found = images.filter((one) => one.version.arch === arch && one.name.includes("-Prerelease-") === wanted);
      lines.push(found.length === 0 ? `  ${arch}: {}` : `  ${arch}:`);
      for (const image of found) lines.push(`    ${image.region}: ${image.id}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Image → target → region → id: users look things up, and hate lists to iterate. */
function imageMap(images: readonly CatalogedImage[]) {
  const map: Record<
    string,
    Record<string, { compose: string; arch: string; cloud: string; regions: Record<string, object> }>
  > = {};
  for (const image of images) {
    map[image.name] ??= {};
    map[image.name]![image.target] ??= {
      compose: image.version.composeId,
      arch: image.version.arch,
      cloud: image.cloud,
      regions: {},
    };
    map[image.name]![image.target]!.regions[image.region] = {
      id: image.id ?? null,
      state: image.state,
      ...(image.error === undefined ? {} : { error: image.error }),
    };
  }
  return map;
}

function grouped(images: readonly CatalogedImage[]): Map<string, CatalogedImage[]> {
  const groups = new Map<string, CatalogedImage[]>();
  for (const image of images) {
    const key = `${image.version.id} ${image.target}`;
    groups.set(key, [...(groups.get(key) ?? []), image]);
  }
  return groups;
}

function imageRow(group: readonly CatalogedImage[], paint: Paint): string[] {
  const first = group[0]!;
  const there = group.filter((image) => image.state !== "missing");
  const where = there.length === group.length ? `${there.length}` : paint.warn(`${there.length} of ${group.length}`);
  return [statesOf(group, paint), first.cloud, first.target, first.version.arch, first.name, `${where} regions`];
}

function containerRow(container: CatalogedContainer, paint: Paint): string[] {
  const name = container.tags.length === 0 ? container.repository : `${container.repository}:${container.tags[0]}`;
  const arches = container.architectures.join(" ");
  return [paintState(container.state, paint), "registry", container.target, arches, name, container.registry];
}

function describeImage(group: readonly CatalogedImage[], attested: string, paint: Paint): string {
  const first = group[0]!;
  const rows = group.map((image) => [
    image.region,
    paintState(image.state, paint),
    image.id ?? "",
    image.error === undefined ? "" : paint.bad(image.error.message),
  ]);
  return [
    paint.bold(first.name),
    `${first.cloud} ${first.target}, ${first.version.arch}, from ${first.version.composeId}`,
    `artifact ${first.version.artifactPath} sha256:${first.version.artifactSha256}`,
    `key ${first.key}`,
    `attested ${attested}`,
    "",
    table(["region", "state", "id", ""], rows, paint),
  ].join("\n");
}

function describeContainer(container: CatalogedContainer, attested: string, paint: Paint): string {
  return [
    paint.bold(`${container.registry}/${container.repository}`),
    `state  ${container.state}`,
    `digest ${container.digest}`,
    `tags   ${container.tags.join(" ")}`,
    `arches ${container.architectures.join(" ")}`,
    `from   ${container.composeId}`,
    `attested ${attested}`,
  ].join("\n");
}

function statesOf(group: readonly CatalogedImage[], paint: Paint): string {
  const states = [...new Set(group.map((image) => image.state))].filter((state) => state !== "missing");
  return states.length === 0 ? paintState("missing", paint) : states.map((state) => paintState(state, paint)).join("/");
}

function paintState(state: string, paint: Paint): string {
  if (state === "active") return paint.good(state);
  return state === "missing" ? paint.bad(state) : paint.warn(state);
}
