/**
 * Versions of a definition: looked at, made, changed and removed, each change followed until the gallery has settled.
 *
 * The resource itself is the memory: whoever comes after a crash finds it Creating, Updating or Deleting and follows it
 * from there. Resource Manager's own operation is asked as well while this process knows it, for it alone says why
 * something failed.
 */
import type {
  GalleryImageVersion,
  GalleryImageVersionPublishingProfile,
  RegionalReplicationStatus,
} from "@azure/arm-compute";
import type { CallContext } from "../../lib/call.ts";
import { codeOf, isTransient, type SlipwayError } from "../../lib/errors.ts";
import type { CloudImage, ImageKey, LifecycleState, Region } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { translate } from "./errors.ts";
import { cloudImage, imageId, regionName, TAG, tag, type VersionRef } from "./names.ts";
import type { AzureSession } from "./session.ts";

export type Version = GalleryImageVersion;

/** An accepted change of which this process can ask how it does. A failure is an answer; what throws is the asking. */
export interface Operation {
  poll(call: CallContext): Promise<"running" | "done" | SlipwayError>;
}

/** The version with its replication status; undefined when there is none. */
export async function lookAtVersion(
  session: AzureSession,
  ref: VersionRef,
  call: CallContext,
): Promise<Version | undefined> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  try {
    return await session.ask(askAbout(session, "GalleryImageVersions.Get", ref), call, (abortSignal) =>
      compute.galleryImageVersions.get(resourceGroup, gallery, ref.definition, ref.version, {
        abortSignal,
        expand: "ReplicationStatus",
      }),
    );
  } catch (error) {
    if (codeOf(error) === "not-found" && !isMissingGallery(error)) return undefined;
    throw error;
  }
}

/** A version that is not there is an answer; a gallery or a group that is not there is a mistake to be told. */
function isMissingGallery(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const name = error.cause instanceof Error ? error.cause.name : "";
  return (
    /^(ResourceGroupNotFound|SubscriptionNotFound)$/.test(name) ||
    (name === "ParentResourceNotFound" && !/\/images\//i.test(error.message))
  );
}

function askAbout(session: AzureSession, operation: string, ref: VersionRef) {
  return { operation, subject: imageId(session.options, ref), region: regionName(session.options.location) };
}

// ---- Whose it is, and how it does ----------------------------------------------------------------------------------

export function isOurs(session: AzureSession, version: Version): boolean {
  return tag(version.tags, TAG.owner) === session.owner;
}

export function hasKey(session: AzureSession, version: Version, key: ImageKey): boolean {
  return isOurs(session, version) && tag(version.tags, TAG.key) === key;
}

/** Why this version is not the one with the key; for people. */
export function foreignReason(session: AzureSession, version: Version): string {
  if (isOurs(session, version))
    return `it was made from another disk (key ${tag(version.tags, TAG.key) ?? "unreadable"})`;
  const owner = tag(version.tags, TAG.owner) ?? tag(version.tags, "owner");
  return owner ? `it belongs to ${owner}` : "it was not made by Slipway";
}

/** Others' versions, and those somebody protected by hand, are never changed. @throws CloudError `conflict` */
export function refuseProtected(session: AzureSession, ref: VersionRef, version: Version, verb: string): void {
  const reason = !isOurs(session, version)
    ? foreignReason(session, version)
    : tag(version.tags, "delete")?.toLowerCase() === "never" && verb === "remove"
      ? "it is tagged delete=never"
      : undefined;
  if (!reason) return;
  throw new CloudError("conflict", `${ref.definition} ${ref.version} is left alone: ${reason}.`, {
    cloud: "azure",
    operation: verb,
    subject: imageId(session.options, ref),
    next: "Change its tags by hand if this is a mistake.",
  });
}

export function stateOf(version: Version): LifecycleState {
  if (version.publishingProfile?.excludeFromLatest !== true) return "active";
  return tag(version.tags, TAG.state) === "deprecated" ? "deprecated" : "candidate";
}

export type Provisioning = "settled" | "failed" | "moving" | "going";

export function provisioningOf(version: Version): Provisioning {
  switch (version.provisioningState) {
    case "Succeeded":
      return "settled";
    case "Failed":
    case "Canceled":
      return "failed";
    case "Deleting":
      return "going";
    default:
      return "moving";
  }
}

/** How one region does; undefined when the version is not meant to be there. */
export function regionState(version: Version, region: Region): RegionalReplicationStatus | undefined {
  const told = version.replicationStatus?.summary?.find((one) => regionName(one.region ?? "") === region);
  if (told) return told;
  const wanted = version.publishingProfile?.targetRegions?.some((one) => regionName(one.name) === region);
  if (!wanted) return undefined;
  return { region, state: provisioningOf(version) === "settled" ? "Completed" : "Replicating" };
}

export function isIn(version: Version, region: Region): boolean {
  return regionState(version, region)?.state === "Completed";
}

export function imageOf(session: AzureSession, ref: VersionRef, version: Version, region: Region): CloudImage {
  return cloudImage(session.options, ref, version.tags, stateOf(version), region);
}

// ---- Changes -------------------------------------------------------------------------------------------------------

/** Puts a version that is not there. Returns when Azure has accepted it. */
export async function putVersion(
  session: AzureSession,
  ref: VersionRef,
  body: GalleryImageVersion,
  call: CallContext,
): Promise<Operation> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  return submitted(session, "GalleryImageVersions.CreateOrUpdate", ref, call, (abortSignal) =>
    compute.galleryImageVersions.createOrUpdate(resourceGroup, gallery, ref.definition, ref.version, body, {
      abortSignal,
    }),
  );
}

/**
 * Changes a settled version. The publishing profile is sent whole, as read: whether Azure merges or replaces it, what
 * was not meant stays.
 */
export async function patchVersion(
  session: AzureSession,
  ref: VersionRef,
  version: Version,
  change: Partial<Pick<GalleryImageVersionPublishingProfile, "targetRegions" | "excludeFromLatest" | "endOfLifeDate">>,
  tags: Readonly<Record<string, string>>,
  call: CallContext,
): Promise<Operation> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  const { targetRegions, excludeFromLatest, endOfLifeDate, replicaCount } = version.publishingProfile ?? {};
  const publishingProfile: GalleryImageVersionPublishingProfile = {
    ...(targetRegions ? { targetRegions } : {}),
    ...(replicaCount === undefined ? {} : { replicaCount }),
    ...(excludeFromLatest === undefined ? {} : { excludeFromLatest }),
    ...(endOfLifeDate ? { endOfLifeDate } : {}),
    ...change,
  };
  return submitted(session, "GalleryImageVersions.Update", ref, call, (abortSignal) =>
    compute.galleryImageVersions.update(
      resourceGroup,
      gallery,
      ref.definition,
      ref.version,
      { publishingProfile, tags: { ...tags } },
      { abortSignal },
    ),
  );
}

/** Asks for deletion. Returns when Azure has accepted it. */
export async function deleteVersion(session: AzureSession, ref: VersionRef, call: CallContext): Promise<Operation> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  return submitted(session, "GalleryImageVersions.Delete", ref, call, (abortSignal) =>
    compute.galleryImageVersions.delete(resourceGroup, gallery, ref.definition, ref.version, { abortSignal }),
  );
}

/** What is used of the SDK's poller. It is a promise of the *result*, so it must never be returned or awaited itself. */
interface Poller {
  readonly isDone: boolean;
  readonly operationState: { readonly status: string; readonly error?: Error } | undefined;
  submitted(): Promise<void>;
  poll(options: { abortSignal: AbortSignal }): Promise<unknown>;
}

async function submitted(
  session: AzureSession,
  operation: string,
  ref: VersionRef,
  call: CallContext,
  start: (abortSignal: AbortSignal) => Poller,
): Promise<Operation> {
  const about = askAbout(session, operation, ref);
  const held: { poller?: Poller } = {};
  await session.ask(about, call, async (signal) => {
    held.poller = start(signal);
    await held.poller.submitted();
  });
  const poller = held.poller!;
  return {
    async poll(again) {
      if (!poller.isDone) {
        try {
          await session.ask({ ...about, operation: `${operation} (its outcome)` }, again, (abortSignal) =>
            poller.poll({ abortSignal }),
          );
        } catch (error) {
          if (!poller.isDone) throw error;
        }
      }
      if (!poller.isDone) return "running";
      const { status, error } = poller.operationState ?? { status: "succeeded" };
      return status === "succeeded" ? "done" : translate(error ?? new Error(`the operation was ${status}`), about);
    },
  };
}

// ---- Following -----------------------------------------------------------------------------------------------------

/** Looks that may fail one after the other before the step hears of it: a long wait does not end for one lost answer. */
const BLIND_LOOKS = 3;

/**
 * Looks at a version again and again, ever more rarely, until the reader has seen enough. Yields undefined while there
 * is none: right after an accepted change Azure may not show it yet.
 * @throws CloudError `unavailable` after the pace's deadline; the next attempt follows on
 */
export async function* follow(
  session: AzureSession,
  ref: VersionRef,
  call: CallContext,
): AsyncGenerator<Version | undefined> {
  const { pollFirst, pollMost, pollDeadline } = session.pace;
  const until = Date.now() + pollDeadline;
  let failures = 0;
  for (let pause = pollFirst; ; pause = Math.min(pause * 2, pollMost)) {
    try {
      const version = await lookAtVersion(session, ref, call);
      failures = 0;
      yield version;
    } catch (error) {
      if (!isTransient(error) || ++failures > BLIND_LOOKS) throw error;
    }
    if (Date.now() + pause > until) {
      throw new CloudError("unavailable", `${ref.definition} ${ref.version} did not settle in ${pollDeadline} ms.`, {
        ...askAbout(session, "GalleryImageVersions.Get", ref),
        cloud: "azure",
        next: "Nothing is lost: the step follows the same operation when it is repeated. The portal shows its progress.",
      });
    }
    await sleep(pause, session, ref, call);
  }
}

/**
 * Waits until the gallery has ended what it does with a version.
 * @returns the version, or undefined when it is gone
 * @throws CloudError what the operation failed with, when that is known
 */
export async function settled(
  session: AzureSession,
  ref: VersionRef,
  operation: Operation | undefined,
  call: CallContext,
): Promise<Version | undefined> {
  for await (const version of follow(session, ref, call)) {
    const how = operation ? await outcome(operation, call) : "done";
    if (how === "running") continue;
    if (how !== "done") throw how;
    const state = version ? provisioningOf(version) : "gone";
    if (state === "settled" || state === "failed" || state === "gone") return version;
  }
  return undefined;
}

/** One look at the operation; a look that gets no answer says nothing. */
export async function outcome(operation: Operation, call: CallContext): Promise<"running" | "done" | SlipwayError> {
  try {
    return await operation.poll(call);
  } catch (error) {
    if (isTransient(error)) return "running";
    throw error;
  }
}

async function sleep(ms: number, session: AzureSession, ref: VersionRef, call: CallContext): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(
        new CloudError("cancelled", "The wait for the gallery was stopped; Azure goes on with what it does.", {
          ...askAbout(session, "GalleryImageVersions.Get", ref),
          cloud: "azure",
        }),
      );
    };
    const timer = setTimeout(() => {
      call.signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (call.signal.aborted) stop();
    else call.signal.addEventListener("abort", stop, { once: true });
  });
}
