/** Offered or not, deprecated, removed: changes of a version that move no bytes, and the end of one that moved them. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageKey, ImageSpec } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { deleteBlob, lookAtBlob } from "./blobs.ts";
import { imageId, regionName, TAG, tag, tagsOf, type VersionRef } from "./names.ts";
import type { AzureSession } from "./session.ts";
import {
  deleteVersion,
  isIn,
  patchVersion,
  provisioningOf,
  refuseProtected,
  settled,
  stateOf,
  type Version,
} from "./versions.ts";

type Reachable = "candidate" | "active" | "deprecated";

/** Looks at most so often when somebody else changes the version in between. */
const ROUNDS = 3;

/** Safe to repeat. @throws CloudError `not-found`, `conflict` for a version that is not ours */
export async function bringTo(
  session: AzureSession,
  ref: VersionRef,
  key: ImageKey,
  state: Reachable,
  call: CallContext,
): Promise<void> {
  for (let round = 1; ; round++) {
    const version = await usable(session, ref, key, state, call);
    if (stateOf(version) === state) return;
    const tags = { ...version.tags };
    for (const name of Object.keys(tags)) if (name.toLowerCase() === TAG.state) delete tags[name];
    if (state === "deprecated") tags[TAG.state] = state;
    const change = {
      excludeFromLatest: state !== "active",
      ...(state === "deprecated" && !version.publishingProfile?.endOfLifeDate ? { endOfLifeDate: unknownEnd() } : {}),
    };
    try {
      const operation = await patchVersion(session, ref, version, change, tags, call);
      const after = await settled(session, ref, operation, call);
      if (after && stateOf(after) === state) return;
      if (round === ROUNDS) throw changing(session, ref, state);
    } catch (error) {
      if (codeOf(error) !== "conflict" || round === ROUNDS) throw error;
    }
  }
}

/**
 * A deprecated version has to have an end of life. Where nobody said one, a release's ordinary life of thirteen months
 * from now: late rather than early, because clean-up removes what is past it.
 */
function unknownEnd(): Date {
  const end = new Date();
  end.setUTCMonth(end.getUTCMonth() + 13);
  return end;
}

/** The version when the gallery has settled, if it is the one with this key and users could have it. */
async function usable(
  session: AzureSession,
  ref: VersionRef,
  key: ImageKey,
  verb: string,
  call: CallContext,
): Promise<Version> {
  const version = await settled(session, ref, undefined, call);
  const about = { cloud: "azure" as const, operation: verb, subject: imageId(session.options, ref) };
  if (!version) {
    throw new CloudError("not-found", `${ref.definition} ${ref.version} is not in the gallery.`, {
      ...about,
      next: "Release it again, or import the gallery to bring the catalog up to date.",
    });
  }
  refuseProtected(session, ref, version, verb);
  if (tag(version.tags, TAG.key) !== key) {
    throw new CloudError("conflict", `${ref.definition} ${ref.version} is another image by now.`, {
      ...about,
      next: "Compare the catalog with the gallery: slipway lifecycle drift.",
    });
  }
  if (provisioningOf(version) === "failed" && !isIn(version, regionName(session.options.location))) {
    throw new CloudError("conflict", `${ref.definition} ${ref.version} is in no region; it cannot be ${verb}.`, {
      ...about,
      next: "Repeat the release: a failed version is made again.",
    });
  }
  return version;
}

function changing(session: AzureSession, ref: VersionRef, state: string): CloudError {
  return new CloudError("conflict", `${ref.definition} ${ref.version} did not become ${state}.`, {
    cloud: "azure",
    operation: "GalleryImageVersions.Update",
    subject: imageId(session.options, ref),
    tried: `${ROUNDS} times`,
    next: "Look who else works in this gallery, then retry the step.",
  });
}

/** Gives a version the tags it was made with; others stay. All regions are one version. Safe to repeat. */
export async function retagVersion(
  session: AzureSession,
  ref: VersionRef,
  spec: ImageSpec,
  call: CallContext,
): Promise<void> {
  for (let round = 1; ; round++) {
    const version = await usable(session, ref, spec.key, "retag", call);
    const wanted = Object.entries(tagsOf(spec, session.owner));
    if (wanted.every(([name, value]) => tag(version.tags, name) === value)) return;
    // Azure keeps names as they were first written and does not tell them apart by case.
    const own = new Set(wanted.map(([name]) => name.toLowerCase()));
    const others = Object.entries(version.tags ?? {}).filter(([name]) => !own.has(name.toLowerCase()));
    try {
      const tags = Object.fromEntries([...others, ...wanted]);
      await settled(session, ref, await patchVersion(session, ref, version, {}, tags, call), call);
      return;
    } catch (error) {
      if (codeOf(error) !== "conflict" || round === ROUNDS) throw error;
    }
  }
}

/** Removes a version with its staged disk. What is gone already is a success. */
export async function removeVersion(
  session: AzureSession,
  ref: VersionRef,
  key: ImageKey | undefined,
  call: CallContext,
): Promise<void> {
  const version = await settled(session, ref, undefined, call);
  if (!version) return;
  refuseProtected(session, ref, version, "remove");
  if (key !== undefined && tag(version.tags, TAG.key) !== key) return;
  refuseBlocked(session, ref, version);
  let left: Version | undefined = version;
  try {
    left = await settled(session, ref, await deleteVersion(session, ref, call), call);
  } catch (error) {
    if (codeOf(error) !== "not-found") throw error;
    left = undefined;
  }
  if (left) {
    throw new CloudError(
      "unavailable",
      `Azure took the removal of ${ref.definition} ${ref.version} and did not do it.`,
      {
        cloud: "azure",
        operation: "GalleryImageVersions.Delete",
        subject: imageId(session.options, ref),
      },
    );
  }
  const disk = tag(version.tags, TAG.disk) as ImageKey | undefined;
  if (disk) await removeStaged(session, disk, call);
}

/** The staged disk of an image goes with it, if it is still there and ours. */
async function removeStaged(session: AzureSession, disk: ImageKey, call: CallContext): Promise<void> {
  const blob = await lookAtBlob(session, disk, call);
  if (blob?.key === disk) await deleteBlob(session, disk, call);
}

/** Azure would refuse after minutes; the reason is in the version itself. */
function refuseBlocked(session: AzureSession, ref: VersionRef, version: Version): void {
  const end = version.publishingProfile?.endOfLifeDate;
  const blocked = version.safetyProfile?.blockDeletionBeforeEndOfLife === true && (!end || end.getTime() > Date.now());
  if (!blocked) return;
  throw new CloudError("conflict", `${ref.definition} ${ref.version} may not be removed before its end of life.`, {
    cloud: "azure",
    operation: "GalleryImageVersions.Delete",
    subject: imageId(session.options, ref),
    next: `Wait until ${end?.toISOString().slice(0, 10) ?? "it has one"}, or set blockDeletionBeforeEndOfLife to false on the version by hand.`,
  });
}
