/**
 * AWS: EBS direct → snapshot → read back → AMI → copies → offered. No bucket, no import role, no helper machine; where
 * an account may not use EBS direct, a bucket and an import stand in for it (`import/`).
 *
 * A disk is put block by block into a snapshot (`upload.ts`, `send-blocks.ts`), an AMI is registered on it
 * (`register.ts`), copied to the other regions (`replicate.ts`; or written there as well, `upload-each.ts`) and shared (`offer.ts`, `states.ts`). Everything is found
 * again by tags (`tags.ts`). Refuses to know composes, catalogs and who decides. Start reading at `openAws`.
 */

import type { BlockSource } from "../../images/block-source.ts";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { GiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec, Region } from "../../model.ts";
import type { Cloud, CloudResource, Found, JournalOf, Notice, UploadContext } from "../cloud.ts";
import { isReady, openAccount, stagedOf } from "./account.ts";
import { check } from "./check.ts";
import { checkImport } from "./check-import.ts";
import { type ConnectionOptions, connect } from "./connection.ts";
import { type ImportOptions, openImportBucket } from "./import/bucket.ts";
import { listWaiting, removeWaiting } from "./import/inventory.ts";
import { MOST_DISK_BYTES } from "./import/parts.ts";
import { uploadByImport } from "./import/upload.ts";
import { notify } from "./notify.ts";
import { offer, strangers, withdraw } from "./offer.ts";
import { quotas } from "./quotas.ts";
import { diskBehind, readBack } from "./read-back.ts";
import { architectureOf, foreignReason, isMine, register } from "./register.ts";
import { remove } from "./remove.ts";
import { replicate } from "./replicate.ts";
import { retag } from "./retag.ts";
import { setState } from "./states.ts";
import { DISK_KEY, fromAws, KEY } from "./tags.ts";
import { upload } from "./upload.ts";
import { uploadEach } from "./upload-each.ts";
import { DEFAULT_PACE, type Pace } from "./waiting.ts";
import { witness } from "./witness.ts";

export type { AwsCredentials } from "./signature.ts";

export interface AwsOptions extends Omit<ConnectionOptions, "connections" | "pace"> {
  /** Twelve digits: `check` refuses credentials of another. Absent = any. */
  readonly account?: string | undefined;
  readonly homeRegion: Region;
  /** Given if all regions of the account are wanted: those that are not. */
  readonly allExcept?: readonly Region[] | undefined;
  /** What `check` holds the account's settings against. Default: public. */
  readonly offer?: "public" | "accounts" | "nobody" | undefined;
  /** Whether who may start an image may copy its snapshot too. Default: yes. */
  readonly sharesSnapshots?: boolean | undefined;
  /** Default: write. `skip` is right only where the account never encrypts. */
  readonly zeroBlocks?: "write" | "skip" | undefined;
  /** Most puts under way at a time; each is 512 KiB. Default 128: 1000 puts/s, AWS's limit, at 128 ms each. */
  readonly inFlight?: number | undefined;
  /** Disks go through a bucket and are imported from there, instead of through EBS direct. Excludes `uploadEach`. */
  readonly import?: ImportOptions | undefined;
  /** How long a region may keep others waiting in `uploadEach`. Milliseconds. */
  readonly patienceMs?: number | undefined;
  readonly pace?: Partial<Pace> | undefined;
  /** Credentials of an account that has nothing to do with this one: what it sees, everybody sees. */
  readonly witness?: ConnectionOptions["credentials"] | undefined;
  /** ARN of the SNS topic that is told what has changed. */
  readonly topic?: string | undefined;
}

const IN_FLIGHT = 128;

export function openAws(options: AwsOptions): Cloud {
  const inFlight = options.inFlight ?? IN_FLIGHT;
  const pace: Pace = { ...DEFAULT_PACE, ...options.pace };
  const connection = connect({ ...options, connections: inFlight, pace });
  const outsider = options.witness && connect({ ...options, credentials: options.witness, connections: 1, pace });
  const account = openAccount(connection, pace, options.sharesSnapshots ?? true);
  const uploading = { zeroBlocks: options.zeroBlocks ?? "write", inFlight, patienceMs: options.patienceMs } as const;
  const checking = {
    account: options.account,
    homeRegion: options.homeRegion,
    offer: options.offer ?? "public",
    topic: options.topic,
    allExcept: options.allExcept,
  } as const;
  const { topic } = options;
  const importing = options.import && {
    bucket: openImportBucket(connection, options.homeRegion, options.import),
    role: options.import.role ?? "vmimport",
  };

  return {
    name: "aws",
    // 16 TiB: what the root volume of an instance may have. Sectors of 512 bytes; the volume is rounded up to whole GiB.
    accepts: { format: "raw", sizeMultiple: 512, maxBytes: importing ? MOST_DISK_BYTES : 16 * 1024 * GiB },
    can: {
      regionalCopies: true,
      states: ["candidate", "active", "deprecated", "obsolete"],
      // S3 makes parts of zeros itself.
      sparse: importing !== undefined || uploading.zeroBlocks === "skip",
      readBack: true,
    },

    async check(specs, call) {
      const found = check(account, { ...checking, imports: importing !== undefined }, specs, call);
      const [common, more] = await Promise.all([found, importing ? checkImport(account, importing, call) : []]);
      return [...common, ...more];
    },

    quotas: (specs, call) => quotas(account, specs, call),

    async regions(call) {
      const enabled = await account.enabledRegions(options.homeRegion, call);
      return enabled.filter((region) => !options.allExcept?.includes(region));
    },

    async find(spec, region, call): Promise<Found> {
      const [named, snapshots] = await Promise.all([
        account.imagesNamed(spec.name, region, call),
        account.snapshotsOf(spec.diskKey, region, call),
      ]);
      const ids = snapshots.map((snapshot) => snapshot.SnapshotId);
      const mine = named.find((image) => isMine(image, spec, ids) && isReady(image));
      const foreign = named.find((image) => !isMine(image, spec, ids) && isReady(image));
      const staged = snapshots.find((snapshot) => snapshot.State === "completed");
      return {
        ...(staged ? { staged: stagedOf(staged, spec, region) } : {}),
        ...(mine ? { image: await account.toCloudImage(mine, spec, region, call) } : {}),
        ...(foreign && !mine ? { foreign: { id: foreign.ImageId ?? "", reason: foreignReason(foreign) } } : {}),
      };
    },

    async *list(regions, call) {
      let answered = 0;
      let failure: unknown;
      for (const region of regions) {
        try {
          for await (const image of account.ownImages(region, call)) {
            const tags = fromAws(image.Tags);
            yield resource(
              "image",
              region,
              image.ImageId,
              tags,
              KEY,
              image.State !== "pending",
              image.Name,
              image.CreationDate,
            );
          }
          for await (const { SnapshotId, State, StartTime, Tags } of account.ownSnapshots(region, call)) {
            const tags = fromAws(Tags);
            yield resource(
              "staged-disk",
              region,
              SnapshotId,
              tags,
              DISK_KEY,
              State === "completed",
              tags.Name,
              StartTime?.toISOString(),
            );
          }
          answered++;
        } catch (error) {
          if (call.signal.aborted || !(error instanceof SlipwayError)) throw error;
          failure ??= error;
          call.log.warn("region does not answer, its images are not listed", { cloud: "aws", region, error });
        }
      }
      if (importing && regions.includes(options.homeRegion)) yield* listWaiting(account, importing.bucket, call);
      // One region that is down shall not hide the others; none at all is a failure.
      if (answered === 0 && failure) throw failure;
    },

    async upload(disk, spec, journal, call) {
      architectureOf(spec.arch);
      if (importing) return uploadByImport(account, disk, spec, journal, importing, call);
      return upload(account, disk, spec, journal, uploading, call);
    },
    ...(!importing && {
      async *uploadEach(
        disk: BlockSource,
        spec: ImageSpec,
        regions: readonly Region[],
        journalOf: JournalOf,
        call: UploadContext,
      ) {
        architectureOf(spec.arch);
        yield* uploadEach(account, disk, spec, regions, journalOf, uploading, call);
      },
    }),
    readBack: (staged, blocks, call) => readBack(account, staged, blocks, call),
    diskBehind: (image, spec, call) => diskBehind(account, image, spec, call),
    register: (staged, spec, call) => register(account, staged, spec, call),
    replicate: (image, spec, regions, call) => replicate(account, image, spec, regions, call),
    offer: (images, spec, audience, call) => offer(account, images, spec, audience, call),
    strangers: (image, audience, call) => strangers(account, image, audience, call),
    withdraw: (images, _spec, call) => withdraw(account, images, call),
    ...(topic && { notify: (notice: Notice, call: CallContext) => notify(account, topic, notice, call) }),
    setState: (image, state, call) => setState(account, image, state, call),
    retag: (image, spec, call) => retag(account, image, spec, call),
    async remove(what, call) {
      if (importing && (await removeWaiting(account, importing.bucket, what, call))) return;
      await remove(account, what, call);
    },
    // The snapshot is what the image boots from: only an import leaves something over on the way.
    async tidy(staged, _spec, call) {
      await importing?.bucket.remove(staged.key, call);
    },
    ...(outsider && { witness: (images: readonly CloudImage[], call: CallContext) => witness(outsider, images, call) }),
    async close() {
      await Promise.all([connection.close(), outsider?.close()]);
    },
  };
}

function resource(
  kind: CloudResource["kind"],
  region: Region,
  id: string | undefined,
  tags: Readonly<Record<string, string>>,
  keyTag: string,
  complete: boolean,
  name: string | undefined,
  createdAt: string | undefined,
): CloudResource {
  const key = tags[keyTag];
  return {
    kind,
    region,
    id: id ?? "",
    name: name ?? "",
    complete,
    tags,
    ...(key ? { key } : {}),
    ...(createdAt ? { createdAt } : {}),
  };
}
