/**
 * Signed statements about what was released, and the digests of disks that they, and later comparisons with the clouds,
 * rest on. Every write is safe to repeat.
 */
import { createHash } from "node:crypto";
import { type Kysely, sql, type Transaction } from "kysely";
import { SlipwayError } from "../lib/errors.ts";
import type { CatalogTables } from "./schema.ts";

type Db<T = CatalogTables> = Kysely<T> | Transaction<T>;

export interface Attestation {
  readonly id: string;
  readonly subject: { readonly kind: "image" | "container"; readonly id: string };
  /** Of the statement's bytes, lower-case hex. */
  readonly statementSha256: string;
  readonly predicateType: string;
  /** Of the key that signed it. */
  readonly keyId: string;
  /** The signed envelope as JSON text. */
  readonly envelope: string;
  readonly createdAt: string;
}

/** The same statement by the same key is one attestation. */
export function attestationId(subjectId: string, statementSha256: string, keyId: string): string {
  return createHash("sha256")
    .update(JSON.stringify(["attestation", subjectId, statementSha256, keyId]))
    .digest("hex");
}

/**
 * Records a statement, or that one on record says what is again. The first signature is kept: ECDSA makes another one
 * each time, and what was sent out and attached to containers shall stay the same bytes.
 * @returns what is on record now, and whether it was new
 */
export async function recordAttestation(
  db: Db,
  attestation: Omit<Attestation, "id" | "createdAt">,
  runId: string,
): Promise<{ readonly attestation: Attestation; readonly isNew: boolean }> {
  const { subject, statementSha256, keyId } = attestation;
  const id = attestationId(subject.id, statementSha256, keyId);
  const written = await db
    .insertInto("attestations")
    .values({
      id,
      subject_kind: subject.kind,
      subject_id: subject.id,
      statement_sha256: statementSha256,
      predicate_type: attestation.predicateType,
      key_id: keyId,
      envelope: attestation.envelope,
      run_id: runId,
    })
    .onConflict((conflict) => conflict.column("id").doUpdateSet({ confirmed_at: sql<Date>`clock_timestamp()` }))
    .returningAll()
    .executeTakeFirstOrThrow();
  // A repeat of the step that wrote it, after a crash, is not told from the first time: its messages have the same id.
  return { attestation: attestationOf(written), isNew: written.run_id === runId };
}

/** The newest statement about each subject, by the subject's id. */
export async function attestationsOf(db: Db, subjectIds: readonly string[]): Promise<ReadonlyMap<string, Attestation>> {
  if (subjectIds.length === 0) return new Map();
  const rows = await db
    .selectFrom("attestations")
    .distinctOn("subject_id")
    .selectAll()
    .where("subject_id", "in", [...subjectIds])
    .orderBy("subject_id")
    .orderBy("confirmed_at", "desc")
    .orderBy("id")
    .execute();
  return new Map(rows.map((row) => [row.subject_id, attestationOf(row)]));
}

function attestationOf(row: {
  id: string;
  subject_kind: "image" | "container";
  subject_id: string;
  statement_sha256: string;
  predicate_type: string;
  key_id: string;
  envelope: string;
  created_at: Date;
}): Attestation {
  return {
    id: row.id,
    subject: { kind: row.subject_kind, id: row.subject_id },
    statementSha256: row.statement_sha256,
    predicateType: row.predicate_type,
    keyId: row.key_id,
    envelope: row.envelope,
    createdAt: row.created_at.toISOString(),
  };
}

/** The digest of every block of a disk. */
export interface DiskDigests {
  readonly diskBytes: number;
  readonly blockBytes: number;
  /** SHA-256 over `digests`, lower-case hex. */
  readonly blocksSha256: string;
  /** 32 bytes a block, in order; a last block may be shorter than the others. */
  readonly digests: Uint8Array;
}

const DIGEST_BYTES = 32;

/**
 * Writes down what an artifact's disk is made of. The bytes of an artifact never change, so neither does this.
 * @throws SlipwayError `corrupt` if another disk is on record for the same artifact: one of two decodings was wrong
 */
export async function noteDiskDigests(db: Db, artifactSha256: string, disk: DiskDigests): Promise<void> {
  await db
    .insertInto("disk_digests")
    .values({
      artifact_sha256: artifactSha256,
      disk_bytes: disk.diskBytes,
      block_bytes: disk.blockBytes,
      blocks_sha256: disk.blocksSha256,
      digests: Buffer.from(disk.digests),
    })
    .onConflict((conflict) => conflict.column("artifact_sha256").doNothing())
    .execute();
  const kept = await db
    .selectFrom("disk_digests")
    .select(["disk_bytes", "blocks_sha256"])
    .where("artifact_sha256", "=", artifactSha256)
    .executeTakeFirstOrThrow();
  if (Number(kept.disk_bytes) === disk.diskBytes && kept.blocks_sha256 === disk.blocksSha256) return;
  throw new SlipwayError("corrupt", "the same artifact gave another disk than it gave before", {
    subject: `sha256:${artifactSha256}`,
    next: "Nothing was made of it. Check this host's memory and disk, then retry the run.",
  });
}

/** Undefined for what was released before digests were kept. */
export async function diskDigestsOf(db: Db, artifactSha256: string): Promise<DiskDigests | undefined> {
  const row = await db
    .selectFrom("disk_digests")
    .selectAll()
    .where("artifact_sha256", "=", artifactSha256)
    .executeTakeFirst();
  if (row === undefined) return undefined;
  return {
    diskBytes: Number(row.disk_bytes),
    blockBytes: row.block_bytes,
    blocksSha256: row.blocks_sha256,
    digests: row.digests,
  };
}

export function digestOfBlock(disk: DiskDigests, index: number): Uint8Array {
  return disk.digests.subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES);
}
