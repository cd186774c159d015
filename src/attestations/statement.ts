/**
 * What is attested, as in-toto statements: that these ids in these clouds were made of that artifact of that compose.
 *
 * A statement has no time and no state in it: the same facts are the same bytes, whoever writes them down and however
 * often. Fields are added, never renamed; docs/attestation.md is the reference for readers.
 * @see https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md
 */
import { z } from "zod";
import { SlipwayError } from "../lib/errors.ts";

export const STATEMENT_TYPE = "https://in-toto.io/Statement/v1";
/** A URI by which readers know the predicate; there is nothing to fetch behind it. */
export const IMAGE_RELEASE = "urn:slipway:image-release:v1";
export const CONTAINER_RELEASE = "urn:slipway:container-release:v1";

const word = z.string().min(1).max(500);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "is not a SHA-256 in lower-case hex");

const compose = z.object({ id: word, system: word, kind: word, label: word.optional() });

const imagePredicate = z.object({
  compose,
  artifact: z.object({ path: z.string().min(1).max(4000), sha256 }),
  /** Absent if it was not known any more when this was written. */
  disk: z
    .object({
      bytes: z.int().min(1),
      blockBytes: z.int().min(512),
      /** SHA-256 over the SHA-256 of every block in order, each 32 bytes; a last block may be shorter. */
      blocksSha256: sha256,
    })
    .optional(),
  images: z
    .array(
      z.object({
        cloud: word,
        target: word,
        region: word,
        id: z.string().min(1).max(2000),
        name: word,
        arch: word,
        key: word,
        definition: word.optional(),
        version: word.optional(),
      }),
    )
    .min(1)
    .max(10_000),
});

const containerPredicate = z.object({
  compose,
  registry: word,
  repository: word,
  /** The version's own tags; floating ones move on and are not attested. */
  tags: z.array(word).max(100),
  architectures: z.array(word).max(100),
});

const subject = z
  .array(z.object({ name: z.string().min(1).max(4000), digest: z.object({ sha256 }) }))
  .min(1)
  .max(100);

const statementSchema = z.discriminatedUnion("predicateType", [
  z.object({
    _type: z.literal(STATEMENT_TYPE),
    subject,
    predicateType: z.literal(IMAGE_RELEASE),
    predicate: imagePredicate,
  }),
  z.object({
    _type: z.literal(STATEMENT_TYPE),
    subject,
    predicateType: z.literal(CONTAINER_RELEASE),
    predicate: containerPredicate,
  }),
]);

export type Statement = z.output<typeof statementSchema>;
export type ImageRelease = z.output<typeof imagePredicate>;
export type ContainerRelease = z.output<typeof containerPredicate>;

/** Images in the order of cloud, target and region. */
export function imageStatement(release: ImageRelease): Statement {
  const images = [...release.images].sort(
    (a, b) => compare(a.cloud, b.cloud) || compare(a.target, b.target) || compare(a.region, b.region),
  );
  return {
    _type: STATEMENT_TYPE,
    subject: [{ name: release.artifact.path, digest: { sha256: release.artifact.sha256 } }],
    predicateType: IMAGE_RELEASE,
    predicate: { ...release, images },
  };
}

/** @param digest of the index: `sha256:` and hex */
export function containerStatement(release: ContainerRelease, digest: string): Statement {
  return {
    _type: STATEMENT_TYPE,
    subject: [
      { name: `${release.registry}/${release.repository}`, digest: { sha256: digest.slice("sha256:".length) } },
    ],
    predicateType: CONTAINER_RELEASE,
    predicate: {
      ...release,
      tags: [...release.tags].sort(compare),
      architectures: [...release.architectures].sort(compare),
    },
  };
}

/** UTF-8 JSON with sorted keys and no white space. */
export function statementBytes(statement: Statement): Buffer {
  return Buffer.from(JSON.stringify(sorted(statement)), "utf8");
}

/** @throws SlipwayError `invalid` for what is no statement of ours; `unsupported` for somebody else's predicate */
export function parseStatement(payload: Uint8Array): Statement {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch (error) {
    throw new SlipwayError("invalid", "the signed payload is not JSON", { cause: error });
  }
  const type = (value as { predicateType?: unknown } | null)?.predicateType;
  if (typeof type === "string" && type !== IMAGE_RELEASE && type !== CONTAINER_RELEASE) {
    throw new SlipwayError("unsupported", `the signed statement is about something else: ${type.slice(0, 200)}`);
  }
  const parsed = statementSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new SlipwayError(
    "invalid",
    `the signed statement is not one of ours: ${issue!.path.join(".")}: ${issue!.message}`,
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, one]) => one !== undefined)
      .sort(([a], [b]) => compare(a, b))
      .map(([key, one]) => [key, sorted(one)]),
  );
}
