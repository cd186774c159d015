/**
 * Reads a tar once, front to back, and says where each member lies.
 *
 * For archives of container images only, whose members are few, plainly named and regular: ustar, GNU long names and
 * pax `path`/`size`. Everything an archive could use to mislead is refused: names that leave the archive, two members
 * of one name, sparse members, headers that do not add up. Links are reported and never followed.
 */
import { SlipwayError } from "../../lib/errors.ts";
import { KiB } from "../../lib/units.ts";

export interface TarMember {
  /** Without `./` at its front; never absolute, never with `..`. */
  readonly name: string;
  readonly type: "file" | "directory" | "link" | "other";
  /** Of its first byte of data, in the tar. */
  readonly offset: number;
  readonly bytes: number;
}

/** Takes a member's data as it passes by. */
export interface MemberSink {
  write(chunk: Uint8Array): void | Promise<void>;
  end(): void | Promise<void>;
}

export interface TarLimits {
  readonly maxMembers: number;
  /** Of the tar itself: what a decompression bomb meets. */
  readonly maxBytes: number;
}

const BLOCK = 512;
/** Of a long name or a pax header. */
const MAX_EXTENSION_BYTES = 64 * KiB;
const MAX_NAME = 1024;

/**
 * Runs through a whole tar; what follows its end marker is read and not looked at.
 * @param onMember called for each member in order; returns a sink for its data if it is wanted
 * @throws SlipwayError `corrupt` (ends early, bad checksum), `invalid` (misleading or over a limit)
 */
export async function scanTar(
  source: AsyncIterable<Uint8Array>,
  onMember: (member: TarMember) => MemberSink | undefined,
  limits: TarLimits,
  subject: string,
): Promise<void> {
  const refuse = (why: string) => new SlipwayError("invalid", `The tar ${why}`, { subject });
  const seen = new Set<string>();
  const header = Buffer.alloc(BLOCK);
  let headerFill = 0;
  let position = 0;
  /** Data and padding still to come of the present member. */
  let data = 0;
  let padding = 0;
  let sink: MemberSink | undefined;
  let extension: { readonly type: string; readonly parts: Uint8Array[] } | undefined;
  let overrides: Overrides = {};
  let members = 0;
  let ended = false;

  async function finish(): Promise<void> {
    if (extension) {
      overrides = { ...overrides, ...readExtension(extension.type, Buffer.concat(extension.parts), refuse) };
      extension = undefined;
    } else await sink?.end();
    sink = undefined;
  }

  async function begin(): Promise<void> {
    if (header.every((byte) => byte === 0)) {
      ended = true;
      return;
    }
    const read = readHeader(header, subject);
    const bytes = overrides.size !== undefined && !isExtension(read.type) ? overrides.size : read.size;
    data = bytes;
    padding = (BLOCK - (bytes % BLOCK)) % BLOCK;
    if (isExtension(read.type)) {
      if (bytes > MAX_EXTENSION_BYTES) throw refuse(`has a header of ${bytes} bytes`);
      extension = { type: read.type, parts: [] };
    } else {
      if (++members > limits.maxMembers) throw refuse(`has more than ${limits.maxMembers} members`);
      const type = typeOf(read.type, refuse);
      const name = nameOf(overrides.path ?? read.name, refuse);
      overrides = {};
      if (type !== "directory" && seen.size === seen.add(name).size) throw refuse(`has two members named "${name}"`);
      // Only regular files have data; a size in another header is a trap for readers that disagree about it.
      if (type !== "file" && bytes > 0) throw refuse(`gives ${bytes} bytes to "${name}", which is no file`);
      sink = onMember({ name, type, offset: position, bytes });
    }
    if (data === 0) await finish();
  }

  for await (const chunk of source) {
    let at = 0;
    while (at < chunk.length) {
      if (ended) {
        at = chunk.length;
      } else if (data > 0) {
        const part = chunk.subarray(at, Math.min(chunk.length, at + data));
        at += part.length;
        position += part.length;
        data -= part.length;
        if (extension) extension.parts.push(Buffer.from(part));
        else await sink?.write(part);
        if (data === 0) await finish();
      } else if (padding > 0) {
        const skipped = Math.min(padding, chunk.length - at);
        padding -= skipped;
        at += skipped;
        position += skipped;
      } else {
        const taken = Math.min(BLOCK - headerFill, chunk.length - at);
        header.set(chunk.subarray(at, at + taken), headerFill);
        headerFill += taken;
        at += taken;
        position += taken;
        if (headerFill === BLOCK) {
          headerFill = 0;
          await begin();
        }
      }
      if (position > limits.maxBytes) {
        throw new SlipwayError("invalid", `The archive unpacks to more than ${limits.maxBytes} bytes`, {
          subject,
          next: "raise the limit if it is meant to be that large",
        });
      }
    }
  }
  if (data > 0 || headerFill > 0)
    throw new SlipwayError("corrupt", "The tar ends in the middle of a member", { subject });
}

interface Overrides {
  readonly path?: string;
  readonly size?: number;
}

type Refuse = (why: string) => SlipwayError;

function readHeader(header: Buffer, subject: string): { name: string; size: number; type: string } {
  const sum = numberAt(header, 148, 8);
  let actual = 8 * 32; // the checksum's own field counts as spaces
  for (let at = 0; at < BLOCK; at++) if (at < 148 || at >= 156) actual += header[at]!;
  if (sum !== actual) throw new SlipwayError("corrupt", "The tar has a header with a wrong checksum", { subject });
  const size = numberAt(header, 124, 12);
  if (size === undefined) throw new SlipwayError("invalid", "The tar has a member without a usable size", { subject });
  const prefix =
    header.toString("latin1", 257, 262) === "ustar" && header[263] === 0x30 ? textAt(header, 345, 155) : "";
  const name = textAt(header, 0, 100);
  return { name: prefix ? `${prefix}/${name}` : name, size, type: String.fromCharCode(header[156]!) };
}

/** Octal text, or base-256 where the first bit is set. Undefined if it is no safe integer. */
function numberAt(header: Buffer, offset: number, length: number): number | undefined {
  const field = header.subarray(offset, offset + length);
  if (field[0] === 0x80) {
    let value = 0;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    return Number.isSafeInteger(value) ? value : undefined;
  }
  const text = textAt(header, offset, length).trim();
  return /^[0-7]*$/.test(text) ? Number.parseInt(text || "0", 8) : undefined;
}

function textAt(header: Buffer, offset: number, length: number): string {
  const field = header.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return field.toString("utf8", 0, end === -1 ? length : end);
}

function isExtension(type: string): boolean {
  return type === "x" || type === "g" || type === "L" || type === "K";
}

function readExtension(type: string, data: Buffer, refuse: Refuse): Overrides {
  if (type === "L") return { path: data.toString("utf8").replace(/\0.*$/s, "") };
  if (type === "K") return {};
  const records = new Map<string, string>();
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const length = space === -1 ? 0 : Number(data.toString("latin1", at, space));
    const record = data.toString("utf8", space + 1, at + length - 1);
    if (!Number.isSafeInteger(length) || length < 5 || at + length > data.length || !record.includes("=")) {
      throw refuse("has a pax header that cannot be read");
    }
    records.set(record.slice(0, record.indexOf("=")), record.slice(record.indexOf("=") + 1));
    at += length;
  }
  if ([...records.keys()].some((key) => key.startsWith("GNU.sparse"))) throw refuse("has a sparse member");
  const path = records.get("path");
  const size = records.get("size");
  // What holds for all members at once would let one header rename or resize everything behind it.
  if (type === "g" && (path !== undefined || size !== undefined)) throw refuse("sets names or sizes for all members");
  if (size !== undefined && !/^\d{1,15}$/.test(size)) throw refuse("has a member without a usable size");
  return { ...(path === undefined ? {} : { path }), ...(size === undefined ? {} : { size: Number(size) }) };
}

function typeOf(type: string, refuse: Refuse): TarMember["type"] {
  if (type === "0" || type === "\0" || type === "7") return "file";
  if (type === "5") return "directory";
  if (type === "1" || type === "2") return "link";
  if (type === "S") throw refuse("has a sparse member");
  return "other";
}

function nameOf(name: string, refuse: Refuse): string {
  const shown = JSON.stringify(name.slice(0, 100));
  if (name.length > MAX_NAME) throw refuse(`has a name of ${name.length} characters`);
  if (name.startsWith("/") || name.includes("\\") || /\p{Cc}/u.test(name)) throw refuse(`has a member named ${shown}`);
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw refuse(`has a member that leaves it: ${shown}`);
  return parts.join("/");
}
