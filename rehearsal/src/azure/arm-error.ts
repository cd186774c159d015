/** The management API's refusals: `{error: {code, message, target?}}`. */
import type { Answer } from "./exchange.ts";

export class ArmError extends Error {
  readonly status: number;
  readonly code: string;
  readonly target: string | undefined;

  constructor(status: number, code: string, message: string, target?: string) {
    super(message);
    this.status = status;
    this.code = code;
    this.target = target;
  }

  get body(): { code: string; message: string; target?: string } {
    return { code: this.code, message: this.message, ...(this.target === undefined ? {} : { target: this.target }) };
  }
}

export function armErrorAnswer(error: ArmError): Answer {
  return json(error.status, { error: error.body }, { "x-ms-failure-cause": "gateway" });
}

export function json(status: number, body: object, headers: Record<string, string | number | undefined> = {}): Answer {
  return {
    status,
    headers: { "content-type": "application/json; charset=utf-8", ...headers },
    body: JSON.stringify(body),
  };
}

/** Sentences as the service writes them, where one was seen; the rest says the same in its manner. */
export const armRefusals = {
  notFound: (type: string, name: string, resourceGroup: string) =>
    new ArmError(
      404,
      "ResourceNotFound",
      `The Resource '${type}/${name}' under resource group '${resourceGroup}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix`,
    ),
  parentNotFound: (parent: string) =>
    new ArmError(
      404,
      "ParentResourceNotFound",
      `Failed to perform 'write' on resource because the parent resource '${parent}' could not be found.`,
    ),
  missing: (target: string) =>
    new ArmError(400, "InvalidParameter", `Required parameter '${target}' is missing (null).`, target),
  invalid: (target: string, message: string) => new ArmError(400, "InvalidParameter", message, target),
  unchangeable: (target: string) =>
    new ArmError(409, "PropertyChangeNotAllowed", `Changing property '${target}' is not allowed.`, target),
  conflict: () =>
    new ArmError(
      409,
      "Conflict",
      "The request failed due to conflict with a concurrent request. To resolve it, please refer to https://aka.ms/activitylog to get more details on the conflicting requests.",
    ),
  nested: (children: readonly string[]) =>
    new ArmError(
      409,
      "CannotDeleteResource",
      `Cannot delete resource while nested resources exist. Some existing nested resource IDs include: '${children.join(", ")}'. Please delete all nested resources before deleting this resource.`,
    ),
  quota: (what: string, limit: number) =>
    new ArmError(
      409,
      "QuotaExceeded",
      `The maximum number of ${what} (${limit}) in this subscription and region has been reached. Please delete some or request a higher limit.`,
    ),
};
