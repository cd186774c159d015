/** What the simulated clouds hold, in the words of the promises: exactly one image a region, nothing left over. */
import { expect } from "vitest";
import type { Stage } from "./stage.ts";

export const AWS_REGIONS = ["ap-southeast-2", "eu-central-1", "us-east-1", "us-west-2"];

/** One available image in every region for each name, one snapshot behind each, nothing else. */
export function expectOneImageEach(stage: Stage, names: readonly string[], options: { public: boolean }): void {
  const { aws } = stage.rehearsal.simulators;
  const images = aws.state.images().filter((image) => image.state !== "deregistered");
  const found = images.map((image) => `${image.region} ${image.name} ${image.state}`).sort();
  expect(found).toEqual(AWS_REGIONS.flatMap((region) => names.map((name) => `${region} ${name} available`)).sort());
  expect(images.every((image) => image.permissions.has("all") === options.public)).toBe(true);
  const used = images.flatMap((image) => image.mappings.map((mapping) => `${image.region} ${mapping.snapshotId}`));
  const snapshots = aws.state.snapshots().map((snapshot) => `${snapshot.region} ${snapshot.id}`);
  expect(snapshots.sort()).toEqual(used.sort());
}

/** One version a definition, replicated everywhere, and no page blob left. */
export function expectOneVersionEach(stage: Stage, definitions: readonly string[]): void {
  const { state } = stage.rehearsal.simulators.azure;
  expect(state.versions().length).toBe(definitions.length);
  expect(state.blobNames()).toEqual([]);
}

/** How often each block of a region's snapshots was put and acknowledged, beyond the first time. */
export function repeatedPuts(stage: Stage, region: string): number {
  let repeated = 0;
  for (const snapshot of stage.rehearsal.simulators.aws.state.snapshots(region)) {
    for (const count of snapshot.puts.values()) repeated += count - 1;
  }
  return repeated;
}

export function totalPuts(stage: Stage, region: string): number {
  let total = 0;
  for (const snapshot of stage.rehearsal.simulators.aws.state.snapshots(region)) {
    for (const count of snapshot.puts.values()) total += count;
  }
  return total;
}
