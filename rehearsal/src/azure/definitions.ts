/** Image definitions: what is settled when one is made, and what may be changed later. */
import { asObject, asText, definitionShape, type JsonObject, parseBody, tagsOf } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import { locationOf, type Started, startChange, startDeletion } from "./gallery-changes.ts";
import {
  type ComputeState,
  countVersions,
  type Definition,
  findDefinition,
  findGallery,
  type Gallery,
  galleryId,
  haunt,
  listed,
  type Operation,
} from "./gallery-state.ts";

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
