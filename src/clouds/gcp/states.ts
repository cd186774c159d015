/** A state of an image is made of three things: whom its policy lets in, its family, its word of deprecation. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { Audience, ImageKey, LifecycleState } from "../../model.ts";
import { CloudError } from "../errors.ts";
import { record } from "./errors.ts";
import { change, type Image, imageId, isOurs, LABEL, lookAtImage } from "./images.ts";
import type { GcpSession } from "./session.ts";

const ROLE = "roles/compute.imageUser";
/** Read, change, write: somebody else may have written in between so often. */
const ROUNDS = 5;

/** Lets the audience in, then gives the image to its family. A second time changes nothing. */
export async function offerImage(
  session: GcpSession,
  name: string,
  key: ImageKey,
  audience: Audience,
  call: CallContext,
): Promise<void> {
  if (audience.to === "nobody") return withdrawImage(session, name, key, call);
  const image = await imageFor(session, name, key, "images.patch", call);
  const family = image.labels[LABEL.family];
  if (!family) {
    throw new CloudError("invalid", `${name} has no family to be offered in.`, {
      ...{ cloud: "gcp", operation: "images.patch", subject: imageId(session, name) },
      next: "Give the system's images a family.",
    });
  }
  await setMembers(session, name, membersOf(audience, name), call);
  await setDeprecation(session, image, "ACTIVE", call);
  await setFamily(session, image, family, call);
}

/** Takes it out of its family, then lets nobody in. */
export async function withdrawImage(
  session: GcpSession,
  name: string,
  key: ImageKey,
  call: CallContext,
): Promise<void> {
  const image = await imageFor(session, name, key, "images.patch", call);
  await setFamily(session, image, "", call);
  await setMembers(session, name, [], call);
  await setDeprecation(session, image, "ACTIVE", call);
}

export async function bringTo(
  session: GcpSession,
  name: string,
  key: ImageKey,
  state: Exclude<LifecycleState, "removed">,
  call: CallContext,
): Promise<void> {
  if (state === "candidate") return withdrawImage(session, name, key, call);
  const image = await imageFor(session, name, key, "images.deprecate", call);
  if (state === "active") {
    await setDeprecation(session, image, "ACTIVE", call);
    return setFamily(session, image, image.labels[LABEL.family] ?? "", call);
  }
  await setDeprecation(session, image, state === "deprecated" ? "DEPRECATED" : "OBSOLETE", call);
}

async function imageFor(
  session: GcpSession,
  name: string,
  key: ImageKey,
  operation: string,
  call: CallContext,
): Promise<Image> {
  const image = await lookAtImage(session, name, call);
  if (image && isOurs(session, image, key)) return image;
  throw new CloudError("not-found", image ? `${name} is another image now.` : `${name} is not there.`, {
    ...{ cloud: "gcp", operation, subject: imageId(session, name) },
  });
}

function imagePath({ options }: GcpSession, name: string): string {
  return `/compute/v1/projects/${encodeURIComponent(options.project)}/global/images/${name}`;
}

async function setFamily(
  session: GcpSession,
  { name, family }: Image,
  wanted: string,
  call: CallContext,
): Promise<void> {
  if ((family ?? "") === wanted) return;
  const json = { family: wanted };
  const what = { method: "PATCH" as const, service: "compute" as const, path: imagePath(session, name), json };
  await change(session, "images.patch", name, what, call);
}

/** The newest image of the same family that is not deprecated is named as its replacement. */
async function setDeprecation(session: GcpSession, image: Image, state: string, call: CallContext): Promise<void> {
  if ((image.deprecated ?? "ACTIVE") === state) return;
  const replacement = state === "ACTIVE" ? undefined : await replacementOf(session, image, call);
  const json = { state, ...(replacement ? { replacement } : {}) };
  const path = `${imagePath(session, image.name)}/deprecate`;
  await change(session, "images.deprecate", image.name, { method: "POST", service: "compute", path, json }, call);
}

async function replacementOf(session: GcpSession, image: Image, call: CallContext): Promise<string | undefined> {
  const family = image.family ?? image.labels[LABEL.family];
  if (!family) return undefined;
  try {
    const path = imagePath(session, `family/${family}`);
    const ask = { operation: "images.getFromFamily", subject: family };
    const newest = await session.ask(ask, { service: "compute", path }, call);
    if (newest.name === image.name || typeof newest.name !== "string") return undefined;
    return `https://www.googleapis.com/compute/v1/${imageId(session, newest.name)}`;
  } catch (error) {
    if (codeOf(error) === "not-found") return undefined;
    throw error;
  }
}

function membersOf(audience: Exclude<Audience, { to: "nobody" }>, name: string): string[] {
  if (audience.to === "public") return ["allAuthenticatedUsers"];
  const wrong = audience.accounts.find((one) => !/^(user|group|serviceAccount|domain):\S+$/.test(one));
  if (wrong === undefined) return [...audience.accounts].sort();
  throw new CloudError("invalid", `"${wrong}" is nobody Google Cloud can let in.`, {
    ...{ cloud: "gcp", operation: "images.setIamPolicy", subject: name },
    next: "Write user:ADDRESS, group:ADDRESS, serviceAccount:ADDRESS or domain:NAME.",
  });
}

/** Sets who may use the image; other roles of the policy stay. */
async function setMembers(session: GcpSession, name: string, members: string[], call: CallContext): Promise<void> {
  const subject = imageId(session, name);
  for (let round = 1; ; round++) {
    const path = imagePath(session, name);
    const read = { service: "compute" as const, path: `${path}/getIamPolicy` };
    const policy = await session.ask({ operation: "images.getIamPolicy", subject }, read, call);
    const bindings = (Array.isArray(policy.bindings) ? policy.bindings : []).map(record);
    const present = bindings.find((binding) => binding.role === ROLE)?.members;
    if (JSON.stringify([...(Array.isArray(present) ? present : [])].sort()) === JSON.stringify(members)) return;
    const others = bindings.filter((binding) => binding.role !== ROLE);
    const json = {
      policy: { ...policy, bindings: members.length > 0 ? [...others, { role: ROLE, members }] : others },
    };
    const write = { method: "POST" as const, service: "compute" as const, path: `${path}/setIamPolicy`, json };
    try {
      await session.ask({ operation: "images.setIamPolicy", subject }, write, call);
      return;
    } catch (error) {
      if (codeOf(error) !== "conflict" || round === ROUNDS) throw error;
    }
  }
}
