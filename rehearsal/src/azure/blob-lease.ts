/** Leases: who may write to a blob for a while. */
import { randomUUID } from "node:crypto";
import { type BlobRequest, existingBlob, stamp } from "./blob-request.ts";
import { activeLease, checkWriteConditions } from "./conditions.ts";
import { type Answer, header } from "./exchange.ts";
import { refusals, StorageError } from "./storage-error.ts";

export function leaseBlob(request: BlobRequest): Answer {
  const { exchange } = request;
  const blob = existingBlob(request);
  checkWriteConditions(exchange, blob);
  const action = header(exchange, "x-ms-lease-action")?.toLowerCase();
  const given = header(exchange, "x-ms-lease-id")?.toLowerCase();
  const lease = activeLease(blob, exchange.now);
  if (action === "acquire") {
    const seconds = Number(header(exchange, "x-ms-lease-duration") ?? "-1");
    if (seconds !== -1 && !(seconds >= 15 && seconds <= 60))
      throw refusals.headerValue("x-ms-lease-duration", String(seconds));
    const id = header(exchange, "x-ms-proposed-lease-id")?.toLowerCase() ?? randomUUID();
    if (lease !== undefined && lease.id !== id) {
      throw new StorageError(409, "LeaseAlreadyPresent", "There is already a lease present.");
    }
    blob.lease = { id, seconds, until: seconds === -1 ? Infinity : exchange.now + seconds * 1000 };
    return { status: 201, headers: { ...stamp(blob), "x-ms-lease-id": id } };
  }
  if (action === "break") {
    if (lease === undefined)
      throw leaseConflict("LeaseNotPresentWithLeaseOperation", "There is currently no lease on the blob.");
    blob.lease = { ...lease, until: exchange.now, broken: true };
    return { status: 202, headers: { ...stamp(blob), "x-ms-lease-time": 0 } };
  }
  if (action !== "renew" && action !== "release" && action !== "change") {
    throw refusals.headerValue("x-ms-lease-action", action);
  }
  if (given === undefined) throw refusals.missingHeader("x-ms-lease-id");
  if (blob.lease === undefined || blob.lease.broken === true || blob.lease.id !== given) {
    throw leaseConflict(
      "LeaseIdMismatchWithLeaseOperation",
      "The lease ID specified did not match the lease ID for the blob.",
    );
  }
  const { seconds } = blob.lease;
  const id = action === "change" ? (header(exchange, "x-ms-proposed-lease-id")?.toLowerCase() ?? given) : given;
  blob.lease =
    action === "release"
      ? undefined
      : { id, seconds, until: seconds === -1 ? Infinity : exchange.now + seconds * 1000 };
  return { status: 200, headers: { ...stamp(blob), "x-ms-lease-id": action === "release" ? undefined : id } };
}

function leaseConflict(code: string, message: string): StorageError {
  return new StorageError(409, code, message);
}
