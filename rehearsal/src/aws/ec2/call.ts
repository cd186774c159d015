import type { Caller } from "../accounts.ts";
import { AwsFault } from "../fault.ts";
import type { Query } from "../query.ts";
import type { AwsImage, AwsSnapshot, AwsState } from "../state.ts";
import type { XmlValue } from "../xml.ts";

/** One EC2 request whose signature and permission were found right. */
export interface Ec2Call {
  readonly state: AwsState;
  readonly caller: Caller;
  readonly query: Query;
  readonly now: number;
}

/** Returns the members of `<OperationResponse>`, the request id left out. @throws AwsFault */
export type Ec2Operation = (call: Ec2Call) => { readonly [name: string]: XmlValue };

/** What most modifying calls answer with. */
export const DONE = { return: true } as const;

/** An image the caller may see in this region, as Describe calls would find it. @throws InvalidAMIID.* */
export function findImage(call: Ec2Call, id: string): AwsImage {
  if (!/^ami-[0-9a-f]{8,17}$/.test(id)) {
    throw new AwsFault("InvalidAMIID.Malformed", `Invalid id: "${id}" (expecting "ami-...")`);
  }
  const image = call.state.image(call.caller.region, id);
  if (image === undefined || image.visibleAt > call.now || !maySee(call, image)) throw imageNotFound(id);
  return image;
}

/** An image of the caller's own, still registered. */
export function ownImage(call: Ec2Call, id: string): AwsImage {
  const image = findImage(call, id);
  if (image.state === "deregistered") {
    throw new AwsFault("InvalidAMIID.Unavailable", `The image ID '${id}' is no longer available`);
  }
  if (image.owner !== call.caller.account) throw new AwsFault("AuthFailure", `Not authorized for image:${id}`, 403);
  return image;
}

export function imageNotFound(id: string): AwsFault {
  return new AwsFault("InvalidAMIID.NotFound", `The image id '[${id}]' does not exist`);
}

export function findSnapshot(call: Ec2Call, id: string): AwsSnapshot {
  if (!/^snap-[0-9a-f]{8,17}$/.test(id)) {
    throw new AwsFault(
      "InvalidParameterValue",
      `Value (${id}) for parameter snapshotId is invalid. Expected: 'snap-...'.`,
    );
  }
  const snapshot = call.state.snapshot(call.caller.region, id);
  if (snapshot === undefined || snapshot.visibleAt > call.now || !maySee(call, snapshot)) throw snapshotNotFound(id);
  return snapshot;
}

export function ownSnapshot(call: Ec2Call, id: string): AwsSnapshot {
  const snapshot = findSnapshot(call, id);
  if (snapshot.owner !== call.caller.account) {
    throw new AwsFault("AuthFailure", `Not authorized for snapshot:${id}`, 403);
  }
  return snapshot;
}

export function snapshotNotFound(id: string): AwsFault {
  return new AwsFault("InvalidSnapshot.NotFound", `The snapshot '${id}' does not exist.`);
}

/** Own, shared with the caller or an organization it is in, or public. */
export function maySee(call: Ec2Call, resource: AwsImage | AwsSnapshot): boolean {
  const { account, memberOf } = call.caller;
  return resource.owner === account || [account, "all", ...memberOf].some((who) => resource.permissions.has(who));
}
