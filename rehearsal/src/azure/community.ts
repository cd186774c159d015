/** A shared gallery as everyone sees it: by public name, per region, only what can be booted there. */
import { asObject, type JsonObject } from "./arm-body.ts";
import { armRefusals } from "./arm-error.ts";
import type { ComputeState, Definition, Gallery } from "./gallery-state.ts";
import { regionName } from "./regions.ts";
import { bootableVersions, communityVersionBody } from "./version-view.ts";

export function communityGallery(state: ComputeState, region: string, publicName: string): JsonObject {
  const gallery = findShared(state, publicName);
  return {
    name: gallery.publicName,
    location: regionName(region),
    type: "Microsoft.Compute/locations/communityGalleries",
    identifier: { uniqueId: `/CommunityGalleries/${gallery.publicName}` },
    properties: {
      artifactTags: gallery.tags ?? {},
      communityMetadata: {
        publisherUri: gallery.community?.publisherUri,
        publisherContact: gallery.community?.publisherContact,
        eula: gallery.community?.eula,
        publicNames: [gallery.publicName],
      },
    },
  };
}

export function communityImage(state: ComputeState, region: string, publicName: string, name: string): JsonObject {
  const gallery = findShared(state, publicName);
  return imageBody(gallery, findImage(state, gallery, name), region);
}

export function communityImages(state: ComputeState, region: string, publicName: string): JsonObject[] {
  const gallery = findShared(state, publicName);
  return [...gallery.definitions.values()].map((definition) => imageBody(gallery, definition, region));
}

export function communityVersions(state: ComputeState, region: string, publicName: string, name: string): JsonObject[] {
  const gallery = findShared(state, publicName);
  const definition = findImage(state, gallery, name);
  return bootableVersions(definition, region).map((version) =>
    communityVersionBody(gallery, definition, version, region),
  );
}

export function communityVersion(
  state: ComputeState,
  region: string,
  publicName: string,
  name: string,
  number: string,
): JsonObject {
  const found = communityVersions(state, region, publicName, name).find((version) => version.name === number);
  if (found === undefined)
    throw armRefusals.notFound(
      "Microsoft.Compute/communityGalleries",
      `${publicName}/images/${name}/versions/${number}`,
      "",
    );
  return found;
}

function findShared(state: ComputeState, publicName: string): Gallery {
  const wanted = publicName.toLowerCase();
  const gallery = [...state.galleries.values()].find((one) => one.publicName?.toLowerCase() === wanted);
  if (gallery === undefined) throw armRefusals.notFound("Microsoft.Compute/communityGalleries", publicName, "");
  return gallery;
}

function findImage(_state: ComputeState, gallery: Gallery, name: string): Definition {
  const definition = gallery.definitions.get(name.toLowerCase());
  if (definition === undefined) {
    throw armRefusals.notFound("Microsoft.Compute/communityGalleries", `${gallery.publicName}/images/${name}`, "");
  }
  return definition;
}

function imageBody(gallery: Gallery, definition: Definition, region: string): JsonObject {
  const { osType, osState, identifier, hyperVGeneration, features, architecture, endOfLifeDate, eula } =
    definition.properties;
  return {
    name: definition.name,
    location: regionName(region),
    type: "Microsoft.Compute/locations/communityGalleries/images",
    identifier: { uniqueId: `/CommunityGalleries/${gallery.publicName}/Images/${definition.name}` },
    properties: {
      osType,
      osState,
      identifier: asObject(identifier),
      hyperVGeneration,
      architecture,
      ...(features === undefined ? {} : { features }),
      ...(endOfLifeDate === undefined ? {} : { endOfLifeDate }),
      ...(eula === undefined ? {} : { eula }),
      artifactTags: definition.tags ?? {},
    },
  };
}
