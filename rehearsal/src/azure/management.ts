/**
 * Azure Resource Manager as an image uploader sees it: who may do it, which resource is meant, long operations, lists in
 * pages. What a gallery does is in `galleries.ts` and `versions.ts`.
 * @see https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
 */

import {
  locations,
  permissions,
  resourceGroup,
  storageAccount,
  storageKeys,
  subscription,
  usages,
} from "./account-resources.ts";
import { ArmError, armErrorAnswer, json } from "./arm-error.ts";
import { communityGallery, communityImage, communityImages, communityVersion, communityVersions } from "./community.ts";
import { definitionBody, deleteDefinition, listDefinitions, putDefinition } from "./definitions.ts";
import { type Answer, type Exchange, header } from "./exchange.ts";
import { deleteGallery, galleryBody, listGalleries, putGallery, shareGallery } from "./galleries.ts";
import { type ComputeState, findDefinition, findGallery, findVersion, settle } from "./gallery-state.ts";
import { type Call, deleted, type ManagementSettings, operationLinks, page, started } from "./management-call.ts";
import { isDenied } from "./permissions.ts";
import type { TokenClaims, TokenMint } from "./tokens.ts";
import { listVersions, versionBody } from "./version-view.ts";
import { deleteVersion, putVersion } from "./versions.ts";

interface Route {
  readonly pattern: RegExp;
  /** RBAC action; its scope is the path. */
  readonly action: string;
  readonly run: (call: Call) => Answer | Promise<Answer>;
}

const GALLERY = "resourceGroups/RG/providers/Microsoft.Compute/galleries";
const COMMUNITY = "providers/Microsoft.Compute/locations/*/communityGalleries";

/** `*` is any one segment; everything stands below the subscription. */
const ROUTES: readonly Route[] = [
  route("GET", "", "Microsoft.Resources/subscriptions/read", subscription),
  route("GET", "locations", "Microsoft.Resources/subscriptions/locations/read", locations),
  route("GET", "resourceGroups/RG", "Microsoft.Resources/subscriptions/resourceGroups/read", resourceGroup),
  route(
    "GET",
    "resourceGroups/RG/providers/Microsoft.Authorization/permissions",
    "Microsoft.Authorization/permissions/read",
    permissions,
  ),
  route(
    "GET",
    "resourceGroups/RG/providers/Microsoft.Storage/storageAccounts/*",
    "Microsoft.Storage/storageAccounts/read",
    storageAccount,
  ),
  route(
    "POST",
    "resourceGroups/RG/providers/Microsoft.Storage/storageAccounts/*/listKeys",
    "Microsoft.Storage/storageAccounts/listKeys/action",
    storageKeys,
  ),
  route("GET", "providers/Microsoft.Compute/locations/*/usages", "Microsoft.Compute/locations/usages/read", usages),
  route(
    "GET",
    "providers/Microsoft.Compute/locations/*/capsOperations/*",
    "Microsoft.Compute/locations/capsOperations/read",
    operationStatus,
  ),

  route("GET", "providers/Microsoft.Compute/galleries", "Microsoft.Compute/galleries/read", galleryList),
  route("GET", GALLERY, "Microsoft.Compute/galleries/read", galleryList),
  route("GET", `${GALLERY}/*`, "Microsoft.Compute/galleries/read", ({ state, at: [name] }) =>
    json(200, galleryBody(state, findGallery(state, name))),
  ),
  route("PUT", `${GALLERY}/*`, "Microsoft.Compute/galleries/write", (call) =>
    started(call, putGallery(call.state, call.at[0], call.exchange.body, call.exchange.now, "PUT")),
  ),
  route("PATCH", `${GALLERY}/*`, "Microsoft.Compute/galleries/write", (call) =>
    started(call, putGallery(call.state, call.at[0], call.exchange.body, call.exchange.now, "PATCH")),
  ),
  route("DELETE", `${GALLERY}/*`, "Microsoft.Compute/galleries/delete", (call) =>
    deleted(call, deleteGallery(call.state, call.at[0], call.exchange.now)),
  ),
  route("POST", `${GALLERY}/*/share`, "Microsoft.Compute/galleries/share/action", (call) =>
    started(call, shareGallery(call.state, call.at[0], call.exchange.body, call.exchange.now)),
  ),

  route("GET", `${GALLERY}/*/images`, "Microsoft.Compute/galleries/images/read", (call) =>
    page(call, listDefinitions(call.state, call.at[0], call.exchange.now)),
  ),
  route("GET", `${GALLERY}/*/images/*`, "Microsoft.Compute/galleries/images/read", getDefinition),
  route("PUT", `${GALLERY}/*/images/*`, "Microsoft.Compute/galleries/images/write", (call) =>
    started(call, putDefinition(call.state, call.at[0], call.at[1], call.exchange.body, call.exchange.now, "PUT")),
  ),
  route("PATCH", `${GALLERY}/*/images/*`, "Microsoft.Compute/galleries/images/write", (call) =>
    started(call, putDefinition(call.state, call.at[0], call.at[1], call.exchange.body, call.exchange.now, "PATCH")),
  ),
  route("DELETE", `${GALLERY}/*/images/*`, "Microsoft.Compute/galleries/images/delete", (call) =>
    deleted(call, deleteDefinition(call.state, call.at[0], call.at[1], call.exchange.now)),
  ),

  route("GET", `${GALLERY}/*/images/*/versions`, "Microsoft.Compute/galleries/images/versions/read", (call) =>
    page(call, listVersions(call.state, call.at[0], call.at[1], call.exchange.now)),
  ),
  route("GET", `${GALLERY}/*/images/*/versions/*`, "Microsoft.Compute/galleries/images/versions/read", getVersion),
  route("PUT", `${GALLERY}/*/images/*/versions/*`, "Microsoft.Compute/galleries/images/versions/write", async (call) =>
    started(call, await putVersion(call.state, versionNames(call), call.exchange.body, call.exchange.now, "PUT")),
  ),
  route(
    "PATCH",
    `${GALLERY}/*/images/*/versions/*`,
    "Microsoft.Compute/galleries/images/versions/write",
    async (call) =>
      started(call, await putVersion(call.state, versionNames(call), call.exchange.body, call.exchange.now, "PATCH")),
  ),
  route("DELETE", `${GALLERY}/*/images/*/versions/*`, "Microsoft.Compute/galleries/images/versions/delete", (call) =>
    deleted(call, deleteVersion(call.state, versionNames(call), call.exchange.now)),
  ),

  route(
    "GET",
    `${COMMUNITY}/*`,
    "Microsoft.Compute/locations/communityGalleries/read",
    ({ state, at: [region, name] }) => json(200, communityGallery(state, region, name)),
  ),
  route("GET", `${COMMUNITY}/*/images`, "Microsoft.Compute/locations/communityGalleries/images/read", (call) =>
    page(call, communityImages(call.state, call.at[0], call.at[1])),
  ),
  route(
    "GET",
    `${COMMUNITY}/*/images/*`,
    "Microsoft.Compute/locations/communityGalleries/images/read",
    ({ state, at }) => json(200, communityImage(state, ...at)),
  ),
  route(
    "GET",
    `${COMMUNITY}/*/images/*/versions`,
    "Microsoft.Compute/locations/communityGalleries/images/versions/read",
    (call) => page(call, communityVersions(call.state, ...call.at)),
  ),
  route(
    "GET",
    `${COMMUNITY}/*/images/*/versions/*`,
    "Microsoft.Compute/locations/communityGalleries/images/versions/read",
    ({ state, at, exchange }) => json(200, communityVersion(state, ...at, exchange.path.at(-1) ?? "")),
  ),
];

function route(method: string, path: string, action: string, run: Route["run"]): Route {
  const segments = path.split("/").filter((segment) => segment !== "");
  const parts = segments.map((segment) =>
    segment === "*" ? "([^/]+)" : segment === "RG" ? "[^/]+" : segment.replaceAll(".", "\\."),
  );
  // Resource names and the words between them are the same in any case.
  return { pattern: new RegExp(`^${method} ${["/subscriptions/[^/]+", ...parts].join("/")}/?$`, "i"), action, run };
}

export function createManagement(
  state: ComputeState,
  settings: ManagementSettings,
  mint: TokenMint,
): (exchange: Exchange) => Promise<Answer> {
  return async (exchange) => {
    let answer: Answer;
    try {
      answer = await serve({ exchange, state, settings, at: ["", "", ""] }, mint);
    } catch (error) {
      if (!(error instanceof ArmError)) throw error;
      answer = armErrorAnswer(error);
      if (error.status === 401)
        answer = { ...answer, headers: { ...answer.headers, ...challenge(exchange, settings) } };
    }
    return { ...answer, headers: { ...commonHeaders(exchange), ...answer.headers } };
  };
}

async function serve(call: Call, mint: TokenMint): Promise<Answer> {
  const { exchange, state, settings } = call;
  const claims = authenticate(exchange, mint);
  await settle(state, exchange.now);
  checkApiVersion(exchange);
  for (const { pattern, action, run } of ROUTES) {
    const match = pattern.exec(`${exchange.method} ${exchange.rawPath}`);
    if (match === null) continue;
    checkScope(exchange, state, settings, claims, action);
    const [first = "", second = "", third = ""] = match.slice(1).map(decodeURIComponent);
    const answer = await run({ ...call, at: [first, second, third] });
    // What takes no time is over before the client asks for the first time.
    await settle(state, exchange.now);
    return answer;
  }
  throw new ArmError(
    501,
    "NotImplemented",
    `The simulated management API has no operation "${exchange.method} ${exchange.rawPath}".`,
  );
}

function authenticate(exchange: Exchange, mint: TokenMint): TokenClaims {
  const token = /^Bearer (.+)$/i.exec(header(exchange, "authorization") ?? "")?.[1];
  if (token === undefined) {
    throw new ArmError(401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.");
  }
  const accepted = ["https://management.azure.com", "https://management.core.windows.net", exchange.origin];
  const claims = mint.check(token, (audience) => accepted.includes(audience), exchange.now / 1000);
  if (claims === "expired") {
    throw new ArmError(
      401,
      "ExpiredAuthenticationToken",
      "The access token expiry UTC time is earlier than current UTC time.",
    );
  }
  if (claims === "audience") {
    throw new ArmError(
      401,
      "InvalidAuthenticationTokenAudience",
      `The access token has been obtained for wrong audience or resource. It should exactly match with one of the allowed audiences '${accepted.join("','")}'.`,
    );
  }
  if (claims === "malformed") throw new ArmError(401, "InvalidAuthenticationToken", "The access token is invalid.");
  return claims;
}

function challenge(exchange: Exchange, settings: ManagementSettings): Record<string, string> {
  const uri = `${exchange.origin}/${settings.tenantId}`;
  return {
    "www-authenticate": `Bearer authorization_uri="${uri}", error="invalid_token", error_description="The access token is missing or not acceptable."`,
  };
}

function checkApiVersion(exchange: Exchange): void {
  const version = exchange.query.get("api-version");
  if (version === null || version === "") {
    throw new ArmError(
      400,
      "MissingApiVersionParameter",
      "The api-version query parameter (?api-version=) is required for all requests.",
    );
  }
  if (!/^20\d\d-\d\d-\d\d(-preview)?$/.test(version)) {
    throw new ArmError(
      400,
      "InvalidApiVersionParameter",
      `The api-version '${version}' is invalid. The supported versions are dates.`,
    );
  }
}

/** Subscription, permission and resource group, in the order the service looks at them. */
function checkScope(
  exchange: Exchange,
  state: ComputeState,
  settings: ManagementSettings,
  claims: TokenClaims,
  action: string,
): void {
  const subscription = exchange.path[1] ?? "";
  if (claims.tid !== settings.tenantId) {
    checkOutsider(exchange, state, settings, claims, action);
    return;
  }
  if (subscription.toLowerCase() !== state.subscriptionId.toLowerCase()) {
    throw new ArmError(404, "SubscriptionNotFound", `The subscription '${subscription}' could not be found.`);
  }
  if (isDenied(settings.denied(), action)) {
    throw new ArmError(
      403,
      "AuthorizationFailed",
      `The client '${claims.appid}' with object id '${claims.oid}' does not have authorization to perform action '${action}' over scope '${decodeURIComponent(exchange.rawPath)}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
    );
  }
  const group = exchange.path[2]?.toLowerCase() === "resourcegroups" ? exchange.path[3] : undefined;
  if (group !== undefined && group.toLowerCase() !== state.resourceGroup.toLowerCase()) {
    throw new ArmError(404, "ResourceGroupNotFound", `Resource group '${group}' could not be found.`);
  }
}

/** People of another tenant have nothing in their own subscription but the view of galleries that everybody has. */
function checkOutsider(
  exchange: Exchange,
  state: ComputeState,
  settings: ManagementSettings,
  claims: TokenClaims,
  action: string,
): void {
  const subscription = (exchange.path[1] ?? "").toLowerCase();
  if (subscription === state.subscriptionId.toLowerCase()) {
    throw new ArmError(
      401,
      "InvalidAuthenticationTokenTenant",
      `The access token is from the wrong issuer '${claims.iss}'. It must match the tenant '${settings.tenantId}' associated with this subscription.`,
    );
  }
  if (subscription !== settings.outsiderSubscription?.toLowerCase()) {
    throw new ArmError(404, "SubscriptionNotFound", `The subscription '${subscription}' could not be found.`);
  }
  if (!/\/communityGalleries\//i.test(exchange.rawPath)) {
    throw new ArmError(
      403,
      "AuthorizationFailed",
      `The client '${claims.appid}' with object id '${claims.oid}' does not have authorization to perform action '${action}' over scope '${decodeURIComponent(exchange.rawPath)}' or the scope is invalid. If access was recently granted, please refresh your credentials.`,
    );
  }
}

function operationStatus({ state, exchange, settings, at: [, id] }: Call): Answer {
  const operation = state.operations.get(id);
  if (operation === undefined) throw new ArmError(404, "NotFound", `The operation '${id}' was not found.`);
  const running = operation.status === "InProgress";
  const wait = running ? { "retry-after": settings.retryAfterSeconds } : {};
  if (exchange.query.get("monitor") === "true") {
    if (running) return { status: 202, headers: { ...operationLinks(exchange, operation), ...wait } };
    return operation.error === undefined ? { status: 204 } : armErrorAnswer(operation.error);
  }
  return json(
    200,
    {
      name: operation.id,
      status: operation.status,
      startTime: new Date(operation.started).toISOString(),
      ...(operation.ended === undefined ? {} : { endTime: new Date(operation.ended).toISOString() }),
      ...(operation.error === undefined ? {} : { error: operation.error.body }),
    },
    wait,
  );
}

function galleryList(call: Call): Answer {
  return page(call, listGalleries(call.state, call.exchange.now));
}

function getDefinition({ state, at: [gallery, name] }: Call): Answer {
  return json(200, definitionBody(state, findGallery(state, gallery), findDefinition(state, gallery, name)));
}

function getVersion(call: Call): Answer {
  const { state, exchange } = call;
  const names = versionNames(call);
  const expand = (exchange.query.get("$expand") ?? "").split(",").includes("ReplicationStatus");
  const version = findVersion(state, names.gallery, names.definition, names.version);
  return json(200, versionBody(state, names, version, exchange.now, expand));
}

/** Names as they were given when the resources were made, where they exist: ids in answers keep that form. */
function versionNames({ state, at: [gallery, definition, version] }: Call): {
  gallery: string;
  definition: string;
  version: string;
} {
  const known = state.galleries.get(gallery.toLowerCase());
  const image = known?.definitions.get(definition.toLowerCase());
  return { gallery: known?.name ?? gallery, definition: image?.name ?? definition, version };
}

function commonHeaders(exchange: Exchange): Record<string, string | undefined> {
  return {
    "cache-control": "no-cache",
    "x-ms-request-id": exchange.requestId,
    "x-ms-correlation-request-id": exchange.requestId,
    "x-ms-routing-request-id": `REHEARSAL:${exchange.requestId}`,
    "x-ms-client-request-id": header(exchange, "x-ms-client-request-id"),
    date: new Date(exchange.now).toUTCString(),
  };
}
