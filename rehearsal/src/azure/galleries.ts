/** Galleries and image definitions: made, read, changed where that is allowed, shared with the community, deleted. */
import { randomUUID } from "node:crypto";
import {
  asObject,
  asText,
  definitionShape,
  galleryShape,
  type JsonObject,
  parseBody,
  sharingUpdateShape,
  tagsOf,
} from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import {
  type ComputeState,
  countVersions,
  type Definition,
  endOperation,
  findDefinition,
  findGallery,
  type Gallery,
  galleryId,
  haunt,
  listed,
  type Operation,
  type Resource,
  startOperation,
} from "./gallery-state.ts";
import { regionDisplayName, regionName } from "./regions.ts";

/** What a write answers: the resource as it is now, and the operation to follow. */
export interface Started {
  readonly created: boolean;
  readonly body: JsonObject | undefined;
  readonly operation: Operation;
}

export function putGallery(
  state: ComputeState,
  name: string,
  body: Buffer,
  now: number,
  method: "PUT" | "PATCH",
): Started {
  const request = parseBody(body, galleryShape);
  const properties = asObject(request.properties);
  const sharing = asObject(properties.sharingProfile);
  const old = state.galleries.get(name.toLowerCase());
  if (old === undefined && method === "PATCH")
    throw armRefusals.notFound("Microsoft.Compute/galleries", name, state.resourceGroup);
  if (!/^[A-Za-z0-9][A-Za-z0-9._]{0,79}$/.test(name) || !/[A-Za-z0-9]$/.test(name)) {
    throw armRefusals.invalid(
      "galleryName",
      `The value '${name}' of parameter galleryName is not allowed: letters, digits, dots and underscores, at most 80.`,
    );
  }
  const permissions = permissionsOf(sharing.permissions) ?? old?.permissions ?? "Private";
  if (old !== undefined && permissions !== old.permissions)
    throw armRefusals.unchangeable("gallery.properties.sharingProfile.permissions");
  const community =
    sharing.communityGalleryInfo === undefined ? old?.community : asObject(sharing.communityGalleryInfo);
  if (permissions === "Community") checkCommunity(community);
  const location = old?.location ?? locationOf(request, "gallery.location");
  if (old === undefined && state.galleries.size >= state.limits.galleries)
    throw armRefusals.quota("galleries", state.limits.galleries);

  const gallery: Gallery = old ?? {
    name,
    location,
    created: now,
    tags: undefined,
    provisioning: "Creating",
    description: undefined,
    permissions,
    community,
    softDelete: undefined,
    publicName: undefined,
    definitions: new Map(),
    ghosts: [],
  };
  const replace = method === "PUT";
  gallery.tags = tagsOf(request) ?? (replace ? undefined : gallery.tags);
  gallery.description = asText(properties.description) ?? (replace ? undefined : gallery.description);
  gallery.community = community;
  const softDelete = asObject(properties.softDeletePolicy).isSoftDeleteEnabled;
  if (typeof softDelete === "boolean") gallery.softDelete = softDelete;
  state.galleries.set(name.toLowerCase(), gallery);
  const operation = startChange(state, gallery, now);
  return { created: old === undefined, body: galleryBody(state, gallery), operation };
}

function permissionsOf(value: unknown): Gallery["permissions"] | undefined {
  if (value === undefined || value === null) return undefined;
  if (value === "Private" || value === "Groups" || value === "Community") return value;
  throw armRefusals.invalid(
    "gallery.properties.sharingProfile.permissions",
    `The value '${String(value)}' of parameter permissions is not allowed.`,
  );
}

function checkCommunity(community: JsonObject | undefined): void {
  for (const member of ["publisherUri", "publisherContact", "eula", "publicNamePrefix"]) {
    const target = `gallery.properties.sharingProfile.communityGalleryInfo.${member}`;
    if (asText(community?.[member]) === undefined) throw armRefusals.missing(target);
  }
  if (!/^[A-Za-z0-9_.-]{5,16}$/.test(asText(community?.publicNamePrefix) ?? "")) {
    const message = "The public name prefix must be 5 to 16 letters, digits, dots, dashes and underscores.";
    throw armRefusals.invalid("gallery.properties.sharingProfile.communityGalleryInfo.publicNamePrefix", message);
  }
}

/** The share operation: only what a community gallery needs. */
export function shareGallery(state: ComputeState, name: string, body: Buffer, now: number): Started {
  const gallery = findGallery(state, name);
  const kind = asText(parseBody(body, sharingUpdateShape).operationType);
  if (kind !== "EnableCommunity" && kind !== "Reset") {
    throw new ArmError(
      501,
      "NotImplemented",
      `The simulated gallery can be shared by "EnableCommunity" and "Reset", not by "${kind}".`,
    );
  }
  if (kind === "EnableCommunity") {
    if (gallery.permissions !== "Community") {
      throw new ArmError(
        400,
        "OperationNotAllowed",
        `Gallery '${name}' cannot be shared to the community: its sharing profile's permissions are '${gallery.permissions}'.`,
      );
    }
    gallery.publicName ??= `${asText(gallery.community?.publicNamePrefix)}-${randomUUID()}`;
  } else {
    gallery.publicName = undefined;
  }
  return { created: false, body: { operationType: kind }, operation: startChange(state, gallery, now) };
}

export function deleteGallery(state: ComputeState, name: string, now: number): Operation | undefined {
  const gallery = state.galleries.get(name.toLowerCase());
  if (gallery === undefined) return undefined;
  if (gallery.definitions.size > 0) {
    throw armRefusals.nested(
      [...gallery.definitions.values()]
        .slice(0, 5)
        .map((one) => `Microsoft.Compute/galleries/${name}/images/${one.name}`),
    );
  }
  if (gallery.publicName !== undefined) {
    throw new ArmError(
      409,
      "CannotDeleteResource",
      `Gallery '${name}' is shared with the community. Reset its sharing before deleting it.`,
    );
  }
  return startDeletion(state, gallery, now, () => {
    haunt(state, state.ghosts, galleryBody(state, gallery), now);
    state.galleries.delete(name.toLowerCase());
  });
}

export function galleryBody(state: ComputeState, gallery: Gallery): JsonObject {
  const community = gallery.community && {
    ...gallery.community,
    communityGalleryEnabled: gallery.publicName !== undefined,
    ...(gallery.publicName === undefined ? {} : { publicNames: [gallery.publicName] }),
  };
  return {
    name: gallery.name,
    id: galleryId(state, gallery.name),
    type: "Microsoft.Compute/galleries",
    location: gallery.location,
    ...(gallery.tags === undefined ? {} : { tags: gallery.tags }),
    properties: {
      ...(gallery.description === undefined ? {} : { description: gallery.description }),
      identifier: { uniqueName: `${state.subscriptionId}-${gallery.name.toUpperCase()}` },
      sharingProfile: {
        permissions: gallery.permissions,
        ...(community === undefined ? {} : { communityGalleryInfo: community }),
      },
      ...(gallery.softDelete === undefined ? {} : { softDeletePolicy: { isSoftDeleteEnabled: gallery.softDelete } }),
      provisioningState: gallery.provisioning,
    },
  };
}

export function listGalleries(state: ComputeState, now: number): JsonObject[] {
  return listed(state, state.galleries.values(), state.ghosts, now, (gallery) => galleryBody(state, gallery));
}

/** Members that are settled when a definition is made. */
const SETTLED = [
  "osType",
  "osState",
  "hyperVGeneration",
  "architecture",
  "identifier",
  "purchasePlan",
  "eula",
] as const;

const ALLOWED_VALUES: Readonly<Record<string, readonly string[]>> = {
  osType: ["Linux", "Windows"],
  osState: ["Generalized", "Specialized"],
  hyperVGeneration: ["V1", "V2"],
  architecture: ["x64", "Arm64"],
};

export function putDefinition(
  state: ComputeState,
  galleryName: string,
  name: string,
  body: Buffer,
  now: number,
  method: "PUT" | "PATCH",
): Started {
  const gallery = state.galleries.get(galleryName.toLowerCase());
  if (gallery === undefined) throw armRefusals.parentNotFound(galleryId(state, galleryName));
  const request = parseBody(body, definitionShape);
  const old = gallery.definitions.get(name.toLowerCase());
  if (old === undefined && method === "PATCH") findDefinition(state, galleryName, name);
  if (!/^[A-Za-z0-9]([A-Za-z0-9._-]{0,78}[A-Za-z0-9])?$/.test(name)) {
    throw armRefusals.invalid("galleryImageName", `The value '${name}' of parameter galleryImageName is not allowed.`);
  }
  const asked = withoutReadOnly(asObject(request.properties));
  const properties = old !== undefined && method === "PATCH" ? { ...old.properties, ...asked } : withDefaults(asked);
  checkDefinition(properties);
  const mayUpdate = asObject(request.properties).allowUpdateImage === true;
  if (old !== undefined) checkChange(old.properties, properties, mayUpdate);
  const location = old?.location ?? locationOf(request, "galleryImage.location");
  checkIdentifier(gallery, properties, old);
  if (old === undefined && countVersions(state).definitions >= state.limits.definitions) {
    throw armRefusals.quota("gallery images", state.limits.definitions);
  }

  const definition: Definition = old ?? {
    name,
    location,
    created: now,
    tags: undefined,
    provisioning: "Creating",
    properties,
    versions: new Map(),
    ghosts: [],
  };
  definition.properties = properties;
  definition.tags = tagsOf(request) ?? (method === "PUT" ? undefined : definition.tags);
  gallery.definitions.set(name.toLowerCase(), definition);
  const operation = startChange(state, definition, now);
  return { created: old === undefined, body: definitionBody(state, gallery, definition), operation };
}

function withoutReadOnly(properties: JsonObject): JsonObject {
  const { provisioningState: _state, allowUpdateImage: _allow, ...rest } = properties;
  return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null && value !== undefined));
}

function withDefaults(properties: JsonObject): JsonObject {
  return { hyperVGeneration: "V1", architecture: "x64", ...properties };
}

function checkDefinition(properties: JsonObject): void {
  for (const member of ["osType", "osState", "identifier"]) {
    if (properties[member] === undefined) throw armRefusals.missing(`galleryImage.properties.${member}`);
  }
  for (const [member, values] of Object.entries(ALLOWED_VALUES)) {
    if (!values.includes(asText(properties[member]) ?? "")) {
      const message = `The value '${String(properties[member])}' of parameter galleryImage.properties.${member} is not allowed. Allowed values are: ${values.join(", ")}.`;
      throw armRefusals.invalid(`galleryImage.properties.${member}`, message);
    }
  }
  const identifier = asObject(properties.identifier);
  for (const member of ["publisher", "offer", "sku"]) {
    const target = `galleryImage.properties.identifier.${member}`;
    const text = asText(identifier[member]);
    if (text === undefined) throw armRefusals.missing(target);
    if (!/^[A-Za-z0-9._-]{1,128}$/.test(text))
      throw armRefusals.invalid(target, `The value '${text}' of parameter ${target} is not allowed.`);
  }
  if (properties.architecture === "Arm64" && properties.hyperVGeneration !== "V2") {
    throw armRefusals.invalid(
      "galleryImage.properties.architecture",
      "Architecture 'Arm64' is only supported with Hyper-V generation 'V2'.",
    );
  }
}

function checkChange(old: JsonObject, next: JsonObject, mayUpdateFeatures: boolean): void {
  for (const member of SETTLED) {
    if (!sameJson(old[member], next[member])) throw armRefusals.unchangeable(`galleryImage.properties.${member}`);
  }
  // Features may be changed by those who say they mean it, and only for versions to come.
  if (!sameJson(old.features ?? [], next.features ?? []) && !mayUpdateFeatures) {
    throw armRefusals.unchangeable("galleryImage.properties.features");
  }
}

function checkIdentifier(gallery: Gallery, properties: JsonObject, self: Definition | undefined): void {
  const triple = ({ identifier }: JsonObject): string => {
    const { publisher, offer, sku } = asObject(identifier);
    return `${publisher}:${offer}:${sku}`;
  };
  const wanted = triple(properties);
  for (const other of gallery.definitions.values()) {
    if (other === self || triple(other.properties).toLowerCase() !== wanted.toLowerCase()) continue;
    const message = `Gallery image '${other.name}' already has the publisher, offer and sku '${wanted}' in gallery '${gallery.name}'.`;
    throw new ArmError(409, "Conflict", message, "galleryImage.properties.identifier");
  }
}

function sameJson(a: unknown, b: unknown): boolean {
  const text = (value: unknown): string =>
    JSON.stringify(value, (_key, item: unknown) =>
      typeof item === "object" && item !== null && !Array.isArray(item)
        ? Object.fromEntries(Object.entries(item).sort())
        : item,
    ) ?? "";
  return text(a).toLowerCase() === text(b).toLowerCase();
}

export function deleteDefinition(
  state: ComputeState,
  galleryName: string,
  name: string,
  now: number,
): Operation | undefined {
  const gallery = state.galleries.get(galleryName.toLowerCase());
  const definition = gallery?.definitions.get(name.toLowerCase());
  if (gallery === undefined || definition === undefined) return undefined;
  if (definition.versions.size > 0) {
    const path = `Microsoft.Compute/galleries/${gallery.name}/images/${definition.name}/versions`;
    throw armRefusals.nested([...definition.versions.keys()].slice(0, 5).map((version) => `${path}/${version}`));
  }
  return startDeletion(state, definition, now, () => {
    haunt(state, gallery.ghosts, definitionBody(state, gallery, definition), now);
    gallery.definitions.delete(name.toLowerCase());
  });
}

export function definitionBody(state: ComputeState, gallery: Gallery, definition: Definition): JsonObject {
  return {
    name: definition.name,
    id: `${galleryId(state, gallery.name)}/images/${definition.name}`,
    type: "Microsoft.Compute/galleries/images",
    location: definition.location,
    ...(definition.tags === undefined ? {} : { tags: definition.tags }),
    properties: { ...definition.properties, provisioningState: definition.provisioning },
  };
}

export function listDefinitions(state: ComputeState, galleryName: string, now: number): JsonObject[] {
  const gallery = findGallery(state, galleryName);
  return listed(state, gallery.definitions.values(), gallery.ghosts, now, (one) => definitionBody(state, gallery, one));
}

export function locationOf(request: JsonObject, target: string): string {
  const location = asText(request.location);
  if (location === undefined || location === "") {
    throw new ArmError(400, "LocationRequired", "The location property is required for this definition.", target);
  }
  if (regionDisplayName(location) === undefined) {
    throw new ArmError(
      400,
      "LocationNotAvailableForResourceType",
      `The provided location '${location}' is not available for resource type 'Microsoft.Compute/galleries'.`,
      target,
    );
  }
  return regionName(location);
}

function startChange(state: ComputeState, resource: Resource, now: number): Operation {
  if (resource.provisioning === "Deleting") throw armRefusals.conflict();
  if (resource.provisioning !== "Creating") resource.provisioning = "Updating";
  return startOperation(state, now, async (at, operation) => {
    if (at < now + state.timings.operationMs) return;
    resource.provisioning = "Succeeded";
    endOperation(operation, at);
  });
}

export function startDeletion(
  state: ComputeState,
  resource: Resource,
  now: number,
  remove: () => void | Promise<void>,
): Operation {
  resource.provisioning = "Deleting";
  return startOperation(state, now, async (at, operation) => {
    if (at < now + state.timings.operationMs) return;
    endOperation(operation, at);
    await remove();
  });
}
