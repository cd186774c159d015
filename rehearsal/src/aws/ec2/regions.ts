import { AwsFault } from "../fault.ts";
import type { Query } from "../query.ts";

const FIELDS: Readonly<Record<string, "regionName" | "regionEndpoint" | "optInStatus">> = {
  "region-name": "regionName",
  endpoint: "regionEndpoint",
  "opt-in-status": "optInStatus",
};

/** Keeps the regions that every filter of the request lets through. */
export function applyRegionFilters<T extends { regionName: string; regionEndpoint: string; optInStatus: string }>(
  query: Query,
  rows: readonly T[],
): T[] {
  return query.structures("Filter").reduce<T[]>(
    (kept, filter) => {
      const field = FIELDS[filter.required("Name")];
      if (field === undefined) {
        throw new AwsFault("InvalidParameterValue", `The filter '${filter.text("Name")}' is invalid`);
      }
      return kept.filter((row) => filter.list("Value").includes(row[field]));
    },
    [...rows],
  );
}
