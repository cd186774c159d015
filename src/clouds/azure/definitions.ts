/** Definitions: the named lines that versions belong to. Made when first needed, never changed afterwards. */
import type { GalleryImage } from "@azure/arm-compute";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { ImageSpec } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { featuresFor } from "./features.ts";
import { azureArch, galleryId, refOf, regionName, TAG } from "./names.ts";
import type { AzureSession } from "./session.ts";

export async function lookAtDefinition(
  session: AzureSession,
  definition: string,
  call: CallContext,
): Promise<GalleryImage | undefined> {
  const { resourceGroup, gallery } = session.options;
  const compute = await session.compute();
  try {
    return await session.ask({ operation: "GalleryImages.Get", subject: definition }, call, (abortSignal) =>
      compute.galleryImages.get(resourceGroup, gallery, definition, { abortSignal }),
    );
  } catch (error) {
    if (codeOf(error) === "not-found") return undefined;
    throw error;
  }
}

/**
 * Returns when the definition is there and fits the image.
 * @throws CloudError `conflict` for one that is there and is of another kind: it cannot be changed, only replaced
 */
export async function ensureDefinition(session: AzureSession, spec: ImageSpec, call: CallContext): Promise<void> {
  const { definition } = refOf(spec);
  const found = await lookAtDefinition(session, definition, call);
  if (found) {
    const wrong = mismatch(found, spec);
    if (wrong) throw conflict(session, definition, wrong);
    return;
  }
  const { resourceGroup, gallery, location, definition: defaults } = session.options;
  const arch = azureArch(spec.arch);
  const features = featuresFor(arch, defaults);
  const body: GalleryImage = {
    location,
    osType: "Linux",
    osState: "Generalized",
    hyperVGeneration: "V2",
    architecture: arch,
    identifier: { publisher: defaults.publisher, offer: defaults.offer, sku: definition },
    ...(features.length > 0 ? { features } : {}),
    tags: { [TAG.owner]: session.owner },
  };
  const compute = await session.compute();
  await session.ask(
    {
      operation: "GalleryImages.CreateOrUpdate",
      subject: definition,
      region: regionName(location),
      deadline: CREATION_MS,
    },
    call,
    async (abortSignal) => {
      const options = { abortSignal, updateIntervalInMs: session.pace.pollFirst };
      await compute.galleryImages.createOrUpdate(resourceGroup, gallery, definition, body, options);
    },
  );
}

/** No bytes move: Azure needs some seconds, now and then a minute. */
const CREATION_MS = 300_000;

/** What of a definition does not fit the image; undefined when all does. */
export function mismatch(found: GalleryImage, spec: ImageSpec): string | undefined {
  const wanted = {
    architecture: azureArch(spec.arch),
    osType: "Linux",
    osState: "Generalized",
    hyperVGeneration: "V2",
  };
  const has = {
    // Definitions from before Arm64 have no architecture: they are x64.
    architecture: found.architecture ?? "x64",
    osType: found.osType,
    osState: found.osState,
    hyperVGeneration: found.hyperVGeneration ?? "V1",
  };
  for (const field of ["architecture", "osType", "osState", "hyperVGeneration"] as const) {
    if (has[field]?.toLowerCase() !== wanted[field].toLowerCase()) {
      return `${field} is ${has[field]}, the image needs ${wanted[field]}`;
    }
  }
  return undefined;
}

function conflict(session: AzureSession, definition: string, wrong: string): CloudError {
  return new CloudError("conflict", `The image definition ${definition} is of another kind: ${wrong}.`, {
    cloud: "azure",
    operation: "GalleryImages.Get",
    subject: `${galleryId(session.options)}/images/${definition}`,
    next: "Name another definition for these images; a definition cannot be changed, and removing one takes its versions.",
  });
}
