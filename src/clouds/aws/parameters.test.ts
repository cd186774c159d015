import { afterEach, beforeEach, expect, test } from "vitest";
import { AWS_PUBLISHER } from "../../../rehearsal/src/aws/index.ts";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { MiB } from "../../lib/units.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { fakeDisk } from "../testing/disks.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const NAME = "/fedora/cloud/x86_64/latest";
const REGIONS = ["us-east-1", "eu-west-1"];
const call = quietCall();
let weather: Weather;
let cloud: Cloud;
beforeEach(async () => {
  weather = await openWeather();
  weather.simulator.state.behaviour.parameterCheckMs = 5;
  cloud = weather.open();
});
afterEach(() => weather.close());

test("an offered image is named in each region, and what was named before when it is taken back", async () => {
  const monday = await made("20260601");
  const tuesday = await made("20260602");
  expect(named()).toEqual([undefined, undefined]);
  await offer(monday);
  expect(named()).toEqual(idsOf(monday));
  await offer(tuesday);
  await offer(tuesday);
  expect(named()).toEqual(idsOf(tuesday));
  expect(versions()).toEqual([2, 2]);
  await cloud.withdraw(tuesday.images, tuesday.spec, call);
  await cloud.withdraw(tuesday.images, tuesday.spec, call);
  expect(named()).toEqual(idsOf(monday));
  await cloud.withdraw(monday.images, monday.spec, call);
  expect(named()).toEqual([undefined, undefined]);
});

test("what was itself taken back is passed over on the way back", async () => {
  const days = [await made("20260601"), await made("20260602"), await made("20260603")] as const;
  for (const day of days) await offer(day);
  await cloud.withdraw(days[1].images, days[1].spec, call);
  expect(named()).toEqual(idsOf(days[2]));
  await cloud.withdraw(days[2].images, days[2].spec, call);
  expect(named()).toEqual(idsOf(days[0]));
});

test("an older image that is offered late, or healed, does not displace a later one", async () => {
  const older = await made("20260601", "0");
  const later = await made("20260601", "1");
  await offer(later);
  await offer(older);
  expect(named()).toEqual(idsOf(later));
});

test("the image a parameter names stays named when deprecated, and not when removed", async () => {
  const only = await made("20260601");
  await offer(only);
  const [image] = only.images;
  await cloud.setState(image!, "deprecated", call);
  expect(named()).toEqual(idsOf(only));
  await cloud.setState(image!, "obsolete", call);
  expect(named()).toEqual([undefined, idsOf(only)[1]]);
  await cloud.remove({ ...only.images[1]!, kind: "image", complete: true, tags: {} }, call);
  expect(named()).toEqual([undefined, undefined]);
});

test("somebody else's parameter is left as it is, and the error says what to do", async () => {
  const state = weather.simulator.state;
  const first = await made("20260601");
  state.parameters.put({
    ...{ account: AWS_PUBLISHER.account, region: "eu-west-1", name: NAME, type: "String", tags: new Map() },
    versions: [{ version: 1, value: "theirs", dataType: "text", modifiedAt: 0, modifiedBy: "", description: "" }],
  });
  await expect(offer(first)).rejects.toMatchObject({
    code: "already-exists",
    region: "eu-west-1",
    subject: NAME,
    next: expect.stringContaining("slipway:owner=slipway"),
  });
  await cloud.withdraw(first.images, first.spec, call);
  expect(named()).toEqual([undefined, "theirs"]);
});

test("an answer that is lost changes nothing about where it ends", async () => {
  const first = await made("20260601");
  weather.loseEvery("eu-west-1", 11);
  for (let attempt = 1; ; attempt++) {
    try {
      await offer(first);
      break;
    } catch (error) {
      if (attempt === 20) throw error;
    }
  }
  expect(named()).toEqual(idsOf(first));
  expect(versions()).toEqual([1, 1]);
});

test("check names the permission that is missing, and writes nothing", async () => {
  const { spec } = await made("20260601");
  expect(await errorsOf(spec)).toEqual([]);
  weather.simulator.accounts.add({ ...AWS_PUBLISHER, deny: ["ssm:PutParameter@eu-west-1", "ssm:GetParameterHistory"] });
  expect(await errorsOf(spec)).toEqual([
    "eu-west-1 ssm:GetParameterHistory",
    "eu-west-1 ssm:PutParameter",
    "us-east-1 ssm:GetParameterHistory",
  ]);
  expect(weather.simulator.state.parameters.all()).toEqual([]);
});

interface Made {
  readonly spec: ImageSpec;
  readonly images: readonly CloudImage[];
}

async function made(date: string, respin = "0"): Promise<Made> {
  const build = `${date}.${respin}`;
  const spec: ImageSpec = {
    ...weather.spec,
    ...{ key: `key-${build}`, diskKey: `disk-${build}`, name: `Fedora-Cloud-${build}`, regions: REGIONS },
    diskBytes: 1 * MiB,
    tags: { ...weather.spec.tags, Date: date, Respin: respin },
    aws: { parameter: NAME },
  };
  const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
  const home = await cloud.register(staged, spec, call);
  const images: CloudImage[] = [];
  for await (const outcome of cloud.replicate(home, spec, REGIONS, call)) {
    if ("image" in outcome) images.push(outcome.image);
  }
  return { spec, images: images.sort((a, b) => REGIONS.indexOf(a.region) - REGIONS.indexOf(b.region)) };
}

async function offer({ spec, images }: Made): Promise<void> {
  await cloud.offer(images, spec, { to: "public" }, call);
}

function parameters() {
  const { parameters: store } = weather.simulator.state;
  return REGIONS.map((region) => store.find(AWS_PUBLISHER.account, region, NAME));
}

function named(): (string | undefined)[] {
  return parameters().map((one) => one?.versions.at(-1)?.value);
}

function versions(): (number | undefined)[] {
  return parameters().map((one) => one?.versions.at(-1)?.version);
}

function idsOf({ images }: Made): string[] {
  return images.map(({ id }) => id);
}

async function errorsOf(spec: ImageSpec): Promise<string[]> {
  const findings = await cloud.check([spec], call);
  return findings
    .filter(({ severity }) => severity === "error")
    .map(({ region, subject }) => `${region} ${subject}`)
    .sort();
}
