/** Images of the project: looked at, made of an archive, brought to a state, removed. */
import { setTimeout as sleep } from "node:timers/promises";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage, ImageKey, ImageSpec, LifecycleState, StagedDisk } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { record, refused } from "./errors.ts";
import { archiveName } from "./objects.ts";
import type { Call, GcpSession } from "./session.ts";

export interface Image {
  readonly name: string;
  readonly status: string;
  readonly family: string | undefined;
  readonly deprecated: string | undefined;
  readonly labels: Readonly<Record<string, string>>;
  readonly description: string;
  readonly created: string | undefined;
}

export const LABEL = {
  key: "slipway-key",
  disk: "slipway-disk",
  owner: "slipway-owner",
  /** The family it gets when it is offered: until then it is in none. */
  family: "slipway-family",
} as const;

const DESCRIPTION_LENGTH = 2048;
/** Looks, acts and looks again at most so often: made by another, removed by another, made again. */
const ROUNDS = 5;

const ARCHITECTURES: Readonly<Record<string, string>> = { x86_64: "X86_64", aarch64: "ARM64" };
/** What the kernels of a distribution of today can: as Fedora CoreOS says of its images. */
const FEATURES = ["UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC", "IDPF"];
const FEATURES_X86 = ["SEV_CAPABLE", "SEV_SNP_CAPABLE", "SEV_LIVE_MIGRATABLE_V2", "TDX_CAPABLE"];

export const imageId = (session: GcpSession, name: string) =>
  `projects/${session.options.project}/global/images/${name}`;
export const nameOfId = (id: string) => id.split("/").at(-1)!;

const imagesPath = ({ options }: GcpSession) =>
  `/compute/v1/projects/${encodeURIComponent(options.project)}/global/images`;

export async function lookAtImage(session: GcpSession, name: string, call: CallContext): Promise<Image | undefined> {
  try {
    const ask = { operation: "images.get", subject: imageId(session, name) };
    return imageOf(await session.ask(ask, { service: "compute", path: `${imagesPath(session)}/${name}` }, call));
  } catch (error) {
    if (codeOf(error) === "not-found") return undefined;
    throw error;
  }
}

export async function* listImages(session: GcpSession, call: CallContext): AsyncGenerator<Image> {
  let pageToken: string | undefined;
  do {
    const query = { maxResults: "500", ...(pageToken ? { pageToken } : {}) };
    const ask = { operation: "images.list", subject: session.options.project };
    const page = await session.ask(ask, { service: "compute", path: imagesPath(session), query }, call);
    for (const item of Array.isArray(page.items) ? page.items : []) yield imageOf(record(item));
    pageToken = typeof page.nextPageToken === "string" ? page.nextPageToken : undefined;
  } while (pageToken);
}

export function isOurs(session: GcpSession, image: Image, key: ImageKey | undefined): boolean {
  return image.labels[LABEL.owner] === session.owner && image.labels[LABEL.key] === key;
}

export function foreignReason(session: GcpSession, image: Image): string {
  const owner = image.labels[LABEL.owner];
  if (owner === undefined) return "it has no label of ours";
  return owner === session.owner ? "it was made of another disk or under another key" : `it belongs to ${owner}`;
}

export function cloudImage(session: GcpSession, image: Image): CloudImage {
  return {
    key: (image.labels[LABEL.key] ?? "") as ImageKey,
    region: session.options.storageLocation,
    id: imageId(session, image.name),
    name: image.name,
    state: stateOf(image),
  };
}

function stateOf({ deprecated, family }: Image): LifecycleState {
  if (deprecated === "DEPRECATED") return "deprecated";
  if (deprecated === "OBSOLETE" || deprecated === "DELETED") return "obsolete";
  return family ? "active" : "candidate";
}

/** The compose's facts stand in the description as they are: a label has no capitals and no dots. */
export function tagsOf(image: Image): Record<string, string> {
  const last = image.description.split("\n").at(-1) ?? "";
  try {
    return { ...(record(JSON.parse(last)) as Record<string, string>), ...image.labels };
  } catch {
    return { ...image.labels };
  }
}

/** An image's name is unique in its project: that is what makes an insert safe to repeat. */
export async function registerImage(
  session: GcpSession,
  staged: StagedDisk,
  spec: ImageSpec,
  call: CallContext,
): Promise<CloudImage> {
  const json = imageBody(session, staged, spec);
  const subject = imageId(session, spec.name);
  for (let round = 0; round < ROUNDS; round++) {
    const image = await settled(session, spec.name, call);
    if (image && !isOurs(session, image, spec.key)) {
      throw new CloudError(
        "already-exists",
        `${spec.name} is there and is not this image: ${foreignReason(session, image)}.`,
        {
          cloud: "gcp",
          operation: "images.insert",
          subject,
          next: "Find out whose it is. Remove it there, or change the name pattern of the system.",
        },
      );
    }
    if (image?.status === "READY") return cloudImage(session, image);
    if (image) {
      call.log.warn("image of an earlier attempt had failed and is made again", {
        name: spec.name,
        status: image.status,
      });
      await removeImage(session, spec.name, spec.key, call);
    }
    try {
      await change(
        session,
        "images.insert",
        spec.name,
        { method: "POST", service: "compute", path: imagesPath(session), json },
        call,
      );
    } catch (error) {
      // Somebody else made it in the same moment: then it is looked at.
      if (codeOf(error) !== "conflict" && codeOf(error) !== "already-exists") throw error;
      await sleep(session.pace.pollFirst);
    }
  }
  throw new CloudError("unavailable", `${spec.name} is not to be seen after it was made.`, {
    cloud: "gcp",
    operation: "images.insert",
    subject,
    tried: `${ROUNDS} looks`,
    next: "Look who else works in this project, then retry the step.",
  });
}

/** An image as it is when nothing is under way with it. */
async function settled(session: GcpSession, name: string, call: CallContext): Promise<Image | undefined> {
  return polled(session, "images.get", name, call, async () => {
    const image = await lookAtImage(session, name, call);
    return image?.status === "PENDING" ? "again" : image;
  });
}

function imageBody(session: GcpSession, staged: StagedDisk, spec: ImageSpec): object {
  const architecture = ARCHITECTURES[spec.arch];
  const details = { cloud: "gcp" as const, operation: "images.insert", subject: spec.name };
  if (!architecture) {
    throw new CloudError("unsupported", `Google Cloud has no machines of architecture ${spec.arch}.`, details);
  }
  const description = `${spec.description}\n${JSON.stringify(spec.tags)}`;
  if (description.length > DESCRIPTION_LENGTH) {
    throw new CloudError("invalid", `Description and facts have more than ${DESCRIPTION_LENGTH} characters.`, {
      ...details,
      next: "Shorten the system's tags.",
    });
  }
  const features = architecture === "X86_64" ? [...FEATURES, ...FEATURES_X86] : FEATURES;
  return {
    ...{ name: spec.name, description, architecture, storageLocations: [session.options.storageLocation] },
    guestOsFeatures: features.map((type) => ({ type })),
    rawDisk: {
      containerType: "TAR",
      source: `https://storage.googleapis.com/${session.options.bucket}/${archiveName(session, staged.key)}`,
    },
    labels: {
      [LABEL.key]: spec.key,
      [LABEL.disk]: spec.diskKey,
      [LABEL.owner]: session.owner,
      ...(spec.family ? { [LABEL.family]: spec.family } : {}),
    },
  };
}

/** Starts a change and follows its operation to the end. @throws CloudError what the operation failed with */
export async function change(
  session: GcpSession,
  operation: string,
  name: string,
  what: Call,
  call: CallContext,
): Promise<void> {
  const ask = { operation, subject: imageId(session, name) };
  let last = await session.ask(ask, what, call);
  const id = String(last.name ?? "");
  const path = `/compute/v1/projects/${encodeURIComponent(session.options.project)}/global/operations/${id}`;
  await polled(session, operation, name, call, async () => {
    if (last.status !== "DONE") {
      last = await session.ask({ operation: "globalOperations.get", subject: id }, { service: "compute", path }, call);
    }
    return last.status === "DONE" ? undefined : "again";
  });
  const errors = record(last.error).errors;
  if (!Array.isArray(errors) || errors.length === 0) return;
  const { code, message } = record(errors[0]);
  throw refused(
    { status: Number(last.httpErrorStatusCode ?? 0), reason: String(code ?? ""), message: String(message ?? "") },
    ask,
    id,
  );
}

async function polled<T>(
  session: GcpSession,
  operation: string,
  name: string,
  call: CallContext,
  look: () => Promise<T | "again">,
): Promise<T> {
  const { pollFirst, pollMost, pollDeadline } = session.pace;
  const until = Date.now() + pollDeadline;
  for (let pause = pollFirst; ; pause = Math.min(pause * 2, pollMost)) {
    const seen = await look();
    if (seen !== "again") return seen;
    if (Date.now() > until) {
      throw new CloudError("unavailable", `${operation} is still under way after ${pollDeadline} ms.`, {
        ...{ cloud: "gcp", operation, subject: imageId(session, name) },
        next: "The step is repeated and follows it again.",
      });
    }
    await sleep(pause, undefined, { signal: call.signal }).catch(() => {});
  }
}

/** What is gone already is a success; what is not ours stays. */
export async function removeImage(
  session: GcpSession,
  name: string,
  key: ImageKey | undefined,
  call: CallContext,
): Promise<void> {
  const image = await lookAtImage(session, name, call);
  if (!image) return;
  if (!isOurs(session, image, key)) {
    throw new CloudError("conflict", `${name} is not the image that was to be removed.`, {
      ...{ cloud: "gcp", operation: "images.delete", subject: imageId(session, name) },
      next: "Look what it is, and remove it by hand.",
    });
  }
  const path = `${imagesPath(session)}/${name}`;
  await change(session, "images.delete", name, { method: "DELETE", service: "compute", path }, call).catch((error) => {
    if (codeOf(error) !== "not-found") throw error;
  });
}

function imageOf(answer: Record<string, unknown>): Image {
  const text = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return {
    name: String(answer.name ?? ""),
    status: String(answer.status ?? ""),
    family: text(answer.family),
    deprecated: text(record(answer.deprecated).state),
    labels: record(answer.labels) as Record<string, string>,
    description: text(answer.description) ?? "",
    created: text(answer.creationTimestamp),
  };
}
