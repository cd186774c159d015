/** Whether the images could be made, asked before a byte is sent. Creates nothing; what it cannot ask it says. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import type { ImageSpec } from "../../model.ts";
import type { Finding } from "../cloud.ts";
import { missingActions, type Permission } from "./actions.ts";
import { blobAsk } from "./blobs.ts";
import { lookAtDefinition, mismatch } from "./definitions.ts";
import { featuresFor, missingFeatures } from "./features.ts";
import { galleryVersions } from "./inventory.ts";
import { azureArch, galleryId, groupId, imageId, refOf, regionName, storageAccountId } from "./names.ts";
import { AZURE_LIMITS } from "./options.ts";
import { targetRegion } from "./register.ts";
import type { AzureSession } from "./session.ts";
import { foreignReason, hasKey, lookAtVersion } from "./versions.ts";

type Look = (session: AzureSession, specs: readonly ImageSpec[], call: CallContext) => Promise<Finding[]>;

export async function checkTarget(
  session: AzureSession,
  specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  const first = await looked(group, session, specs, call);
  // Without a token every further look would say the same.
  if (first.some((one) => one.code === "unauthenticated")) return first;
  const rest = await Promise.all(
    [permissions, gallery, container, storageAccount, quotas, names].map((look) => looked(look, session, specs, call)),
  );
  return [...first, ...rest.flat()];
}

/** What a look fails with is a finding. Only being stopped is not. */
async function looked(
  look: Look,
  session: AzureSession,
  specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  try {
    return await look(session, specs, call);
  } catch (error) {
    if (codeOf(error) === "cancelled" || !(error instanceof SlipwayError)) throw error;
    return [finding("error", error.subject ?? look.name, error.message, error)];
  }
}

function finding(severity: Finding["severity"], subject: string, message: string, error?: SlipwayError): Finding {
  return {
    severity,
    subject,
    message,
    ...(error?.next ? { next: error.next } : {}),
    ...(error ? { code: error.code } : {}),
  };
}

async function group(session: AzureSession, _specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const { options } = session;
  const ask = { operation: "ResourceGroups.Get", subject: groupId(options) };
  await session.read(groupId(options), "2021-04-01", ask, call);
  return [];
}

async function permissions(session: AzureSession, _specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const subject = "Microsoft.Authorization/permissions/read";
  const path = `${groupId(session.options)}/providers/Microsoft.Authorization/permissions`;
  let answer: unknown;
  try {
    answer = await session.read(path, "2022-04-01", { operation: "Permissions.ListForResourceGroup", subject }, call);
  } catch (error) {
    if (codeOf(error) !== "forbidden" || !(error instanceof SlipwayError)) throw error;
    return [finding("warning", subject, "The role may not be asked what it grants, so it is not checked.", error)];
  }
  const listed = (answer as { value?: unknown } | null)?.value;
  const granted = (Array.isArray(listed) ? listed : []) as Permission[];
  return missingActions(granted).map(({ action, why }) => ({
    severity: "error",
    code: "forbidden",
    subject: action,
    message: `The role lacks ${action}: needed to ${why}.`,
    next: 'Grant it on the resource group; "slipway policy print azure" prints the whole role.',
  }));
}

async function gallery(session: AzureSession, _specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const { resourceGroup, gallery: name, publicGalleryName, location } = session.options;
  const compute = await session.compute();
  const found = await session.ask(
    { operation: "Galleries.Get", subject: galleryId(session.options) },
    call,
    (abortSignal) => compute.galleries.get(resourceGroup, name, { abortSignal, expand: "SharingProfile/Groups" }),
  );
  const findings: Finding[] = [];
  if (regionName(found.location) !== regionName(location)) {
    findings.push(
      finding("info", "gallery", `The gallery is in ${found.location}, its versions will be in ${location}.`),
    );
  }
  const community = found.sharingProfile?.communityGalleryInfo;
  if (publicGalleryName && community?.publicNames && !community.publicNames.includes(publicGalleryName)) {
    findings.push({
      severity: "error",
      code: "invalid",
      subject: "public_gallery_name",
      message: `The gallery's public names are ${community.publicNames.join(", ") || "none"}, not ${publicGalleryName}.`,
      next: "Set the public name the gallery has, or share it: az sig share enable-community.",
    });
  }
  return findings;
}

async function container(session: AzureSession, _specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const client = await session.container();
  const permission = "Microsoft.Storage/storageAccounts/blobServices/containers/read";
  await session.ask(
    blobAsk(session, "Get Container Properties", permission, client.containerName),
    call,
    (abortSignal) => client.getProperties({ abortSignal }),
  );
  return [];
}

async function storageAccount(
  session: AzureSession,
  _specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  const { options } = session;
  const subject = storageAccountId(options);
  let answer: unknown;
  try {
    answer = await session.read(subject, "2023-05-01", { operation: "StorageAccounts.GetProperties", subject }, call);
  } catch (error) {
    // Emulators have none, and a version can be made without our seeing it.
    if (!(error instanceof SlipwayError) || codeOf(error) === "cancelled") throw error;
    return [
      finding("warning", "storage account", `The storage account could not be looked at: ${error.message}`, error),
    ];
  }
  const { location, properties } = (answer ?? {}) as { location?: string; properties?: { isHnsEnabled?: boolean } };
  const findings: Finding[] = [];
  if (location && regionName(location) !== regionName(options.location)) {
    findings.push({
      severity: "error",
      code: "invalid",
      subject: "storage_account",
      message: `The storage account is in ${location}; a version in ${options.location} cannot be made from its blobs.`,
      next: "Name a storage account in the target's location, or set the location to the account's.",
    });
  }
  if (properties?.isHnsEnabled) {
    findings.push({
      severity: "error",
      code: "unsupported",
      subject: "storage_account",
      message: "The storage account has a hierarchical namespace; page blobs do not exist there.",
      next: "Name a general-purpose v2 storage account without hierarchical namespace.",
    });
  }
  return findings;
}

async function quotas(session: AzureSession, specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const spec of specs) {
    const known = spec.regions.filter((region) =>
      session.options.targetRegions.some((one) => regionName(one.name) === regionName(region)),
    );
    const replicas = known.reduce((sum, region) => sum + (targetRegion(session, region).regionalReplicaCount ?? 1), 0);
    if (replicas > AZURE_LIMITS.replicasPerVersion) {
      findings.push({
        severity: "error",
        code: "quota",
        subject: "replicas per version",
        message: `${spec.name} wants ${replicas} replicas; a version may have ${AZURE_LIMITS.replicasPerVersion}.`,
        next: "Lower the replicas of some regions, or name fewer regions.",
      });
    }
  }
  const versions = await countVersions(session, call);
  const wanted = new Set(specs.map((spec) => `${spec.definition} ${spec.version}`)).size;
  if (versions + wanted > AZURE_LIMITS.versionsPerRegion) {
    findings.push({
      severity: "error",
      code: "quota",
      subject: "gallery image versions",
      message: `The gallery has ${versions} of ${AZURE_LIMITS.versionsPerRegion} versions; ${wanted} more do not fit.`,
      next: "Remove old versions: slipway lifecycle plan.",
    });
  } else {
    const message = `${versions} of ${AZURE_LIMITS.versionsPerRegion} are used by this gallery; others of the subscription count too.`;
    findings.push(finding("info", "gallery image versions", message));
  }
  return findings;
}

/** Versions of this gallery. What Azure counts is the subscription's, which its usage call does not tell for galleries. */
async function countVersions(session: AzureSession, call: CallContext): Promise<number> {
  let versions = 0;
  for await (const _ of galleryVersions(session, call)) versions++;
  return versions;
}

/** Whether each image's definition and version are free, or already ours. */
async function names(session: AzureSession, specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const spec of specs) {
    findings.push(...(await looked(nameOf, session, [spec], call)));
  }
  return findings;
}

async function nameOf(session: AzureSession, [spec]: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  if (!spec) return [];
  const findings: Finding[] = [];
  const ref = refOf(spec);
  for (const region of spec.regions) {
    try {
      targetRegion(session, region);
    } catch (error) {
      if (!(error instanceof SlipwayError)) throw error;
      findings.push({ ...finding("error", region, error.message, error), region });
    }
  }
  const definition = await lookAtDefinition(session, ref.definition, call);
  if (!definition) {
    findings.push(finding("info", ref.definition, "The image definition does not exist yet and will be made."));
    return findings;
  }
  const wrong = mismatch(definition, spec);
  if (wrong) {
    findings.push({
      severity: "error",
      code: "conflict",
      subject: ref.definition,
      message: `The image definition ${ref.definition} is of another kind: ${wrong}.`,
      next: "Name another definition for these images.",
    });
  }
  const missing = missingFeatures(definition.features, featuresFor(azureArch(spec.arch), session.options.definition));
  if (missing.length > 0) {
    findings.push({
      severity: "warning",
      subject: ref.definition,
      message: `The image definition ${ref.definition} lacks ${missing.join(", ")}: VM sizes that need it refuse its images.`,
      next: "Change its features in Azure, or name another definition: one that is there is never changed from here.",
    });
  }
  const version = await lookAtVersion(session, ref, call);
  if (version && !hasKey(session, version, spec.key)) {
    findings.push({
      severity: "error",
      code: "already-exists",
      subject: imageId(session.options, ref),
      message: `${ref.definition} ${ref.version} is there and is not this image: ${foreignReason(session, version)}.`,
      next: "Find out whose it is. Remove it there, or raise the respin.",
    });
  }
  return findings;
}
