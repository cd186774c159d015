/**
 * The part of a scenario that no proxy can bring about: how long things take inside a simulated cloud, how much it
 * allows, and how its accounts are set. Times in milliseconds. What is not said stays as it is.
 */
import { z } from "zod";

const ms = z.number().min(0).max(86_400_000).optional();
const count = z.int().min(0).max(1_000_000).optional();

const awsRegion = z.strictObject({
  opt_in: z.enum(["opt-in-not-required", "opted-in", "not-opted-in"]).optional(),
  ebs_encryption_by_default: z.boolean().optional(),
  image_block_public_access: z.enum(["unblocked", "block-new-sharing"]).optional(),
  snapshot_block_public_access: z.enum(["unblocked", "block-new-sharing", "block-all-sharing"]).optional(),
  /** AWS grants 5 to a new account. */
  public_images: count,
});

export const world = z.strictObject({
  aws: z
    .strictObject({
      /** Until describe calls and tags find what is new. */
      visible_after_ms: ms,
      /** Until EBS direct takes blocks of a new snapshot; real ones took up to two minutes. */
      blocks_writable_after_ms: ms,
      complete_ms: ms,
      copy_ms: ms,
      copies_per_region: count,
      pending_snapshots: count,
      /** From ImportSnapshot to its end. */
      import_ms: ms,
      /** Imports under way in one region. */
      imports_per_region: count,
      /** Until Parameter Store has found an image's id to be good. */
      parameter_check_ms: ms,
      /** Settings of the publishing account; `"*"` is every region, a region's own come after. */
      regions: z.record(z.string(), awsRegion).optional(),
    })
    .optional(),
  azure: z
    .strictObject({
      visible_after_ms: ms,
      /** Until a version has reached its regions. */
      replication_ms: ms,
      /** While a version is made its blob is copied, and has to stay. */
      import_ms: ms,
      operation_ms: ms,
      /** How many a subscription may have. */
      definitions: count,
      versions: count,
    })
    .optional(),
  gcp: z.strictObject({ images: count }).optional(),
});

export type World = z.output<typeof world>;
