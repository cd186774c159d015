import { AwsFault } from "./fault.ts";

/** What AWS refuses in a set of tags, as the fault it answers with; undefined if they are fine. */
export function checkTags(tags: ReadonlyMap<string, string>): AwsFault | undefined {
  if (tags.size > 50) return new AwsFault("TagLimitExceeded", "The maximum number of Tags for a resource is 50.");
  for (const [key, value] of tags) {
    if (key.length === 0 || key.length > 128) {
      return new AwsFault("InvalidParameterValue", "Tag keys must be between 1 and 128 characters long.");
    }
    if (value.length > 256) {
      return new AwsFault("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters");
    }
    if (key.toLowerCase().startsWith("aws:")) {
      return new AwsFault("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use");
    }
  }
  return undefined;
}
