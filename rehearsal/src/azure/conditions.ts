/** Conditional headers and leases: whether a request may touch a blob as it is now. */

import type { Blob, Lease } from "./blob-store.ts";
import { type Exchange, header } from "./exchange.ts";
import { refusals, StorageError } from "./storage-error.ts";

/** @throws StorageError 412, or 304 where a reader has the newest already */
export function checkReadConditions(exchange: Exchange, blob: Blob): void {
  const etags = etagConditions(exchange, blob);
  const dates = dateConditions(exchange, blob.modified);
  if (!etags.match || !dates.unmodified) throw refusals.conditionNotMet();
  if (!etags.noneMatch || !dates.modified) throw refusals.notModified();
}

/** @param blob undefined when the write would make it @throws StorageError 412, or 409 for "only if there is none" */
export function checkWriteConditions(exchange: Exchange, blob: Blob | undefined): void {
  const etags = etagConditions(exchange, blob);
  if (!etags.noneMatch && header(exchange, "if-none-match") === "*") {
    throw new StorageError(409, "BlobAlreadyExists", "The specified blob already exists.");
  }
  if (!etags.match || !etags.noneMatch) throw refusals.conditionNotMet();
  if (blob === undefined) return;
  const dates = dateConditions(exchange, blob.modified);
  if (!dates.modified || !dates.unmodified) throw refusals.conditionNotMet();
}

function etagConditions(exchange: Exchange, blob: Blob | undefined): { match: boolean; noneMatch: boolean } {
  const has = (list: string): boolean =>
    blob !== undefined &&
    (list.trim() === "*" || list.split(",").some((etag) => unquoted(etag) === unquoted(blob.etag)));
  const match = header(exchange, "if-match");
  const noneMatch = header(exchange, "if-none-match");
  return { match: match === undefined || has(match), noneMatch: noneMatch === undefined || !has(noneMatch) };
}

function unquoted(etag: string): string {
  return etag.trim().replace(/^"|"$/g, "");
}

function dateConditions(exchange: Exchange, modified: number): { modified: boolean; unmodified: boolean } {
  // HTTP dates are whole seconds.
  const second = Math.floor(modified / 1000);
  const read = (name: string): number | undefined => {
    const text = header(exchange, name);
    if (text === undefined) return undefined;
    const time = Date.parse(text);
    if (Number.isNaN(time)) throw refusals.headerValue(name, text);
    return Math.floor(time / 1000);
  };
  const since = read("if-modified-since");
  const until = read("if-unmodified-since");
  return { modified: since === undefined || second > since, unmodified: until === undefined || second <= until };
}

export function activeLease(blob: Blob, now: number): Lease | undefined {
  return blob.lease !== undefined && blob.lease.until > now ? blob.lease : undefined;
}

/** `state` and `status` as properties and lists show them. */
export function leaseState(blob: Blob, now: number): { state: string; status: string; duration: string | undefined } {
  const lease = activeLease(blob, now);
  if (lease !== undefined) {
    return { state: "leased", status: "locked", duration: lease.seconds === -1 ? "infinite" : "fixed" };
  }
  const state = blob.lease === undefined ? "available" : blob.lease.broken === true ? "broken" : "expired";
  return { state, status: "unlocked", duration: undefined };
}

/** A write to a leased blob has to name the lease; a reader may, and is then held to it. */
export function checkLease(exchange: Exchange, blob: Blob, kind: "read" | "write"): void {
  const given = header(exchange, "x-ms-lease-id");
  const lease = activeLease(blob, exchange.now);
  if (given === undefined) {
    if (lease === undefined || kind === "read") return;
    const message = "There is currently a lease on the blob and no lease ID was specified in the request.";
    throw new StorageError(412, "LeaseIdMissing", message);
  }
  if (lease === undefined) {
    const message = "A lease ID was specified, but the lease for the blob has expired.";
    throw new StorageError(412, blob.lease === undefined ? "LeaseNotPresentWithBlobOperation" : "LeaseLost", message);
  }
  if (lease.id !== given.toLowerCase()) {
    const message = "The lease ID specified did not match the lease ID for the blob.";
    throw new StorageError(412, "LeaseIdMismatchWithBlobOperation", message);
  }
}
