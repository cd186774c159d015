import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";
import { TiB } from "../lib/units.ts";
import type { Artifact, ComposeStatus } from "../model.ts";
import { type ComposeType, isDate, parseComposeId } from "./compose-id.ts";
import { parseBoundedJson } from "./json.ts";
import { type Label, parseLabel } from "./label.ts";
import { byText } from "./order.ts";
import { artifactUrl, checkLocation, whyUnsafePath } from "./paths.ts";
import type { Compose, SkippedArtifact } from "./types.ts";

/** What was fetched, as text. Nothing in it is trusted. */
export interface ComposeFiles {
  /** metadata/composeinfo.json */
  readonly composeinfo: string;
  /** metadata/images.json */
  readonly images: string;
  /** The `compose/` directory as a URL. */
  readonly location: string;
  /** ../STATUS, or what the event said. */
  readonly status?: string;
}

/** Fedora's largest compose describes about 400 images. */
export const METADATA_LIMITS = { images: 20_000, imageBytes: TiB } as const;

const COMPOSEINFO = "metadata/composeinfo.json";
const IMAGES = "metadata/images.json";
/** @see https://productmd.readthedocs.io (0.3 only ever stood in composeinfo) */
const VERSIONS = { [COMPOSEINFO]: ["0.3", "1.0", "1.1", "1.2", "2.0"], [IMAGES]: ["1.0", "1.1", "1.2", "2.0"] };
const HEADER_TYPES = { [COMPOSEINFO]: "productmd.composeinfo", [IMAGES]: "productmd.images" };
type File = typeof COMPOSEINFO | typeof IMAGES;

/**
 * Reads a compose's metadata: productmd 1.0 to 1.2 and 2.0.
 *
 * Types and formats it has never heard of are kept as they are: the list grows with every release, and selection
 * ignores what no rule asks for.
 * @throws SlipwayError `invalid`, naming the file and the field
 */
export function readCompose(files: ComposeFiles): Compose {
  const location = checkLocation(files.location);
  const info = readFile(COMPOSEINFO, files.composeinfo, composeinfoPayload);
  const images = readFile(IMAGES, files.images, imagesPayload);
  if (info.compose.id !== images.compose.id) {
    throw invalid(
      IMAGES,
      "payload.compose.id",
      `is ${images.compose.id}, composeinfo.json says ${info.compose.id}: they belong to two composes`,
    );
  }
  const release = info.release ?? info.product;
  if (!release) throw invalid(COMPOSEINFO, "payload.release", "is missing");
  const { artifacts, unusable } = readImages(images.images, location);
  return {
    id: info.compose.id,
    parsedId: inFile(COMPOSEINFO, "payload.compose.id", () => parseComposeId(info.compose.id)),
    type: info.compose.type,
    date: info.compose.date,
    respin: info.compose.respin,
    ...(info.compose.label ? { label: readLabel(info.compose.label) } : {}),
    final: info.compose.final,
    release: { name: release.name, short: release.short, version: release.version, type: release.type },
    ...(files.status === undefined ? {} : { status: readStatus(files.status) }),
    location,
    artifacts,
    unusable,
  };
}

// ---- the schemas: what is used is checked, what is not is let through ----

const shortText = z.string().max(200);
const filledText = shortText.min(1);
const date = z.string().refine(isDate, "is not a date written YYYYMMDD");
const respin = z.int().min(0).max(999_999);
const composeType = z.enum(["test", "ci", "nightly", "production", "development"] satisfies ComposeType[]);

const releasePayload = z.object({
  name: filledText,
  short: filledText,
  version: filledText,
  type: shortText.default("ga"),
});

const composeinfoPayload = z.object({
  compose: z.object({
    id: filledText,
    type: composeType,
    date,
    respin,
    label: shortText.nullish(),
    final: z.boolean().default(false),
  }),
  release: releasePayload.optional(),
  product: releasePayload.optional(),
});

const imageBytes = z.int().min(1).max(METADATA_LIMITS.imageBytes);

const image = z.object({
  arch: filledText.optional(),
  type: filledText,
  format: filledText,
  subvariant: shortText.default(""),
  path: z.string().optional(),
  size: imageBytes.optional(),
  checksums: z.record(z.string(), z.string().max(256)).optional(),
  location: z
    .object({ url: z.string().max(2048), size: imageBytes, checksum: z.string().max(256), local_path: z.string() })
    .optional(),
});
type ImageEntry = z.output<typeof image>;

const imagesPayload = z.object({
  compose: z.object({ id: filledText }),
  images: z.record(z.string(), z.record(z.string(), z.array(image))),
});

function readFile<T>(file: File, text: string, payload: z.ZodType<T>): T {
  const json = parseBoundedJson(text, file);
  const header = check(file, z.object({ header: headerSchema }), json).header;
  if (!VERSIONS[file].includes(header.version)) {
    throw invalid(
      file,
      "header.version",
      `is ${JSON.stringify(header.version)}; known are ${VERSIONS[file].join(", ")}`,
      "A newer Slipway may know this version. Until then the compose cannot be read.",
    );
  }
  // Files of version 1.0 and older do not say what they are.
  const typed = header.version !== "1.0" && header.version !== "0.3";
  if ((typed || header.type !== undefined) && header.type !== HEADER_TYPES[file]) {
    throw invalid(file, "header.type", `is ${JSON.stringify(header.type ?? null)}, not "${HEADER_TYPES[file]}"`);
  }
  return check(file, z.object({ payload }), json).payload;
}

const headerSchema = z.object({ version: z.string().max(20), type: z.string().max(100).optional() });

function check<T>(file: File, schema: z.ZodType<T>, json: unknown): T {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw invalid(file, fieldName(issue.path), `is wrong: ${issue.message}`);
}

// ---- images ----

function readImages(
  byVariant: Readonly<Record<string, Readonly<Record<string, readonly ImageEntry[]>>>>,
  location: string,
): { artifacts: Artifact[]; unusable: SkippedArtifact[] } {
  const artifacts = new Map<string, Artifact>();
  const unusable = new Map<string, string>();
  let count = 0;
  for (const [variant, byArch] of Object.entries(byVariant)) {
    for (const [arch, entries] of Object.entries(byArch)) {
      for (const [index, entry] of entries.entries()) {
        const field = fieldName(["payload", "images", variant, arch, index]);
        if (++count > METADATA_LIMITS.images) {
          throw invalid(IMAGES, "payload.images", `describes more than ${METADATA_LIMITS.images} images`);
        }
        const read = readImage(entry, { variant, arch, field, location });
        if ("reason" in read) {
          unusable.set(read.artifact, read.reason);
          continue;
        }
        // A file that belongs to several variants is listed under each; the first one listed keeps it.
        const other = artifacts.get(read.path);
        if (other && (other.sha256 !== read.sha256 || other.bytes !== read.bytes)) {
          throw invalid(IMAGES, `${field}.path`, `is listed twice with different bytes: ${read.path}`);
        }
        if (!other) artifacts.set(read.path, read);
      }
    }
  }
  return {
    artifacts: [...artifacts.values()].sort((a, b) => byText(a.path, b.path)),
    unusable: [...unusable]
      .map(([artifact, reason]) => ({ artifact, reason }))
      .sort((a, b) => byText(a.artifact, b.artifact)),
  };
}

interface Place {
  readonly variant: string;
  readonly arch: string;
  readonly field: string;
  readonly location: string;
}

function readImage(entry: ImageEntry, place: Place): Artifact | SkippedArtifact {
  const { path, bytes, checksums } = fileOf(entry, place);
  const field = entry.location ? `${place.field}.location.local_path` : `${place.field}.path`;
  const unsafe = whyUnsafePath(path);
  if (unsafe) {
    throw invalid(IMAGES, field, `${unsafe}: ${JSON.stringify(path.slice(0, 200))}`, "Do not release this compose.");
  }
  const sha256 = checksums.sha256?.toLowerCase();
  if (sha256 === undefined) {
    return { artifact: path, reason: "its metadata has no SHA-256, so its bytes could not be checked" };
  }
  if (!/^[0-9a-f]{64}$/.test(sha256)) throw invalid(IMAGES, `${place.field}.checksums.sha256`, "is not 64 hex digits");
  const url = urlOf(entry, path, place);
  if (url === undefined) {
    return { artifact: path, reason: "its bytes are kept outside the compose, in a place that cannot be read" };
  }
  return {
    path,
    url,
    bytes,
    sha256,
    arch: entry.arch ?? place.arch,
    type: entry.type,
    format: entry.format,
    subvariant: entry.subvariant,
    variant: place.variant,
  };
}

/** Path, size and checksums from where each version of the format keeps them. */
function fileOf(
  entry: ImageEntry,
  place: Place,
): { path: string; bytes: number; checksums: Readonly<Record<string, string>> } {
  if (entry.location) {
    const [algorithm = "", digest = ""] = entry.location.checksum.split(":", 2);
    return { path: entry.location.local_path, bytes: entry.location.size, checksums: { [algorithm]: digest } };
  }
  if (entry.path === undefined) throw invalid(IMAGES, `${place.field}.path`, "is missing");
  if (entry.size === undefined) throw invalid(IMAGES, `${place.field}.size`, "is missing");
  return { path: entry.path, bytes: entry.size, checksums: entry.checksums ?? {} };
}

/**
 * Since 2.0 a file may lie elsewhere: `location.url` is relative to the compose, an https URL, or a reference to a
 * registry (`oci://`). A compose never points into the local file system nor from https down to http.
 */
function urlOf(entry: ImageEntry, path: string, place: Place): string | undefined {
  const given = entry.location?.url;
  if (given === undefined) return artifactUrl(place.location, path);
  if (given.startsWith("https://") || (given.startsWith("http://") && place.location.startsWith("http://"))) {
    return inFile(IMAGES, `${place.field}.location.url`, () => checkLocation(given));
  }
  if (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(given)) return undefined;
  const unsafe = whyUnsafePath(given);
  if (unsafe) throw invalid(IMAGES, `${place.field}.location.url`, `${unsafe}: ${JSON.stringify(given.slice(0, 200))}`);
  return artifactUrl(place.location, given);
}

// ---- small parts ----

function readLabel(text: string): Label {
  return inFile(COMPOSEINFO, "payload.compose.label", () => parseLabel(text));
}

/** One word; a file that holds more than a word is not a STATUS. */
function readStatus(text: string): ComposeStatus {
  const status = text.trim();
  if (/^[A-Z_]{1,40}$/.test(status)) return status;
  throw new SlipwayError("invalid", `STATUS does not hold a status: ${JSON.stringify(status.slice(0, 60))}`, {
    subject: "STATUS",
    next: "It holds one word such as FINISHED. Check that the location is a compose/ directory.",
  });
}

/** Gives an error of a parser that knows no file the file and field it was for. */
function inFile<T>(file: File, field: string, parse: () => T): T {
  try {
    return parse();
  } catch (cause) {
    if (!(cause instanceof SlipwayError)) throw cause;
    throw invalid(file, field, `is wrong: ${cause.message}`, cause.next);
  }
}

function invalid(file: File, field: string, why: string, next?: string): SlipwayError {
  return new SlipwayError("invalid", `${file}: ${field} ${why}`, {
    subject: `${file}: ${field}`,
    next: next ?? "The compose's metadata is broken; tell whoever made the compose, and release another.",
  });
}

const CONTROL = /\p{Cc}/gu;

/** `payload.images.Cloud.x86_64[3].size`; parts a stranger chose are cut short. */
function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part).slice(0, 60).replace(CONTROL, "?")}`))
    .join("")
    .replace(/^\./, "");
}
