/** Azure's role-based access: an action is a path of words, a denial may end in or contain `*`. Case does not count. */

/** What the uploader's role grants on its resource group, in the shape of a role definition. */
export const GRANTED_ACTIONS: readonly string[] = [
  "Microsoft.Authorization/permissions/read",
  "Microsoft.Compute/galleries/*",
  "Microsoft.Compute/locations/*/read",
  "Microsoft.Resources/subscriptions/read",
  "Microsoft.Resources/subscriptions/resourceGroups/read",
  "Microsoft.Resources/subscriptions/locations/read",
  "Microsoft.Storage/storageAccounts/read",
  "Microsoft.Storage/storageAccounts/listKeys/action",
  "Microsoft.Storage/storageAccounts/blobServices/read",
  "Microsoft.Storage/storageAccounts/blobServices/containers/*",
];

export const GRANTED_DATA_ACTIONS: readonly string[] = [
  "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*",
];

export function isDenied(denied: readonly string[], action: string): boolean {
  return denied.some((pattern) => matches(pattern, action));
}

function matches(pattern: string, action: string): boolean {
  const escaped = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`, "i").test(action);
}

/** Control plane and data plane are listed apart in a role. */
export function isDataAction(action: string): boolean {
  return /\/containers\/blobs\//i.test(action);
}
