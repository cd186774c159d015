/** One call of the management API, and the forms its answers take: started, deleted, a page of a list. */
import type { JsonObject } from "./arm-body.ts";
import { json } from "./arm-error.ts";
import { type Answer, type Exchange, wholeNumber } from "./exchange.ts";
import type { Started } from "./gallery-changes.ts";
import type { ComputeState, Operation } from "./gallery-state.ts";

export interface ManagementSettings {
  readonly tenantId: string;
  /** The one subscription that people of other tenants may act in. */
  readonly outsiderSubscription: string | undefined;
  readonly accountKey: string;
  /** Where the blob service is; undefined: at the same address, by path. */
  readonly blobEndpoint: string | undefined;
  readonly denied: () => readonly string[];
  /** Seconds between polls, as the service asks for. */
  readonly retryAfterSeconds: number;
  readonly pageSize: number;
}

export interface Call {
  readonly exchange: Exchange;
  readonly state: ComputeState;
  readonly settings: ManagementSettings;
  /** The variable parts of the path, in order, decoded. */
  readonly at: readonly [string, string, string];
}

export function started({ exchange, settings }: Call, { created, body, operation }: Started): Answer {
  const links = {
    "azure-asyncoperation": operationLinks(exchange, operation)["azure-asyncoperation"],
    "azure-asyncnotification": "Enabled",
  };
  return json(created ? 201 : 200, body ?? {}, { ...links, "retry-after": settings.retryAfterSeconds });
}

export function deleted({ exchange, settings }: Call, operation: Operation | undefined): Answer {
  if (operation === undefined) return { status: 204 };
  return {
    status: 202,
    headers: { ...operationLinks(exchange, operation), "retry-after": settings.retryAfterSeconds },
  };
}

export function operationLinks(exchange: Exchange, operation: Operation): Record<string, string> {
  const version = exchange.query.get("api-version") ?? "";
  const base = `${exchange.origin}/subscriptions/${exchange.path[1]}/providers/Microsoft.Compute/locations/eastus/capsOperations/${operation.id}`;
  return {
    "azure-asyncoperation": `${base}?api-version=${version}`,
    location: `${base}?monitor=true&api-version=${version}`,
  };
}

export function page({ exchange, settings }: Call, items: readonly JsonObject[]): Answer {
  const from = wholeNumber(exchange.query.get("$skiptoken") ?? undefined) ?? 0;
  const value = items.slice(from, from + settings.pageSize);
  const next = from + settings.pageSize;
  if (next >= items.length) return json(200, { value });
  const version = exchange.query.get("api-version") ?? "";
  return json(200, {
    value,
    nextLink: `${exchange.origin}${exchange.rawPath}?api-version=${version}&$skiptoken=${next}`,
  });
}
