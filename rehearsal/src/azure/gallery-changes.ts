/** What the changes of galleries, definitions and versions have in common. */
import { asText, type JsonObject } from "./arm-body.ts";
import { ArmError, armRefusals } from "./arm-error.ts";
import { type ComputeState, endOperation, type Operation, type Resource, startOperation } from "./gallery-state.ts";
import { regionDisplayName, regionName } from "./regions.ts";

/** What a write answers: the resource as it is now, and the operation to follow. */
export interface Started {
  readonly created: boolean;
  readonly body: JsonObject | undefined;
  readonly operation: Operation;
}

export function locationOf(request: JsonObject, target: string): string {
  const location = asText(request.location);
  if (location === undefined || location === "") {
    throw new ArmError(400, "LocationRequired", "The location property is required for this definition.", target);
  }
  if (regionDisplayName(location) === undefined) {
    throw new ArmError(
      400,
      "LocationNotAvailableForResourceType",
      `The provided location '${location}' is not available for resource type 'Microsoft.Compute/galleries'.`,
      target,
    );
  }
  return regionName(location);
}

export function startChange(state: ComputeState, resource: Resource, now: number): Operation {
  if (resource.provisioning === "Deleting") throw armRefusals.conflict();
  if (resource.provisioning !== "Creating") resource.provisioning = "Updating";
  return startOperation(state, now, async (at, operation) => {
    if (at < now + state.timings.operationMs) return;
    resource.provisioning = "Succeeded";
    endOperation(operation, at);
  });
}

export function startDeletion(
  state: ComputeState,
  resource: Resource,
  now: number,
  remove: () => void | Promise<void>,
): Operation {
  resource.provisioning = "Deleting";
  return startOperation(state, now, async (at, operation) => {
    if (at < now + state.timings.operationMs) return;
    endOperation(operation, at);
    await remove();
  });
}
