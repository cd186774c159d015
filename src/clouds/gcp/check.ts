/** Whether the images could be made, asked before a byte is sent. Creates nothing. */
import type { CallContext } from "../../lib/call.ts";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import type { ImageSpec } from "../../model.ts";
import type { Finding } from "../cloud.ts";
import { record } from "./errors.ts";
import { foreignReason, imageId, isOurs, lookAtImage } from "./images.ts";
import type { GcpSession } from "./session.ts";

/** The least a service account needs, on the project and on the bucket. */
export const GCP_PERMISSIONS = {
  project: [
    "compute.images.create",
    "compute.images.delete",
    "compute.images.deprecate",
    "compute.images.get",
    "compute.images.getIamPolicy",
    "compute.images.list",
    "compute.images.setIamPolicy",
    "compute.images.setLabels",
    "compute.images.update",
    "compute.globalOperations.get",
    "compute.projects.get",
  ],
  bucket: [
    "storage.buckets.get",
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
  ],
} as const;

type Look = (session: GcpSession, specs: readonly ImageSpec[], call: CallContext) => Promise<Finding[]>;

export async function checkTarget(
  session: GcpSession,
  specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  const first = await looked(quota, session, specs, call);
  // Without a token every further look would say the same.
  if (first.some((one) => one.code === "unauthenticated")) return first;
  const rest = await Promise.all(
    [projectPermissions, bucketPermissions, bucket, names].map((look) => looked(look, session, specs, call)),
  );
  return [...first, ...rest.flat()];
}

/** What a look fails with is a finding. Only being stopped is not. */
async function looked(
  look: Look,
  session: GcpSession,
  specs: readonly ImageSpec[],
  call: CallContext,
): Promise<Finding[]> {
  try {
    return await look(session, specs, call);
  } catch (error) {
    if (codeOf(error) === "cancelled" || !(error instanceof SlipwayError)) throw error;
    const { code, message, next, subject = look.name } = error;
    return [{ severity: "error", subject, message, code, ...(next ? { next } : {}) }];
  }
}

async function quota(session: GcpSession, specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const { project } = session.options;
  const path = `/compute/v1/projects/${encodeURIComponent(project)}`;
  const answer = await session.ask({ operation: "projects.get", subject: project }, { service: "compute", path }, call);
  const quotas = (Array.isArray(answer.quotas) ? answer.quotas : []).map(record);
  const images = quotas.find((one) => one.metric === "IMAGES");
  if (!images) return [];
  const [used, limit] = [Number(images.usage), Number(images.limit)];
  const fits = used + specs.length <= limit;
  return [
    {
      severity: fits ? "info" : "error",
      subject: "images",
      message: `${used} of ${limit} images are used${fits ? "" : `; ${specs.length} more do not fit`}.`,
      ...(fits
        ? {}
        : { code: "quota" as const, next: "Remove old images or ask Google to raise the project's quota." }),
    },
  ];
}

async function projectPermissions(session: GcpSession, _: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const { project } = session.options;
  const permissions = GCP_PERMISSIONS.project;
  const path = `/v1/projects/${encodeURIComponent(project)}:testIamPermissions`;
  const ask = { operation: "projects.testIamPermissions", subject: project };
  let answer: Record<string, unknown>;
  try {
    answer = await session.ask(ask, { method: "POST", service: "resourceManager", path, json: { permissions } }, call);
  } catch (error) {
    // The API may be switched off in the project; that says nothing of the permissions.
    if (codeOf(error) !== "forbidden") throw error;
    const message = "The project may not be asked what the account is allowed, so it is not checked.";
    return [{ severity: "warning", subject: project, message, next: "Switch on cloudresourcemanager.googleapis.com." }];
  }
  return missing(permissions, answer, `the project ${project}`);
}

async function bucketPermissions(session: GcpSession, _: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const permissions = GCP_PERMISSIONS.bucket;
  const path = `/storage/v1/b/${encodeURIComponent(session.options.bucket)}/iam/testPermissions`;
  const ask = { operation: "buckets.testIamPermissions", subject: session.options.bucket };
  const answer = await session.ask(ask, { service: "storage", path, query: { permissions } }, call);
  return missing(permissions, answer, `the bucket ${session.options.bucket}`);
}

function missing(wanted: readonly string[], answer: Record<string, unknown>, where: string): Finding[] {
  const granted = Array.isArray(answer.permissions) ? answer.permissions : [];
  return wanted
    .filter((one) => !granted.includes(one))
    .map((one) => ({
      severity: "error",
      code: "forbidden",
      subject: one,
      message: `The service account lacks ${one} on ${where}.`,
      next: `Grant it a role with ${one} there.`,
    }));
}

async function bucket(session: GcpSession, _: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const { bucket: name, storageLocation } = session.options;
  const path = `/storage/v1/b/${encodeURIComponent(name)}`;
  const found = await session.ask({ operation: "buckets.get", subject: name }, { service: "storage", path }, call);
  const location = String(found.location ?? "").toLowerCase();
  if (location === storageLocation.toLowerCase()) return [];
  const message = `The bucket is in ${location}, images will be kept in ${storageLocation}: each import crosses over.`;
  return [{ severity: "warning", subject: name, message }];
}

async function names(session: GcpSession, specs: readonly ImageSpec[], call: CallContext): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const spec of specs) {
    const image = await lookAtImage(session, spec.name, call);
    if (!image || isOurs(session, image, spec.key)) continue;
    findings.push({
      severity: "error",
      code: "already-exists",
      subject: imageId(session, spec.name),
      message: `${spec.name} is there and is not this image: ${foreignReason(session, image)}.`,
      next: "Find out whose it is. Remove it there, or change the name pattern of the system.",
    });
  }
  return findings;
}
