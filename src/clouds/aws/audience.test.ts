import { afterEach, beforeEach, expect, test } from "vitest";
import { AWS_OUTSIDER } from "../../../rehearsal/src/aws/index.ts";
import { memoryJournal } from "../../images/journal.ts";
import { quietCall } from "../../lib/call.ts";
import { MiB } from "../../lib/units.ts";
import type { Audience, CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { fakeDisk } from "../testing/disks.ts";
import type { AwsOptions } from "./aws.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const ORGANIZATION = "arn:aws:organizations::111122223333:organization/o-abcdefghij";
const UNIT = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678";
const ACCOUNT = "777788889999";
const call = quietCall();
let weather: Weather;
let spec: ImageSpec;
beforeEach(async () => {
  weather = await openWeather();
  spec = { ...weather.spec, regions: ["us-east-1"], diskBytes: 1 * MiB };
});
afterEach(() => weather.close());

test("organizations and units start the image; their accounts get no snapshot, those that are named do", async () => {
  const { cloud, image } = await made();
  const audience: Audience = { to: "accounts", accounts: [ACCOUNT], organizations: [ORGANIZATION, UNIT] };
  await cloud.offer([image], spec, audience, call);
  expect(letIn()).toEqual({ image: [ACCOUNT, ORGANIZATION, UNIT], snapshot: [ACCOUNT] });
  expect(await cloud.strangers?.(image, audience, call)).toEqual({ uninvited: [], shutOut: [] });
  await cloud.withdraw([image], spec, call);
  expect(letIn()).toEqual({ image: [], snapshot: [] });
});

test("a member of the organization sees it, others do not", async () => {
  const member = { ...AWS_OUTSIDER, accessKeyId: "AKIAMEMBERMEMBERMEMB", memberOf: [ORGANIZATION] };
  weather.simulator.accounts.add(member);
  const { cloud, image } = await made({ witness: member });
  const stranger = weather.open({ witness: AWS_OUTSIDER });
  await cloud.offer([image], spec, { to: "accounts", accounts: [], organizations: [ORGANIZATION] }, call);
  expect(await cloud.witness?.([image], call)).toEqual([true]);
  expect(await stranger.witness?.([image], call)).toEqual([false]);
});

test("snapshots that stay private are shared with nobody, and what a person did to them stays", async () => {
  const { cloud, image } = await made({ sharesSnapshots: false });
  await cloud.offer([image], spec, { to: "accounts", accounts: [ACCOUNT] }, call);
  expect(letIn()).toEqual({ image: [ACCOUNT], snapshot: [] });
  weather.simulator.state.snapshots("us-east-1")[0]!.permissions.add("555566667777");
  await cloud.offer([image], spec, { to: "public" }, call);
  expect(letIn().snapshot).toEqual(["555566667777"]);
});

test("who is let in and not listed stays, and is told; who is listed and not let in is told too", async () => {
  const { cloud, image } = await made();
  await cloud.offer([image], spec, { to: "accounts", accounts: [ACCOUNT, "555566667777"] }, call);
  const now: Audience = { to: "accounts", accounts: [ACCOUNT, "222233334444"] };
  expect(await cloud.strangers?.(image, now, call)).toEqual({ uninvited: ["555566667777"], shutOut: ["222233334444"] });
  await cloud.offer([image], spec, now, call);
  expect(letIn().image).toEqual(["222233334444", "555566667777", ACCOUNT]);
  expect(await cloud.strangers?.(image, now, call)).toEqual({ uninvited: ["555566667777"], shutOut: [] });
});

test("an organization is let in again after the image was obsolete", async () => {
  const { cloud, image } = await made();
  const accounts = Array.from({ length: 30 }, (_, n) => String(100_000_000_000 + n));
  const audience: Audience = { to: "accounts", accounts, organizations: [ORGANIZATION, UNIT] };
  await cloud.offer([image], spec, audience, call);
  const before = letIn();
  await cloud.setState(image, "obsolete", call);
  expect(letIn().image).toEqual([]);
  await cloud.setState(image, "active", call);
  expect(letIn()).toEqual(before);
});

async function made(options: Partial<AwsOptions> = {}): Promise<{ cloud: Cloud; image: CloudImage }> {
  const cloud = weather.open(options);
  const staged = await cloud.upload(fakeDisk(spec.diskBytes, [1]), spec, memoryJournal(), call);
  return { cloud, image: await cloud.register(staged, spec, call) };
}

function letIn() {
  const { state } = weather.simulator;
  return {
    image: [...state.images("us-east-1")[0]!.permissions].sort(),
    snapshot: [...state.snapshots("us-east-1")[0]!.permissions].sort(),
  };
}
