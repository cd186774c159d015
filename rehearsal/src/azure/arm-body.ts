/**
 * Request bodies of the gallery API, held against the members the service knows: it refuses an unknown one by name, and
 * a client that misspells one should hear it here first. Names are those of the public API models (2025-12-03).
 */
import { ArmError } from "./arm-error.ts";

export type JsonObject = { readonly [key: string]: unknown };

type Shape =
  | "string"
  | "boolean"
  | "integer"
  | "date"
  | "tags"
  | "any"
  | readonly [Shape]
  | { readonly [key: string]: Shape };

const sharingProfile: Shape = {
  permissions: "string",
  groups: "any",
  communityGalleryInfo: {
    publisherUri: "string",
    publisherContact: "string",
    eula: "string",
    publicNamePrefix: "string",
    communityGalleryEnabled: "boolean",
    publicNames: ["string"],
  },
};

export const galleryShape: Shape = {
  id: "string",
  name: "string",
  type: "string",
  location: "string",
  tags: "tags",
  identity: "any",
  systemData: "any",
  properties: {
    description: "string",
    identifier: { uniqueName: "string" },
    provisioningState: "string",
    sharingProfile,
    softDeletePolicy: { isSoftDeleteEnabled: "boolean" },
    sharingStatus: "any",
  },
};

export const sharingUpdateShape: Shape = { operationType: "string", groups: "any" };

export const definitionShape: Shape = {
  id: "string",
  name: "string",
  type: "string",
  location: "string",
  tags: "tags",
  systemData: "any",
  properties: {
    description: "string",
    eula: "string",
    privacyStatementUri: "string",
    releaseNoteUri: "string",
    osType: "string",
    osState: "string",
    hyperVGeneration: "string",
    endOfLifeDate: "date",
    identifier: { publisher: "string", offer: "string", sku: "string" },
    recommended: { vCPUs: "any", memory: "any" },
    disallowed: { diskTypes: ["string"] },
    purchasePlan: { name: "string", publisher: "string", product: "string" },
    provisioningState: "string",
    features: [{ name: "string", value: "string", startsAtVersion: "string" }],
    architecture: "string",
    allowUpdateImage: "boolean",
  },
};

export const versionShape: Shape = {
  id: "string",
  name: "string",
  type: "string",
  location: "string",
  tags: "tags",
  systemData: "any",
  properties: {
    publishingProfile: {
      targetRegions: [
        {
          name: "string",
          regionalReplicaCount: "integer",
          storageAccountType: "string",
          encryption: "any",
          excludeFromLatest: "boolean",
          additionalReplicaSets: "any",
        },
      ],
      replicaCount: "integer",
      excludeFromLatest: "boolean",
      publishedDate: "date",
      endOfLifeDate: "date",
      storageAccountType: "string",
      replicationMode: "string",
      targetExtendedLocations: "any",
      storageAccountStrategy: "string",
    },
    provisioningState: "string",
    storageProfile: {
      source: { id: "string", communityGalleryImageId: "string", virtualMachineId: "string" },
      osDiskImage: {
        sizeInGB: "integer",
        hostCaching: "string",
        source: { id: "string", uri: "string", storageAccountId: "string" },
      },
      dataDiskImages: "any",
    },
    safetyProfile: {
      reportedForPolicyViolation: "boolean",
      policyViolations: "any",
      blockDeletionBeforeEndOfLife: "boolean",
      allowDeletionOfReplicatedLocations: "boolean",
    },
    replicationStatus: "any",
    securityProfile: "any",
    restore: "boolean",
    validationsProfile: "any",
    imageMetadataProfiles: "any",
  },
};

/** @throws ArmError 400 naming the member that is wrong */
export function parseBody(body: Buffer, shape: Shape): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(body.toString());
  } catch {
    throw new ArmError(
      400,
      "InvalidRequestContent",
      "The request content was invalid and could not be deserialized: it is not JSON.",
    );
  }
  check(value, shape, "");
  return asObject(value);
}

function check(value: unknown, shape: Shape, path: string): void {
  if (value === null || value === undefined || shape === "any") return;
  const wrong = (): ArmError =>
    new ArmError(
      400,
      "InvalidRequestContent",
      `Error converting value ${JSON.stringify(value)?.slice(0, 80)}. Path '${path}'.`,
      path,
    );
  if (typeof shape === "string") {
    if (!isOfType(value, shape)) throw wrong();
    return;
  }
  if (Array.isArray(shape)) {
    if (!Array.isArray(value)) throw wrong();
    for (const [index, item] of value.entries()) check(item, shape[0] as Shape, `${path}[${index}]`);
    return;
  }
  if (typeof value !== "object" || Array.isArray(value)) throw wrong();
  const members = shape as { readonly [key: string]: Shape };
  for (const [key, item] of Object.entries(value)) {
    const at = path === "" ? key : `${path}.${key}`;
    const known = Object.hasOwn(members, key) ? members[key] : undefined;
    if (known === undefined) {
      const type = path.split(".").at(-1) || "request";
      throw new ArmError(
        400,
        "BadRequest",
        `Could not find member '${key}' on object of type '${type}'. Path '${at}'.`,
        at,
      );
    }
    check(item, known, at);
  }
}

function isOfType(value: unknown, type: string): boolean {
  switch (type) {
    case "integer":
      return Number.isInteger(value);
    case "date":
      return typeof value === "string" && !Number.isNaN(Date.parse(value));
    case "tags":
      return typeof value === "object" && Object.values(value as object).every((text) => typeof text === "string");
    case "boolean":
      return typeof value === "boolean";
    default:
      return typeof value === "string";
  }
}

/** Members of an object that may be absent; nothing for what is no object. */
export function asObject(value: unknown): JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};
}

export function asText(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** @see https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources (50 tags, 512 and 256 characters) */
export function tagsOf(body: JsonObject): Record<string, string> | undefined {
  if (body.tags === undefined || body.tags === null) return undefined;
  const tags = asObject(body.tags) as Record<string, string>;
  const entries = Object.entries(tags);
  if (entries.length > 50) {
    throw new ArmError(400, "InvalidTags", `The number of tags ${entries.length} exceeds the limit of 50.`, "tags");
  }
  for (const [name, value] of entries) {
    if (name === "" || name.length > 512 || /[<>%&\\?/]/.test(name)) {
      throw new ArmError(
        400,
        "InvalidTagNameCharacters",
        `The tag name '${name}' has reserved characters or a wrong length.`,
        "tags",
      );
    }
    if (value.length > 256) {
      throw new ArmError(
        400,
        "InvalidTagValueLength",
        `The value of tag '${name}' exceeds the maximum length of 256 characters.`,
        "tags",
      );
    }
  }
  return { ...tags };
}
