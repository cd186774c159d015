import { afterEach, beforeEach, expect, test } from "vitest";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { GiB, MiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { fakeDisk } from "../testing/disks.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const REGIONS = ["us-east-1", "eu-west-1"];
const call = quietCall();
let weather: Weather;
let cloud: Cloud;
beforeEach(async () => {
  weather = await openWeather();
  cloud = weather.open();
});
afterEach(() => weather.close());

test("what the rule says of an image is what it is registered with, in every region", async () => {
  const aws = {
    ...({ bootMode: "uefi", imds: "optional", tpm: "v2.0", sriov: false, uefiData: "QU1aTlVFRkk=" } as const),
    volume: { type: "io2", sizeGiB: 12, iops: 500 },
  } as const;
  await made({ aws });
  for (const region of REGIONS) {
    const [image] = weather.simulator.state.images(region);
    expect(image).toMatchObject({
      ...{ bootMode: "uefi", imdsSupport: undefined, tpmSupport: "v2.0", sriovNetSupport: undefined },
      ...{ enaSupport: true, uefiData: "QU1aTlVFRkk=" },
      mappings: [{ volumeType: "io2", volumeSize: 12, iops: 500 }],
    });
  }
});

test("a rule that says nothing makes images as Fedora's are", async () => {
  await made({});
  expect(weather.simulator.state.images("us-east-1")).toMatchObject([
    {
      ...{ bootMode: "uefi-preferred", imdsSupport: "v2.0", tpmSupport: undefined, sriovNetSupport: "simple" },
      mappings: [{ volumeType: "gp3", volumeSize: 1 }],
    },
  ]);
});

test("a volume that is smaller than the disk is refused in words that name both", async () => {
  const staged = { key: "k", region: "us-east-1", id: "snap-00000000000000001", diskBytes: 5 * GiB };
  const spec = { ...weather.spec, aws: { volume: { sizeGiB: 4 } } };
  await expect(cloud.register(staged, spec, call)).rejects.toMatchObject({
    code: "invalid",
    message: "A root volume of 4 GiB is too small for a disk of 5 GiB.",
    next: expect.stringContaining("size_gib"),
  });
});

async function made(overrides: Partial<ImageSpec>): Promise<readonly CloudImage[]> {
  const spec: ImageSpec = { ...weather.spec, diskBytes: 1 * MiB, regions: REGIONS, ...overrides };
  const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
  const home = await cloud.register(staged, spec, call);
  const images: CloudImage[] = [];
  for await (const outcome of cloud.replicate(home, spec, REGIONS, call)) {
    if ("image" in outcome) images.push(outcome.image);
  }
  return images;
}
