import { AwsFault } from "../fault.ts";
import { invalidValue } from "../query.ts";
import type { AwsSnapshot } from "../state.ts";
import type { XmlValue } from "../xml.ts";
import { DONE, type Ec2Call, type Ec2Operation, findSnapshot, maySee, ownSnapshot } from "./call.ts";
import { permissionChange } from "./image-attributes.ts";
import { applyFilters, type FilterFields, moment, paginate, tagSet } from "./list.ts";

const FIELDS: FilterFields<AwsSnapshot> = {
  description: (snapshot) => [snapshot.description],
  encrypted: (snapshot) => [String(snapshot.encrypted)],
  "owner-id": (snapshot) => [snapshot.owner],
  progress: (snapshot) => [progressOf(snapshot)],
  "snapshot-id": (snapshot) => [snapshot.id],
  "start-time": (snapshot) => [moment(snapshot.startedAt)],
  status: (snapshot) => [snapshot.state],
  "storage-tier": () => ["standard"],
  "volume-id": () => [NO_VOLUME],
  "volume-size": (snapshot) => [String(snapshot.sizeGiB)],
};

/** What AWS shows for snapshots that were made of no volume of the account. */
const NO_VOLUME = "vol-ffffffff";

export const describeSnapshots: Ec2Operation = (call) => {
  const { state, caller, query, now } = call;
  const ids = query.list("SnapshotId");
  if (ids.length > 0 && query.text("MaxResults") !== undefined) {
    throw new AwsFault(
      "InvalidParameterCombination",
      "The parameter snapshotSet cannot be used with the parameter maxResults",
    );
  }
  const owners = query.list("Owner").map((owner) => (owner === "self" ? caller.account : owner));
  const restorable = query.list("RestorableBy");
  const snapshots =
    ids.length > 0
      ? ids.map((id) => findSnapshot(call, id))
      : state.snapshots(caller.region).filter((snapshot) => snapshot.visibleAt <= now && maySee(call, snapshot));
  const listed = snapshots.filter(
    (snapshot) =>
      (owners.length === 0 || owners.includes(snapshot.owner)) &&
      (restorable.length === 0 ||
        restorable.some((who) => snapshot.permissions.has(who === "self" ? caller.account : who))),
  );
  const { page, nextToken } = paginate(query, applyFilters(query, listed, FIELDS, caller.account), {
    min: 5,
    max: 1000,
  });
  return { snapshotSet: page.map((snapshot) => describe(call, snapshot)), nextToken };
};

function describe(call: Ec2Call, snapshot: AwsSnapshot): XmlValue {
  return {
    snapshotId: snapshot.id,
    volumeId: NO_VOLUME,
    status: snapshot.state,
    statusMessage: snapshot.stateMessage,
    startTime: moment(snapshot.startedAt),
    completionTime: snapshot.completedAt === undefined ? undefined : moment(snapshot.completedAt),
    progress: progressOf(snapshot),
    ownerId: snapshot.owner,
    volumeSize: snapshot.sizeGiB,
    description: snapshot.description,
    encrypted: snapshot.encrypted,
    kmsKeyId: snapshot.encrypted
      ? `arn:aws:kms:${snapshot.region}:${snapshot.owner}:key/00000000-0000-4000-8000-000000000000`
      : undefined,
    storageTier: "standard",
    tagSet: snapshot.owner === call.caller.account ? tagSet(snapshot.tags) : undefined,
  };
}

function progressOf(snapshot: AwsSnapshot): string {
  return snapshot.state === "completed" ? "100%" : "0%";
}

export const deleteSnapshot: Ec2Operation = (call) => {
  const { state, caller } = call;
  const snapshot = ownSnapshot(call, call.query.required("SnapshotId"));
  const user = state
    .images(caller.region)
    .find((image) => image.mappings.some((mapping) => mapping.snapshotId === snapshot.id));
  if (user !== undefined) {
    throw new AwsFault("InvalidSnapshot.InUse", `The snapshot ${snapshot.id} is currently in use by ${user.id}`);
  }
  state.removeSnapshot(snapshot);
  return DONE;
};

export const modifySnapshotAttribute: Ec2Operation = (call) => {
  const { state, caller, query } = call;
  const snapshot = ownSnapshot(call, query.required("SnapshotId"));
  const change = permissionChange(query, query.under("CreateVolumePermission"));
  const organization = change.add.find((who) => who.startsWith("arn:"));
  if (organization !== undefined) throw invalidValue(organization, "createVolumePermission");
  if (change.add.length > 0 && snapshot.encrypted) {
    throw new AwsFault(
      "InvalidParameter",
      "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot.",
    );
  }
  const setting = state.settings(caller.account, caller.region).snapshotBlockPublicAccess;
  if (change.add.includes("all") && setting !== "unblocked") {
    throw new AwsFault(
      "OperationNotPermitted",
      "You can't publicly share this snapshot because block public access for snapshots is enabled for this account and Region.",
    );
  }
  for (const who of change.add) snapshot.permissions.add(who);
  for (const who of change.remove) snapshot.permissions.delete(who);
  return DONE;
};

export const describeSnapshotAttribute: Ec2Operation = (call) => {
  const snapshot = ownSnapshot(call, call.query.required("SnapshotId"));
  const attribute = call.query.required("Attribute");
  if (attribute === "productCodes") return { snapshotId: snapshot.id, productCodes: [] };
  if (attribute !== "createVolumePermission") throw invalidValue(attribute, "attribute");
  const granted = [...snapshot.permissions].map((who) => (who === "all" ? { group: who } : { userId: who }));
  return { snapshotId: snapshot.id, createVolumePermission: granted };
};

export const resetSnapshotAttribute: Ec2Operation = (call) => {
  ownSnapshot(call, call.query.required("SnapshotId")).permissions.clear();
  return DONE;
};
