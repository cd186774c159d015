/** Compute Engine's images and their operations. An operation is PENDING, then RUNNING, then DONE, a look each. */
import { randomInt } from "node:crypto";
import type { Answer, Exchange } from "../azure/exchange.ts";
import { inspectArchive } from "./archive.ts";
import { readAll } from "./content.ts";
import { GcpFault, json, notBuilt, notFound } from "./fault.ts";
import type { BucketState } from "./storage.ts";

export interface Policy {
  version: number;
  etag: string;
  bindings: { role: string; members: string[] }[];
}

export interface Image {
  readonly name: string;
  readonly id: string;
  readonly created: number;
  readonly body: Record<string, unknown>;
  status: "PENDING" | "READY" | "FAILED";
  family: string | undefined;
  description: string | undefined;
  deprecated: Record<string, unknown> | undefined;
  policy: Policy;
  diskBytes: number;
  archiveBytes: number;
}

interface Operation {
  readonly name: string;
  readonly id: string;
  readonly type: string;
  readonly target: string;
  readonly created: number;
  status: "PENDING" | "RUNNING" | "DONE";
  error: { code: string; message: string; status: number } | undefined;
  /** Carried out when it turns DONE. */
  work(): Promise<void> | void;
}

export interface ComputeState {
  readonly project: string;
  imageLimit: number;
  readonly images: Map<string, Image>;
  readonly operations: Map<string, Operation>;
  readonly storage: BucketState;
  denied(permission: string): boolean;
}

/** @see https://cloud.google.com/compute/docs/naming-resources */
const NAME = /^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LABEL_VALUE = /^[a-z0-9_-]{0,63}$/;
const LABEL_KEY = /^[a-z][a-z0-9_-]{0,62}$/;

export async function compute(state: ComputeState, exchange: Exchange): Promise<Answer> {
  const [, , , project, ...rest] = exchange.path;
  if (project !== state.project) throw notFound(`The resource 'projects/${project}'`);
  const { method } = exchange;
  if (rest.length === 0 && method === "GET") return json(projectView(state, exchange));
  const [, kind, name, verb] = rest;
  if (rest[0] === "global" && kind === "operations" && name !== undefined)
    return operation(state, exchange, name, verb);
  if (rest[0] !== "global" || kind !== "images") throw notBuilt(`compute operation ${method} ${rest.join("/")}`);
  if (name === undefined) return method === "POST" ? insert(state, exchange) : json(list(state, exchange));
  if (name === "family" && method === "GET") return json(view(state, exchange, newestOf(state, verb ?? "")));
  switch (`${method} ${verb ?? ""}`) {
    case "GET ":
      need(state, "compute.images.get", name);
      return json(view(state, exchange, find(state, name)));
    case "PATCH ":
      return patch(state, exchange, name);
    case "DELETE ":
      need(state, "compute.images.delete", name);
      find(state, name);
      return json(start(state, exchange, "delete", name, () => void state.images.delete(name)));
    case "POST deprecate":
      return deprecate(state, exchange, name);
    case "GET getIamPolicy":
      need(state, "compute.images.getIamPolicy", name);
      return json(find(state, name).policy);
    case "POST setIamPolicy":
      return json(setPolicy(state, exchange, name));
    default:
      throw notBuilt(`compute operation ${method} images/NAME/${verb}`);
  }
}

/**
 * What an account without rights in the project is told: of an image, all that its users are; of everything else that the
 * permission is lacking, whether or not the thing is there.
 */
export function asOutsider(state: ComputeState, exchange: Exchange): Answer {
  const [service, , , project, scope, kind, name, verb] = exchange.path;
  const isImage = service === "compute" && project === state.project && scope === "global" && kind === "images";
  if (!isImage || exchange.method !== "GET" || name === undefined) {
    throw new GcpFault(403, "forbidden", `Required permission for '${exchange.rawPath}'`);
  }
  const ofFamily = name === "family" && verb !== undefined;
  const image = ofFamily ? state.images.get(newestName(state, verb)) : state.images.get(name);
  const user = image?.policy.bindings.some(
    ({ role, members }) => role === "roles/compute.imageUser" && members.some((one) => EVERYBODY.includes(one)),
  );
  if (image !== undefined && user === true && (ofFamily || verb === undefined))
    return json(view(state, exchange, image));
  const permission = ofFamily ? "compute.images.getFromFamily" : "compute.images.get";
  const resource = `projects/${state.project}/global/images/${ofFamily ? `family/${verb}` : name}`;
  throw new GcpFault(403, "forbidden", `Required '${permission}' permission for '${resource}'`);
}

const EVERYBODY: readonly string[] = ["allAuthenticatedUsers", "allUsers"];

function need(state: ComputeState, permission: string, name: string): void {
  if (!state.denied(permission)) return;
  const message = `Required '${permission}' permission for 'projects/${state.project}/global/images/${name}'`;
  throw new GcpFault(403, "forbidden", message);
}

function find(state: ComputeState, name: string): Image {
  const found = state.images.get(name);
  if (found) return found;
  throw notFound(`The resource 'projects/${state.project}/global/images/${name}'`);
}

function bodyOf(exchange: Exchange): Record<string, unknown> {
  try {
    return JSON.parse(exchange.body.toString() || "{}") as Record<string, unknown>;
  } catch {
    throw new GcpFault(400, "parseError", "Parse Error");
  }
}

const invalid = (field: string, value: unknown) =>
  new GcpFault(400, "invalid", `Invalid value for field '${field}': '${String(value)}'.`);

function insert(state: ComputeState, exchange: Exchange): Answer {
  const body = bodyOf(exchange);
  const name = String(body.name ?? "");
  if (!NAME.test(name)) throw invalid("resource.name", name);
  need(state, "compute.images.create", name);
  for (const [key, value] of Object.entries((body.labels ?? {}) as Record<string, string>)) {
    if (!LABEL_KEY.test(key) || !LABEL_VALUE.test(value)) throw invalid(`resource.labels.${key}`, value);
  }
  if (state.images.has(name)) {
    const message = `The resource 'projects/${state.project}/global/images/${name}' already exists`;
    throw new GcpFault(409, "alreadyExists", message);
  }
  if (state.images.size >= state.imageLimit) {
    const message = `Quota 'IMAGES' exceeded.  Limit: ${state.imageLimit}.0 globally.`;
    throw new GcpFault(403, "quotaExceeded", message);
  }
  const source = String((body.rawDisk as { source?: string } | undefined)?.source ?? "");
  const object = /^https:\/\/storage\.googleapis\.com\/([^/]+)\/(.+)$/.exec(source);
  if (!object || object[1] !== state.storage.bucket) throw invalid("resource.rawDisk.source", source);
  const image: Image = {
    ...{ name, body, status: "PENDING", created: exchange.now, diskBytes: 0, archiveBytes: 0 },
    ...{ family: body.family as string | undefined, description: body.description as string | undefined },
    id: newId(),
    deprecated: undefined,
    policy: { version: 1, etag: newEtag(), bindings: [] },
  };
  state.images.set(name, image);
  const view = start(state, exchange, "insert", name, async () => {
    const stored = state.storage.objects.get(decodeURIComponent(object[2]!));
    try {
      if (!stored) throw new Error(`The resource '${source}' was not found`);
      image.diskBytes = (await inspectArchive(readAll(stored.contents, 0, stored.bytes))).diskBytes;
      image.archiveBytes = stored.bytes;
      image.status = "READY";
    } catch (error) {
      // A failed import leaves no image behind.
      state.images.delete(name);
      throw Object.assign(error as Error, { code: stored ? "INVALID_IMAGE" : "RESOURCE_NOT_FOUND" });
    }
  });
  return json(view);
}

function patch(state: ComputeState, exchange: Exchange, name: string): Answer {
  need(state, "compute.images.update", name);
  const image = find(state, name);
  const { family, description, ...rest } = bodyOf(exchange) as { family?: string; description?: string };
  const [other] = Object.keys(rest);
  if (other) throw invalid(`resource.${other}`, "only family and description can be changed");
  if (family && !NAME.test(family)) throw invalid("resource.family", family);
  return json(
    start(state, exchange, "patch", name, () => {
      if (family !== undefined) image.family = family || undefined;
      if (description !== undefined) image.description = description;
    }),
  );
}

const STATES: readonly unknown[] = ["ACTIVE", "DEPRECATED", "OBSOLETE", "DELETED"];

function deprecate(state: ComputeState, exchange: Exchange, name: string): Answer {
  need(state, "compute.images.deprecate", name);
  const image = find(state, name);
  const body = bodyOf(exchange);
  if (!STATES.includes(body.state)) throw invalid("resource.state", body.state);
  return json(
    start(state, exchange, "deprecate", name, () => {
      image.deprecated = body.state === "ACTIVE" ? undefined : body;
    }),
  );
}

function setPolicy(state: ComputeState, exchange: Exchange, name: string): Policy {
  need(state, "compute.images.setIamPolicy", name);
  const image = find(state, name);
  const { policy } = bodyOf(exchange) as { policy?: Partial<Policy> };
  if (policy?.etag !== undefined && policy.etag !== image.policy.etag) {
    throw new GcpFault(
      409,
      "aborted",
      "There were concurrent policy changes. Please retry the whole read-modify-write.",
    );
  }
  image.policy = { version: 1, etag: newEtag(), bindings: policy?.bindings ?? [] };
  return image.policy;
}

/** The newest of a family that is not deprecated: what a user's VM would boot. */
function newestName(state: ComputeState, family: string): string {
  const all = [...state.images.values()].filter((one) => one.family === family && !one.deprecated);
  return all.sort((a, b) => b.created - a.created)[0]?.name ?? "";
}

function newestOf(state: ComputeState, family: string): Image {
  const newest = state.images.get(newestName(state, family));
  if (newest) return newest;
  throw notFound(`The resource 'projects/${state.project}/global/images/family/${family}'`);
}

function list(state: ComputeState, exchange: Exchange): object {
  need(state, "compute.images.list", "");
  const after = exchange.query.get("pageToken") ?? "";
  const most = Number(exchange.query.get("maxResults") ?? 500);
  if (exchange.query.has("filter")) throw notBuilt("filter of images.list");
  const names = [...state.images.keys()].filter((name) => name > after).sort();
  const page = names.slice(0, most);
  return {
    kind: "compute#imageList",
    id: `projects/${state.project}/global/images`,
    selfLink: `${exchange.origin}/compute/v1/projects/${state.project}/global/images`,
    ...(page.length > 0 ? { items: page.map((name) => view(state, exchange, find(state, name))) } : {}),
    ...(names.length > most ? { nextPageToken: page.at(-1) } : {}),
  };
}

function start(state: ComputeState, exchange: Exchange, type: string, target: string, work: Operation["work"]): object {
  const id = newId();
  const made: Operation = {
    ...{ name: `operation-${id}`, id, type, target, created: exchange.now, work },
    status: "PENDING",
    error: undefined,
  };
  state.operations.set(made.name, made);
  return operationView(state, exchange, made);
}

async function operation(state: ComputeState, exchange: Exchange, name: string, verb?: string): Promise<Answer> {
  const found = state.operations.get(name);
  if (!found) throw notFound(`The resource 'projects/${state.project}/global/operations/${name}'`);
  if (verb !== undefined && verb !== "wait") throw notBuilt(`operations.${verb}`);
  await advance(found);
  return json(operationView(state, exchange, found));
}

async function advance(one: Operation): Promise<void> {
  if (one.status === "PENDING") one.status = "RUNNING";
  else if (one.status === "RUNNING") {
    one.status = "DONE";
    try {
      await one.work();
    } catch (error) {
      const { code = "INTERNAL_ERROR", message } = error as Error & { code?: string };
      one.error = { code, message, status: code === "RESOURCE_NOT_FOUND" ? 404 : 400 };
    }
  }
}

/** Time passes for operations nobody looks at, too. */
export async function settle(state: ComputeState): Promise<void> {
  for (const one of state.operations.values()) if (one.status !== "DONE") await advance(one);
}

function operationView({ project }: ComputeState, { origin }: Exchange, one: Operation): object {
  const base = `${origin}/compute/v1/projects/${project}/global`;
  const time = new Date(one.created).toISOString();
  return {
    kind: "compute#operation",
    ...{ id: one.id, name: one.name, operationType: one.type, targetLink: `${base}/images/${one.target}` },
    ...{ status: one.status, progress: one.status === "DONE" ? 100 : 0, insertTime: time, startTime: time },
    ...(one.status === "DONE" ? { endTime: time } : {}),
    selfLink: `${base}/operations/${one.name}`,
    ...(one.error
      ? {
          error: { errors: [{ code: one.error.code, message: one.error.message }] },
          httpErrorStatusCode: one.error.status,
          httpErrorMessage: one.error.status === 404 ? "NOT FOUND" : "BAD REQUEST",
        }
      : {}),
  };
}

function view({ project }: ComputeState, { origin }: Exchange, image: Image): object {
  const { labels, architecture, guestOsFeatures, storageLocations, rawDisk } = image.body;
  return {
    kind: "compute#image",
    ...{ id: image.id, name: image.name, creationTimestamp: new Date(image.created).toISOString() },
    ...{ status: image.status, sourceType: "RAW", labels, labelFingerprint: newEtag(), architecture, guestOsFeatures },
    ...{ storageLocations, family: image.family, description: image.description, deprecated: image.deprecated },
    rawDisk: { containerType: "TAR", source: (rawDisk as { source?: string }).source },
    ...{ diskSizeGb: String(image.diskBytes / 2 ** 30), archiveSizeBytes: String(image.archiveBytes) },
    selfLink: `${origin}/compute/v1/projects/${project}/global/images/${image.name}`,
  };
}

function projectView(state: ComputeState, { origin }: Exchange): object {
  return {
    kind: "compute#project",
    ...{ id: "1234567890123456789", name: state.project },
    quotas: [{ metric: "IMAGES", limit: state.imageLimit, usage: state.images.size }],
    selfLink: `${origin}/compute/v1/projects/${state.project}`,
  };
}

const newId = () => `${randomInt(1, 9_000_000)}${randomInt(100_000_000_000, 199_999_999_999)}`.slice(0, 19);
const newEtag = () => Buffer.from(String(randomInt(2 ** 47))).toString("base64");
