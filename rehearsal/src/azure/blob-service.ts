/**
 * Azure Blob Storage, page blobs only: who may do it, which operation is meant, and how the answer is dressed. The
 * operations themselves are in `container-operations.ts` and `blob-operations.ts`; the bytes in `page-data.ts`.
 *
 * Both addresses are served: `/<account>/<container>/<blob>`, and `<account>.blob.<anything>` as host.
 * @see https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
 */
import { leaseBlob } from "./blob-lease.ts";
import * as blobs from "./blob-operations.ts";
import type { BlobRequest } from "./blob-request.ts";
import type { BlobStore } from "./blob-store.ts";
import * as containers from "./container-operations.ts";
import { type Answer, type Exchange, header } from "./exchange.ts";
import { isDenied } from "./permissions.ts";
import { checkSharedAccess } from "./shared-access.ts";
import { sharedKeyIsRight } from "./shared-key.ts";
import { refusals, StorageError, storageErrorAnswer } from "./storage-error.ts";
import type { TokenMint } from "./tokens.ts";

export interface BlobServiceSettings {
  readonly account: string;
  readonly accountKey: string;
  readonly tenantId: string;
  /** RBAC actions that are refused. */
  readonly denied: () => readonly string[];
}

interface Operation {
  readonly name: string;
  /** Under `Microsoft.Storage/storageAccounts/blobServices/containers/`. */
  readonly action: string;
  readonly run: (request: BlobRequest) => Answer | Promise<Answer>;
}

/** Method, what it points at, and the `restype` and `comp` that tell operations apart. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  "GET account account properties": {
    name: "Get Account Information",
    action: "read",
    run: containers.getAccountInformation,
  },
  "HEAD account account properties": {
    name: "Get Account Information",
    action: "read",
    run: containers.getAccountInformation,
  },
  "GET account  list": { name: "List Containers", action: "read", run: containers.listContainers },
  "PUT container container ": { name: "Create Container", action: "write", run: containers.createContainer },
  "GET container container ": {
    name: "Get Container Properties",
    action: "read",
    run: containers.getContainerProperties,
  },
  "HEAD container container ": {
    name: "Get Container Properties",
    action: "read",
    run: containers.getContainerProperties,
  },
  "PUT container container metadata": {
    name: "Set Container Metadata",
    action: "write",
    run: containers.setContainerMetadata,
  },
  "DELETE container container ": { name: "Delete Container", action: "delete", run: containers.deleteContainer },
  "GET container container list": { name: "List Blobs", action: "blobs/read", run: containers.listBlobs },
  "GET container account properties": {
    name: "Get Account Information",
    action: "read",
    run: containers.getAccountInformation,
  },
  "HEAD container account properties": {
    name: "Get Account Information",
    action: "read",
    run: containers.getAccountInformation,
  },
  "GET blob account properties": {
    name: "Get Account Information",
    action: "read",
    run: containers.getAccountInformation,
  },
  "PUT blob  ": { name: "Put Blob", action: "blobs/write", run: blobs.putBlob },
  "PUT blob  page": { name: "Put Page", action: "blobs/write", run: blobs.putPage },
  "PUT blob  properties": { name: "Set Blob Properties", action: "blobs/write", run: blobs.setBlobProperties },
  "PUT blob  metadata": { name: "Set Blob Metadata", action: "blobs/write", run: blobs.setBlobMetadata },
  "PUT blob  tags": { name: "Set Blob Tags", action: "blobs/tags/write", run: blobs.setBlobTags },
  "PUT blob  lease": { name: "Lease Blob", action: "blobs/write", run: leaseBlob },
  "GET blob  ": { name: "Get Blob", action: "blobs/read", run: blobs.getBlob },
  "HEAD blob  ": { name: "Get Blob Properties", action: "blobs/read", run: blobs.getBlobProperties },
  "GET blob  pagelist": { name: "Get Page Ranges", action: "blobs/read", run: blobs.getPageRanges },
  "GET blob  tags": { name: "Get Blob Tags", action: "blobs/tags/read", run: blobs.getBlobTags },
  "DELETE blob  ": { name: "Delete Blob", action: "blobs/delete", run: blobs.deleteBlob },
};

export function createBlobService(
  settings: BlobServiceSettings,
  store: BlobStore,
  mint: TokenMint,
): (exchange: Exchange) => Promise<Answer> {
  return async (exchange) => {
    let answer: Answer;
    try {
      answer = await serve(exchange, settings, store, mint);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      answer = storageErrorAnswer(error, exchange);
    }
    return { ...answer, headers: { ...commonHeaders(exchange), ...answer.headers } };
  };
}

async function serve(
  exchange: Exchange,
  settings: BlobServiceSettings,
  store: BlobStore,
  mint: TokenMint,
): Promise<Answer> {
  const { account, container, blob } = targetOf(exchange);
  const operation = operationOf(exchange, container, blob);
  if (exchange.query.has("sig")) {
    const there = blob === "" ? store.containers.has(container) : store.containers.get(container)?.blobs.has(blob);
    const permissions = sharedPermissionsOf(operation, there === true);
    const { query, now } = exchange;
    checkSharedAccess({ query, now, account, container, blob, permissions }, settings.accountKey);
  } else authenticate(exchange, account, settings, mint);
  if (account !== settings.account) {
    throw new StorageError(
      404,
      "ResourceNotFound",
      `The specified resource does not exist. (There is no storage account "${account}".)`,
    );
  }
  const action = `Microsoft.Storage/storageAccounts/blobServices/containers/${operation.action}`;
  if (usesToken(exchange) && isDenied(settings.denied(), action)) {
    throw new StorageError(
      403,
      "AuthorizationPermissionMismatch",
      "This request is not authorized to perform this operation using this permission.",
    );
  }
  return operation.run({ exchange, store, account, container, blob });
}

function targetOf(exchange: Exchange): { account: string; container: string; blob: string } {
  const ofHost = /^([a-z0-9]{3,24})\.blob\./.exec(exchange.host)?.[1];
  const path = ofHost === undefined ? exchange.path.slice(1) : exchange.path;
  const [container = "", ...blob] = path;
  return { account: ofHost ?? exchange.path[0] ?? "", container, blob: blob.join("/") };
}

function operationOf(exchange: Exchange, container: string, blob: string): Operation {
  const { method, query } = exchange;
  const level = container === "" ? "account" : blob === "" ? "container" : "blob";
  const [restype, comp] = [query.get("restype") ?? "", query.get("comp") ?? ""];
  if (level === "blob" && method === "PUT" && comp === "" && header(exchange, "x-ms-copy-source") !== undefined) {
    throw refusals.unknownOperation("Copy Blob");
  }
  const operation = OPERATIONS[`${method} ${level} ${restype} ${comp}`];
  if (operation !== undefined) return operation;
  const details = [restype && `restype=${restype}`, comp && `comp=${comp}`].filter(Boolean).join("&");
  throw refusals.unknownOperation(`${method} ${level}${details === "" ? "" : ` ?${details}`}`);
}

/** The letters of a shared access signature of which one allows it. Who may create may not write over what is there. */
function sharedPermissionsOf({ name, action }: Operation, there: boolean): string {
  if (name.startsWith("List ")) return "l";
  if (name === "Put Blob" || name === "Create Container") return there ? "w" : "cw";
  if (action.startsWith("blobs/tags/")) return "t";
  return action.endsWith("read") ? "r" : action.endsWith("delete") ? "d" : "w";
}

function usesToken(exchange: Exchange): boolean {
  return /^Bearer /i.test(header(exchange, "authorization") ?? "");
}

/** @throws StorageError 401 or 403 */
function authenticate(exchange: Exchange, account: string, settings: BlobServiceSettings, mint: TokenMint): void {
  const authorization = header(exchange, "authorization");
  const challenge = {
    "www-authenticate": `Bearer authorization_uri=${exchange.origin}/${settings.tenantId}/oauth2/authorize resource_id=https://storage.azure.com`,
  };
  if (authorization === undefined) {
    const message =
      "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.";
    throw new StorageError(401, "NoAuthenticationInformation", message, {}, challenge);
  }
  if (authorization.startsWith("SharedKey ")) {
    if (sharedKeyIsRight(exchange, account, settings.accountKey)) return;
    const message =
      "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.";
    throw new StorageError(403, "AuthenticationFailed", message);
  }
  const token = /^Bearer (.+)$/i.exec(authorization)?.[1];
  const version = header(exchange, "x-ms-version");
  if (version === undefined || !/^\d{4}-\d{2}-\d{2}$/.test(version))
    throw refusals.headerValue("x-ms-version", version);
  const accepts = (audience: string): boolean =>
    audience === "https://storage.azure.com" || audience === `https://${account}.blob.core.windows.net`;
  const claims = token === undefined ? "malformed" : mint.check(token, accepts, exchange.now / 1000);
  if (typeof claims === "object" && claims.tid === settings.tenantId) return;
  const reason = {
    tenant: "Issuer validation failed. Issuer did not match.",
    malformed: "Signature validation failed.",
    expired: "Lifetime validation failed. The token is expired.",
    audience: "Audience validation failed. Audience did not match.",
  }[typeof claims === "object" ? "tenant" : claims];
  throw new StorageError(
    401,
    "InvalidAuthenticationInfo",
    "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
    { AuthenticationErrorDetail: reason },
    challenge,
  );
}

function commonHeaders(exchange: Exchange): Record<string, string | undefined> {
  return {
    server: "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0",
    "x-ms-request-id": exchange.requestId,
    "x-ms-client-request-id": header(exchange, "x-ms-client-request-id"),
    "x-ms-version": header(exchange, "x-ms-version") ?? "2009-09-19",
    date: new Date(exchange.now).toUTCString(),
  };
}
