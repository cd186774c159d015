import { AwsFault } from "../fault.ts";
import { checkTags } from "../tags.ts";
import { DONE, type Ec2Call, type Ec2Operation, ownImage, ownSnapshot } from "./call.ts";
import { ownImport } from "./import-snapshot.ts";
import { paginate } from "./list.ts";
import { readTags } from "./register-image.ts";

export const createTags: Ec2Operation = (call) => {
  const tags = readTags(call.query);
  const resources = named(call);
  if (tags.size === 0) throw new AwsFault("MissingParameter", "The request must contain the parameter tagSet");
  for (const resource of resources) {
    const wrong = checkTags(new Map([...resource.tags, ...tags]));
    if (wrong !== undefined) throw wrong;
  }
  for (const resource of resources) for (const [key, value] of tags) resource.tags.set(key, value);
  return DONE;
};

/** Without tags removes all; a tag with a value only if it has that value. */
export const deleteTags: Ec2Operation = (call) => {
  const wanted = call.query.structures("Tag");
  for (const resource of named(call)) {
    if (wanted.length === 0) resource.tags.clear();
    for (const tag of wanted) {
      const key = tag.required("Key");
      const value = tag.text("Value");
      if (value === undefined || resource.tags.get(key) === value) resource.tags.delete(key);
    }
  }
  return DONE;
};

export const describeTags: Ec2Operation = (call) => {
  const { state, caller, query, now } = call;
  const filters = query.structures("Filter").map((filter) => [filter.required("Name"), filter.list("Value")] as const);
  const rows = [...state.images(caller.region), ...state.snapshots(caller.region)]
    .filter((resource) => resource.owner === caller.account && resource.visibleAt <= now)
    .flatMap((resource) =>
      [...resource.tags].map(([key, value]) => ({
        resourceId: resource.id,
        resourceType: resource.kind as string,
        key,
        value,
      })),
    )
    .filter((row) => filters.every(([name, values]) => values.includes(fieldOf(row, name))));
  const { page, nextToken } = paginate(query, rows, { min: 5, max: 1000 });
  return { tagSet: [...page], nextToken };
};

function fieldOf(row: { resourceId: string; resourceType: string; key: string; value: string }, name: string): string {
  if (name.startsWith("tag:")) return row.key === name.slice(4) ? row.value : "";
  const fields: Record<string, string> = {
    key: row.key,
    value: row.value,
    "resource-id": row.resourceId,
    "resource-type": row.resourceType,
  };
  const field = fields[name];
  if (field === undefined) throw new AwsFault("InvalidParameterValue", `The filter '${name}' is invalid`);
  return field;
}

function named(call: Ec2Call): { readonly tags: Map<string, string> }[] {
  const ids = call.query.list("ResourceId");
  if (ids.length === 0) throw new AwsFault("MissingParameter", "The request must contain the parameter resourceIdSet");
  return ids.map((id) => {
    if (id.startsWith("ami-")) return ownImage(call, id);
    if (id.startsWith("snap-")) return ownSnapshot(call, id);
    if (id.startsWith("import-snap-")) return ownImport(call, id);
    throw new AwsFault("InvalidID", `The ID '${id}' is not valid`);
  });
}
