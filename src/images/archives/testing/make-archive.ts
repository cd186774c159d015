/** Container archives made by hand: right ones, and ones no honest tool would write. */
import { createHash } from "node:crypto";

export interface Member {
  readonly name: string;
  readonly data?: Uint8Array | string;
  /** The header's type flag; `0` is a regular file. */
  readonly type?: string;
  readonly link?: string;
  /** What the header says instead of the data's size. */
  readonly size?: number;
}

export function tar(members: readonly Member[], options: { readonly end?: boolean } = {}): Buffer {
  const parts = members.flatMap((member) => {
    const data = Buffer.from(member.data ?? "");
    return [tarHeader(member, data.length), data, Buffer.alloc((512 - (data.length % 512)) % 512)];
  });
  return Buffer.concat([...parts, ...(options.end === false ? [] : [Buffer.alloc(1024)])]);
}

function tarHeader({ name, type = "0", link = "", size }: Member, length: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0, 100);
  header.write("0000644\0", 100);
  header.write(`${(size ?? length).toString(8).padStart(11, "0")}\0`, 124);
  header.write("00000000000\0", 136);
  header.write("        ", 148);
  header.write(type, 156);
  header.write(link, 157, 100);
  header.write("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

export function pax(records: Readonly<Record<string, string>>, type = "x"): Member {
  const lines = Object.entries(records).map(([key, value]) => {
    const body = ` ${key}=${value}\n`;
    let length = body.length + 1;
    while (`${length}${body}`.length !== length) length = `${length}${body}`.length;
    return `${length}${body}`;
  });
  return { name: "PaxHeader", type, data: lines.join("") };
}

export function sha256(data: Uint8Array | string): string {
  return createHash("sha256").update(data).digest("hex");
}

export interface LayoutRecipe {
  readonly architecture?: string;
  readonly layers?: readonly Uint8Array[];
  /** The index says which platform the image has. */
  readonly platform?: boolean;
  readonly config?: Record<string, unknown>;
}

/** The files of an OCI layout with one image. */
export function ociLayout(recipe: LayoutRecipe = {}): Member[] {
  const { architecture = "amd64", layers = [tar([{ name: "hello", data: "hello\n" }])], platform = false } = recipe;
  const blobs: Member[] = [];
  const add = (data: Uint8Array | string, mediaType: string) => {
    blobs.push({ name: `blobs/sha256/${sha256(data)}`, data });
    return { mediaType, digest: `sha256:${sha256(data)}`, size: Buffer.byteLength(data) };
  };
  const config = add(
    JSON.stringify({ architecture, os: "linux", rootfs: { type: "layers", diff_ids: [] }, ...recipe.config }),
    "application/vnd.oci.image.config.v1+json",
  );
  const manifest = add(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config,
      layers: layers.map((layer) => add(layer, "application/vnd.oci.image.layer.v1.tar")),
    }),
    "application/vnd.oci.image.manifest.v1+json",
  );
  const entry = { ...manifest, ...(platform ? { platform: { architecture, os: "linux" } } : {}) };
  return [
    { name: "./", type: "5" },
    ...blobs,
    { name: "./index.json", data: JSON.stringify({ schemaVersion: 2, manifests: [entry] }) },
    { name: "oci-layout", data: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
  ];
}

/** The files of a docker-archive with one image, as skopeo writes them. */
export function dockerArchive(recipe: LayoutRecipe = {}): Member[] {
  const { architecture = "amd64", layers = [tar([{ name: "hello", data: "hello\n" }])] } = recipe;
  const config = JSON.stringify({
    ...{ architecture, os: "linux", config: { Healthcheck: { Test: ["CMD", "true"] } } },
    ...{ rootfs: { type: "layers", diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) } },
    ...recipe.config,
  });
  const names = layers.map((layer) => `${sha256(layer)}.tar`);
  return [
    ...layers.map((data, at) => ({ name: names[at]!, data })),
    ...names.map((name, at) => ({ name: `legacy${at}/layer.tar`, type: "2", link: `../${name}` })),
    { name: `${sha256(config)}.json`, data: config },
    { name: "repositories", data: "{}" },
    {
      name: "manifest.json",
      data: JSON.stringify([{ Config: `${sha256(config)}.json`, RepoTags: ["fedora:43"], Layers: names }]),
    },
  ];
}
