/**
 * Wraps a raw disk into a compose directory as Pungi leaves it: the metadata, and the disk in every format that has a
 * way into a cloud, plus two container images. Node alone does it. Both architectures carry the same bytes.
 *
 * Writes OUT/<id>/compose/{metadata/…,Cloud/<arch>/images/…,Container/<arch>/images/…} and STATUS, COMPOSE_ID beside.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { link, mkdir, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { xzAsync } from "node-liblzma";
import { pack } from "tar-stream";
import { vhdFooter } from "./vhd.ts";

export interface SampleComposeOptions {
  readonly disk: string;
  readonly out: string;
  readonly id?: string;
  readonly label?: string | undefined;
  readonly arches?: readonly string[];
  /** Told what is being written, for a line on the terminal. */
  readonly onFile?: (path: string) => void;
}

export interface SampleCompose {
  readonly id: string;
  /** The `compose/` directory. */
  readonly directory: string;
}

/** Uncompressed bytes in an xz block: as Fedora's images have them. */
const XZ_BLOCK = 24 * 1024 * 1024;
const GO_ARCH: Record<string, string> = { x86_64: "amd64", aarch64: "arm64", ppc64le: "ppc64le", s390x: "s390x" };
const ID = /^(?<short>.+)-(?<version>[^-]+)-(?<date>\d{8})(?:\.(?<kind>[a-z]+))?\.(?<respin>\d+)$/;
const TYPES: Record<string, string> = { n: "nightly", t: "test", ci: "ci", d: "development" };

export async function makeSampleCompose(options: SampleComposeOptions): Promise<SampleCompose> {
  const id = options.id ?? "Fedora-43-20251021.0";
  const parts = ID.exec(id)?.groups;
  if (parts === undefined) throw new Error(`${id} is not a compose id`);
  const type = parts.kind === undefined ? "production" : TYPES[parts.kind];
  const label = type === "production" ? (options.label ?? "RC-1.6") : undefined;
  const build = `${parts.version}-${label?.split("-")[1] ?? `${parts.date}.${parts.respin}`}`;
  const arches = options.arches ?? ["x86_64", "aarch64"];
  const root = join(resolve(options.out), id);
  await rm(root, { recursive: true, force: true });

  const images: Record<string, Record<string, object[]>> = {};
  const made = new Map<string, string>();
  for (const arch of arches) {
    const files: FileToMake[] = [
      cloud(arch, `AmazonEC2-${build}.${arch}.raw.xz`, "raw-xz", "raw.xz", (path) =>
        xzFile(path, diskChunks(options.disk)),
      ),
      cloud(arch, `Azure-${build}.${arch}.vhdfixed.xz`, "vhd-compressed", "vhdfixed.xz", (path) =>
        xzFile(path, vhdChunks(options.disk)),
      ),
      cloud(arch, `GCE-${build}.${arch}.tar.gz`, "tar-gz", "tar.gz", (path) => tarGz(path, options.disk)),
      container(arch, `Base-Generic-${build}.${arch}.oci.tar`, "container", "ociarchive", "Container_Base", ociArchive),
      container(
        arch,
        `Minimal-Base-Generic-${build}.${arch}.tar.xz`,
        "docker",
        "tar.xz",
        "Container_Minimal_Base",
        dockerArchive,
      ),
    ];
    for (const file of files) {
      const path = join(root, "compose", file.path);
      options.onFile?.(file.path);
      await mkdir(dirname(path), { recursive: true });
      const same = file.shared ? made.get(file.format) : undefined;
      if (same === undefined) await file.make(path);
      else await link(same, path);
      made.set(file.format, path);
      images[file.variant] ??= {};
      images[file.variant]![arch] ??= [];
      images[file.variant]![arch]!.push(await describe(file, path, arch));
    }
  }

  const compose = { date: parts.date, id, respin: Number(parts.respin), type };
  const metadata = join(root, "compose", "metadata");
  await mkdir(metadata, { recursive: true });
  await writeJson(join(metadata, "images.json"), "productmd.images", { compose, images });
  await writeJson(join(metadata, "composeinfo.json"), "productmd.composeinfo", {
    compose: { ...compose, ...(label === undefined ? {} : { label, final: true }) },
    release: { internal: false, name: "Fedora", short: parts.short, type: "ga", version: parts.version },
    variants: Object.fromEntries(
      Object.keys(images).map((name) => [name, { arches, id: name, name, paths: {}, type: "variant", uid: name }]),
    ),
  });
  await writeFile(join(root, "STATUS"), "FINISHED\n");
  await writeFile(join(root, "COMPOSE_ID"), id);
  return { id, directory: join(root, "compose") };
}

interface FileToMake {
  readonly path: string;
  readonly variant: string;
  readonly type: string;
  readonly format: string;
  readonly subvariant: string;
  /** The same bytes serve every architecture. */
  readonly shared: boolean;
  make(path: string): Promise<void>;
}

function cloud(
  arch: string,
  name: string,
  type: string,
  format: string,
  make: (path: string) => Promise<void>,
): FileToMake {
  const path = `Cloud/${arch}/images/Fedora-Cloud-Base-${name}`;
  return { path, variant: "Cloud", type, format, subvariant: "Cloud_Base", shared: true, make };
}

function container(
  arch: string,
  name: string,
  type: string,
  format: string,
  subvariant: string,
  make: (path: string, arch: string) => Promise<void>,
): FileToMake {
  const path = `Container/${arch}/images/Fedora-Container-${name}`;
  return { path, variant: "Container", type, format, subvariant, shared: false, make: (to) => make(to, arch) };
}

async function describe(file: FileToMake, path: string, arch: string): Promise<object> {
  const { size, mtimeMs } = await stat(path);
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash);
  return {
    arch,
    bootable: false,
    checksums: { sha256: hash.digest("hex") },
    disc_count: 1,
    disc_number: 1,
    format: file.format,
    implant_md5: null,
    mtime: Math.floor(mtimeMs / 1000),
    path: file.path,
    size,
    subvariant: file.subvariant,
    type: file.type,
    volume_id: null,
  };
}

/** A chunk an xz stream: streams one after the other are one valid .xz file, and each is a unit to decode alone. */
async function xzFile(path: string, chunks: AsyncIterable<Buffer>): Promise<void> {
  await pipeline(
    Readable.from(
      (async function* () {
        for await (const chunk of chunks) yield await xzAsync(chunk, { preset: 1 });
      })(),
    ),
    createWriteStream(path),
  );
}

function diskChunks(disk: string): AsyncIterable<Buffer> {
  return createReadStream(disk, { highWaterMark: XZ_BLOCK });
}

async function* vhdChunks(disk: string): AsyncIterable<Buffer> {
  let bytes = 0;
  for await (const chunk of diskChunks(disk)) {
    bytes += chunk.length;
    yield chunk;
  }
  const padding = (1024 * 1024 - (bytes % (1024 * 1024))) % (1024 * 1024);
  yield Buffer.concat([Buffer.alloc(padding), vhdFooter(bytes + padding)]);
}

async function tarGz(path: string, disk: string): Promise<void> {
  const tar = pack();
  const { size } = await stat(disk);
  const entry = tar.entry({ name: "disk.raw", size, type: "file" });
  const written = pipeline(createReadStream(disk, { highWaterMark: 1024 * 1024 }), entry).then(() => tar.finalize());
  await Promise.all([written, pipeline(tar, createGzip({ level: 1 }), createWriteStream(path))]);
}

/** A one-layer OCI layout in a tar. */
async function ociArchive(path: string, arch: string): Promise<void> {
  const layer = await releaseNoteLayer(arch);
  const config = containerConfig(arch, layer);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.oci.image.config.v1+json", ...descriptor(config) },
      layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar", ...descriptor(layer) }],
    }),
  );
  const index = {
    schemaVersion: 2,
    manifests: [
      {
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        ...descriptor(manifest),
        platform: { architecture: GO_ARCH[arch] ?? arch, os: "linux" },
      },
    ],
  };
  const files: Record<string, Buffer> = {
    "oci-layout": Buffer.from('{"imageLayoutVersion":"1.0.0"}'),
    "index.json": Buffer.from(JSON.stringify(index)),
  };
  for (const blob of [layer, config, manifest]) files[`blobs/sha256/${hex(blob)}`] = blob;
  await writeFile(path, await tarOf(files));
}

async function dockerArchive(path: string, arch: string): Promise<void> {
  const layer = await releaseNoteLayer(arch);
  const config = containerConfig(arch, layer);
  const manifest = [
    { Config: `${hex(config)}.json`, RepoTags: ["fedora-minimal:latest"], Layers: [`${hex(layer)}.tar`] },
  ];
  const tar = await tarOf({
    [`${hex(layer)}.tar`]: layer,
    [`${hex(config)}.json`]: config,
    "manifest.json": Buffer.from(JSON.stringify(manifest)),
  });
  await writeFile(path, await xzAsync(tar, { preset: 1 }));
}

async function releaseNoteLayer(arch: string): Promise<Buffer> {
  return tarOf({
    "etc/release-note": Buffer.concat([Buffer.from(`container for ${arch}\n`), randomBytes(1024 * 1024)]),
  });
}

function containerConfig(arch: string, layer: Buffer): Buffer {
  return Buffer.from(
    JSON.stringify({
      architecture: GO_ARCH[arch] ?? arch,
      os: "linux",
      config: { Labels: { name: "fedora" } },
      rootfs: { type: "layers", diff_ids: [`sha256:${hex(layer)}`] },
    }),
  );
}

async function tarOf(files: Record<string, Buffer>): Promise<Buffer> {
  const tar = pack();
  for (const [name, body] of Object.entries(files)) tar.entry({ name, mtime: new Date(0) }, body);
  tar.finalize();
  return Buffer.concat(await Array.fromAsync(tar as AsyncIterable<Buffer>));
}

function hex(data: Buffer): string {
  return createHash("sha256").update(data).digest("hex");
}

function descriptor(data: Buffer): { digest: string; size: number } {
  return { digest: `sha256:${hex(data)}`, size: data.length };
}

async function writeJson(path: string, type: string, payload: object): Promise<void> {
  await writeFile(path, `${JSON.stringify({ header: { type, version: "1.2" }, payload }, null, 4)}\n`);
}
