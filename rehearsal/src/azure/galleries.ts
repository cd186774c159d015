/** Galleries and image definitions: made, read, changed where that is allowed, shared with the community, deleted. */
import { randomUUID } from "node:crypto";
import { asObject, asText, galleryShape, type JsonObject, parseBody, sharingUpdateShape, tagsOf } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import { locationOf, type Started, startChange, startDeletion } from "./gallery-changes.ts";
import {
  type ComputeState,
  findGallery,
  type Gallery,
  galleryId,
  haunt,
  listed,
  type Operation,
} from "./gallery-state.ts";

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
