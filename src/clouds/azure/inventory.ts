/** Everything in the gallery, a page at a time. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageKey } from "../../model.ts";
import type { CloudResource } from "../cloud.ts";
import { galleryId, imageId, regionName, TAG, tag, type VersionRef } from "./names.ts";
import type { Ask, AzureSession } from "./session.ts";
import { isOurs, provisioningOf, type Version } from "./versions.ts";

/** Versions of all definitions, ours or not. */
export async function* galleryVersions(
  session: AzureSession,
  call: CallContext,
): AsyncGenerator<{ ref: VersionRef; version: Version }> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  const definitions = paged(
    session,
    { operation: "GalleryImages.ListByGallery", subject: galleryId(session.options) },
    call,
    (abortSignal) => compute.galleryImages.listByGallery(resourceGroup, gallery, { abortSignal }),
  );
  for await (const { name: definition } of definitions) {
    if (!definition) continue;
    const versions = paged(
      session,
      { operation: "GalleryImageVersions.ListByGalleryImage", subject: definition },
      call,
      (abortSignal) =>
        compute.galleryImageVersions.listByGalleryImage(resourceGroup, gallery, definition, { abortSignal }),
    );
    try {
      for await (const version of versions) {
        if (version.name) yield { ref: { definition, version: version.name }, version };
      }
    } catch (error) {
      // The definition was removed since it was listed.
      if (codeOf(error) !== "not-found") throw error;
    }
  }
}

export async function* listImages(session: AzureSession, call: CallContext): AsyncGenerator<CloudResource> {
  for await (const { ref, version } of galleryVersions(session, call)) {
    if (!isOurs(session, version)) continue;
    const key = tag(version.tags, TAG.key) as ImageKey | undefined;
    const published = version.publishingProfile?.publishedDate;
    const how = provisioningOf(version);
    yield {
      kind: "image",
      ...(key ? { key } : {}),
      region: regionName(version.location),
      id: imageId(session.options, ref),
      name: tag(version.tags, TAG.name) ?? `${ref.definition}/${ref.version}`,
      complete: how !== "failed" && !(how === "moving" && version.provisioningState === "Creating"),
      ...(published ? { createdAt: published.toISOString() } : {}),
      tags: { ...version.tags },
    };
  }
}

/** What is used of the SDK's lists. */
interface Paged<T> {
  byPage(settings: { continuationToken?: string }): AsyncIterator<T[]>;
}

/** Each page is a call of its own, with its own deadline: a reader that takes its time between two costs nothing. */
async function* paged<T>(
  session: AzureSession,
  ask: Ask,
  call: CallContext,
  start: (signal: AbortSignal) => Paged<T>,
): AsyncGenerator<T> {
  let next: string | undefined;
  do {
    const page = await session.ask(ask, call, async (signal) => {
      const pages = start(signal).byPage(next ? { continuationToken: next } : {});
      const { done, value } = await pages.next();
      return done ? undefined : (value as T[] & { continuationToken?: string });
    });
    yield* page ?? [];
    next = page?.continuationToken || undefined;
  } while (next);
}
