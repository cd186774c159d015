/**
 * Shared access signatures: a query that says what its bearer may do until when, with an HMAC over it by the account's
 * key. Those of the account and those for one container or blob, in the form that holds from version 2020-12-06 on;
 * older ones, stored policies, addresses and keys of users are not known here.
 * @see https://learn.microsoft.com/rest/api/storageservices/create-service-sas
 * @see https://learn.microsoft.com/rest/api/storageservices/create-account-sas
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { refusals, StorageError } from "./storage-error.ts";

export interface Access {
  readonly query: URLSearchParams;
  readonly account: string;
  /** Empty for account operations. */
  readonly container: string;
  /** Empty for container operations. */
  readonly blob: string;
  /** Letters of which one is enough. */
  readonly permissions: string;
  /** Milliseconds since 1970. */
  readonly now: number;
}

const OLDEST_VERSION = "2020-12-06";
/** Stored policy, network addresses, the key of a user, depth of a directory. */
const UNKNOWN = ["si", "sip", "skoid", "sdd"];

/** @param key the account's, base64. @throws StorageError 403; 501 for kinds that are not known */
export function checkSharedAccess(access: Access, key: string): void {
  const { query, now } = access;
  const field = (name: string): string => query.get(name) ?? "";
  const unknown = UNKNOWN.find((name) => query.has(name));
  if (unknown !== undefined) throw refusals.unknownOperation(`shared access signature with ${unknown}`);
  if (field("sv") < OLDEST_VERSION) throw refusals.unknownOperation("shared access signature before 2020-12-06");
  const ofAccount = query.has("ss");
  const signed = ofAccount ? ofTheAccount(access.account, field) : ofOneResource(access, field);
  const right = createHmac("sha256", Buffer.from(key, "base64")).update(signed).digest();
  const given = Buffer.from(field("sig"), "base64");
  if (given.length !== right.length || !timingSafeEqual(given, right)) {
    throw unauthenticated("Signature did not match.");
  }
  const [start, expiry] = [field("st") === "" ? 0 : Date.parse(field("st")), Date.parse(field("se"))];
  // A time that cannot be read is none.
  if (!(start <= now && now < expiry)) throw unauthenticated("Signature not valid in the specified time frame.");

  const level = access.container === "" ? "s" : access.blob === "" ? "c" : "o";
  if (ofAccount && !field("ss").includes("b")) throw unauthorized("AuthorizationServiceMismatch", "service");
  if (ofAccount && !field("srt").includes(level))
    throw unauthorized("AuthorizationResourceTypeMismatch", "resource type");
  // For one container or blob: nothing of the account's, and of the container's own only the list of its blobs.
  const within = ofAccount || level === "o" || (level === "c" && access.permissions === "l" && field("sr") === "c");
  if (!within || ![...access.permissions].some((one) => field("sp").includes(one))) {
    throw unauthorized("AuthorizationPermissionMismatch", "permission");
  }
}

function ofOneResource({ account, container, blob }: Access, field: (name: string) => string): string {
  const kind = field("sr");
  if (kind !== "c" && kind !== "b") throw refusals.unknownOperation(`shared access signature for sr=${kind}`);
  const resource = `/blob/${account}/${container}${kind === "b" ? `/${blob}` : ""}`;
  const [snapshot, identifier, address] = ["", "", ""];
  return [
    ...[field("sp"), field("st"), field("se"), resource, identifier, address, field("spr"), field("sv"), kind],
    ...[snapshot, field("ses"), ...["rscc", "rscd", "rsce", "rscl", "rsct"].map(field)],
  ].join("\n");
}

function ofTheAccount(account: string, field: (name: string) => string): string {
  const fields = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv", "ses"].map(field);
  return `${[account, ...fields].join("\n")}\n`;
}

function unauthenticated(detail: string): StorageError {
  const message =
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.";
  return new StorageError(403, "AuthenticationFailed", message, { AuthenticationErrorDetail: detail });
}

function unauthorized(code: string, what: string): StorageError {
  return new StorageError(403, code, `This request is not authorized to perform this operation using this ${what}.`);
}
