import type { BlockSource } from "../../images/block-source.ts";
import type { ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";

/**
 * A driver with an empty account behind it, and the levers the contract pulls. One is made for every clause.
 * A lever that cannot exist for a cloud is left out and named in `describeCloud`'s `lacks`: no clause goes missing
 * silently.
 */
export interface CloudHarness {
  /** The driver as its folder exports it, with good credentials. The contract wraps it as production does. */
  readonly cloud: Cloud;
  /** An image this cloud takes, always the same one: a disk of 8 MiB, and at least two regions where images have regions. */
  spec(overrides?: Partial<ImageSpec>): ImageSpec;
  /** A source for that spec; default `fakeDisk(spec.diskBytes, nonZero, seed)`. For formats with a footer. */
  disk?(spec: ImageSpec, nonZero: readonly number[], seed: string): BlockSource;
  /** The same account seen by another process: nothing is shared in memory. Closed by the harness. */
  reopen(): Promise<Cloud>;
  /** Blocks of BLOCK_BYTES the cloud took so far, repeated ones counted again; a request that carried eight is eight. */
  sends(): number;
  /** Ids of everything that exists in the account, seen past the driver. */
  inventory?(): Promise<readonly string[]>;
  /** Somebody else makes an image of the spec's name in a region. Its id. */
  plantForeign?(spec: ImageSpec, region: string): Promise<string>;
  /** Vendor calls that change something, by the verb that makes them. */
  readonly losable?: Readonly<Partial<Record<MutatingVerb, readonly string[]>>>;
  /** The next such vendor call is carried out, and its answer never arrives. Other calls pass. */
  loseAnswer?(operation: string): void;
  /** The account seen with credentials the cloud does not know. */
  withWrongCredentials?(): Promise<Cloud>;
  /** The account seen with credentials that may do everything but register. `permission` in the vendor's words. */
  withoutRegister?(): Promise<{ cloud: Cloud; permission: string }>;
  close(): Promise<void>;
}

export type MutatingVerb = "upload" | "register" | "replicate" | "offer" | "withdraw" | "setState" | "remove";

export type Lever = "inventory" | "plantForeign" | "loseAnswer" | "withWrongCredentials" | "withoutRegister";
