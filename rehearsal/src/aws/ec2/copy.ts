import { AwsFault } from "../fault.ts";
import type { Query } from "../query.ts";
import { type AwsImage, type AwsSnapshot, newId } from "../state.ts";
import { type Ec2Call, type Ec2Operation, findImage, findSnapshot } from "./call.ts";
import { tagSet } from "./list.ts";
import { imageName, specifiedTags } from "./register-image.ts";

/**
 * Starts a copy into the caller's region. Like AWS's own it takes any name, one in use too; it copies neither launch
 * permissions nor, unless told, tags; and the answer comes long before the image is there.
 */
export const copyImage: Ec2Operation = (call) => {
  const { state, caller, query, now } = call;
  const sourceRegion = query.required("SourceRegion");
  const name = imageName(query);
  const earlier = repeated(call, "CopyImage");
  if (earlier.id !== undefined) return { imageId: earlier.id };

  const source = findImage(inRegion(call, sourceRegion), query.required("SourceImageId"));
  if (source.state !== "available") {
    throw new AwsFault("InvalidRequest", `Image ${source.id} is not available; only available images can be copied.`);
  }
  const tags = specifiedTags(call, ["image", "snapshot"]);
  const copied = query.flag("CopyImageTags") === true && source.owner === caller.account ? source.tags : [];
  const failure = state.takeCopyFailure(caller.region);
  const id = newId("ami");
  const mappings = source.mappings.map((mapping) => {
    const origin = state.snapshot(source.region, mapping.snapshotId);
    if (origin === undefined)
      throw new AwsFault("InvalidRequest", `The storage for the ami is not available in the source region.`);
    const description = `Copied for DestinationAmi ${id} from SourceAmi ${source.id} for SourceSnapshot ${origin.id}. Task created on ${now}.`;
    const snapshot = startCopy(call, origin, query, { description, tags: tags.snapshot, fails: failure !== undefined });
    return { ...mapping, snapshotId: snapshot.id };
  });
  // Protection is the source's own.
  const { protection: _, ...inherited } = source;
  const image: AwsImage = {
    ...inherited,
    id,
    region: caller.region,
    owner: caller.account,
    name,
    description: query.text("Description"),
    state: "pending",
    createdAt: now,
    visibleAt: now + state.behaviour.visibleAfterMs,
    completesAt: now + state.behaviour.copyMs,
    ...(failure === undefined ? {} : { willFail: failure }),
    mappings,
    deprecateAt: undefined,
    permissions: new Set(),
    tags: new Map([...copied, ...(tags.image ?? [])]),
    source: { region: source.region, imageId: source.id },
  };
  state.add(image);
  earlier.remember(id);
  return { imageId: id };
};

export const copySnapshot: Ec2Operation = (call) => {
  const { query } = call;
  const origin = findSnapshot(inRegion(call, query.required("SourceRegion")), query.required("SourceSnapshotId"));
  if (origin.state !== "completed") {
    throw new AwsFault("IncorrectState", `Snapshot ${origin.id} is in invalid state - ${origin.state}`);
  }
  const tags = specifiedTags(call, ["snapshot"]).snapshot;
  const description = query.text("Description") ?? `[Copied ${origin.id} from ${origin.region}]`;
  const snapshot = startCopy(call, origin, query, { description, tags, fails: false });
  return { snapshotId: snapshot.id, tagSet: tagSet(snapshot.tags) };
};

function startCopy(
  call: Ec2Call,
  origin: AwsSnapshot,
  query: Query,
  options: { description: string; tags: Map<string, string> | undefined; fails: boolean },
): AwsSnapshot {
  const { state, caller, now } = call;
  const limit = state.behaviour.copiesPerRegion;
  const running = state
    .snapshots(caller.region)
    .filter((other) => other.owner === caller.account && other.madeBy === "copy" && other.state === "pending");
  if (running.length >= limit) {
    throw new AwsFault(
      "ResourceLimitExceeded",
      `Too many snapshot copies in progress. The limit is ${limit} for this destination region.`,
    );
  }
  const encryptedByDefault = state.settings(caller.account, caller.region).ebsEncryptionByDefault;
  const snapshot: AwsSnapshot = {
    kind: "snapshot",
    id: newId("snap"),
    region: caller.region,
    owner: caller.account,
    description: options.description,
    sizeGiB: origin.sizeGiB,
    state: "pending",
    startedAt: now,
    visibleAt: now + state.behaviour.visibleAfterMs,
    ...(options.fails ? { givenUpAt: now + state.behaviour.copyMs } : { completesAt: now + state.behaviour.copyMs }),
    encrypted: origin.encrypted || encryptedByDefault || query.flag("Encrypted") === true,
    blocks: origin.blocks,
    puts: new Map(),
    tags: options.tags ?? new Map(),
    permissions: new Set(),
    madeBy: "copy",
  };
  state.add(snapshot);
  return snapshot;
}

/** The source is looked up with the caller's eyes in the region it is in. */
function inRegion(call: Ec2Call, region: string): Ec2Call {
  return { ...call, caller: { ...call.caller, region } };
}

/** What an earlier request with this client token came to. The same token with another request is a fault. */
export function repeated(call: Ec2Call, operation: string): { id: string | undefined; remember: (id: string) => void } {
  const token = call.query.text("ClientToken");
  if (token === undefined) return { id: undefined, remember() {} };
  const key = `${operation}/${call.caller.account}/${call.caller.region}/${token}`;
  const asked = call.query.fingerprint();
  const earlier = call.state.tokens.get(key);
  if (earlier !== undefined && earlier.asked !== asked) {
    throw new AwsFault(
      "IdempotentParameterMismatch",
      "The client token you have provided is associated with a different set of parameters.",
    );
  }
  return { id: earlier?.id, remember: (id) => call.state.tokens.set(key, { asked, id }) };
}
