/**
 * The least a role needs on the target's resource group, as data: shipped, printed and checked from this one list.
 * @see https://learn.microsoft.com/azure/role-based-access-control/resource-provider-operations
 */
export interface AzureAction {
  readonly action: string;
  /** `data`: what is done with blobs; listed apart in a role. */
  readonly plane: "control" | "data";
  /** Why it is needed; for the printed role. */
  readonly why: string;
}

export const AZURE_ACTIONS: readonly AzureAction[] = [
  control("Microsoft.Authorization/permissions/read", "check what is allowed before a byte is sent"),
  control("Microsoft.Resources/subscriptions/resourceGroups/read", "check the resource group"),
  control("Microsoft.Compute/galleries/read", "find the gallery"),
  control("Microsoft.Compute/galleries/images/read", "find and list definitions"),
  control("Microsoft.Compute/galleries/images/write", "make a definition for a new release"),
  control("Microsoft.Compute/galleries/images/versions/read", "find and list versions, follow replication"),
  control("Microsoft.Compute/galleries/images/versions/write", "make, replicate and promote versions"),
  control("Microsoft.Compute/galleries/images/versions/delete", "retire versions"),
  control("Microsoft.Compute/locations/*/read", "follow long operations, read quotas"),
  control("Microsoft.Storage/storageAccounts/read", "name the storage account as a version's source"),
  control("Microsoft.Storage/storageAccounts/listKeys/action", "let the gallery copy the blob into a version"),
  control("Microsoft.Storage/storageAccounts/blobServices/containers/read", "find the container"),
  data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", "resume uploads, read disks back"),
  data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write", "upload disks"),
  data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action", "upload disks"),
  data("Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete", "remove staged disks"),
];

function control(action: string, why: string): AzureAction {
  return { action, plane: "control", why };
}

function data(action: string, why: string): AzureAction {
  return { action, plane: "data", why };
}

/** One entry of Microsoft.Authorization/permissions: what is granted, and what is taken out of it again. */
export interface Permission {
  readonly actions?: readonly string[] | undefined;
  readonly notActions?: readonly string[] | undefined;
  readonly dataActions?: readonly string[] | undefined;
  readonly notDataActions?: readonly string[] | undefined;
}

/** The needed actions that no entry grants. Entries add up; an exclusion counts within its own entry only. */
export function missingActions(permissions: readonly Permission[]): AzureAction[] {
  return AZURE_ACTIONS.filter(({ action, plane }) => {
    return !permissions.some((entry) => {
      const granted = (plane === "control" ? entry.actions : entry.dataActions) ?? [];
      const excluded = (plane === "control" ? entry.notActions : entry.notDataActions) ?? [];
      // `Microsoft.Compute/locations/*/read` is asked for as one of what it stands for.
      const asked = action.replace("*", "any");
      return granted.some((one) => covers(one, asked)) && !excluded.some((one) => covers(one, asked));
    });
  });
}

/** Case does not count, and a `*` stands for anything, slashes included. */
function covers(pattern: string, action: string): boolean {
  const escaped = pattern.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`, "i").test(action);
}
