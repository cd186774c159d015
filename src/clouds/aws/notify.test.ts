import { afterEach, beforeEach, expect, test } from "vitest";
import { AWS_PUBLISHER } from "../../../rehearsal/src/aws/index.ts";
import { quietCall } from "../../lib/call.ts";
import type { CloudImage, ImageSpec } from "../../model.ts";
import type { Cloud } from "../cloud.ts";
import { inProduction } from "../wrappers.ts";
import { openWeather, type Weather } from "./testing/weather.ts";

const TOPIC = `arn:aws:sns:eu-west-1:${AWS_PUBLISHER.account}:images`;
const call = quietCall();
let weather: Weather;
let cloud: Cloud;
let spec: ImageSpec;
beforeEach(async () => {
  weather = await openWeather();
  spec = { ...weather.spec, aws: { parameter: "/fedora/latest" }, endOfLife: "2027-06-01", regions: ["us-east-1"] };
  cloud = inProduction(weather.open({ topic: TOPIC }));
});
afterEach(() => weather.close());

function makeTopic(): void {
  const { topics } = weather.simulator.state;
  topics.set(TOPIC, { arn: TOPIC, account: AWS_PUBLISHER.account, region: "eu-west-1", messages: [] });
}

test("subscribers are told what became of an image, in words a program can read and filter by", async () => {
  makeTopic();
  const images = ["us-east-1", "eu-west-1"].map((region): CloudImage => {
    return { key: spec.key, region, id: `ami-of-${region}`, name: spec.name, state: "active" };
  });
  await cloud.notify?.({ change: "offered", spec, images }, call);
  const [told] = weather.simulator.state.topics.get(TOPIC)!.messages;
  expect(told).toMatchObject({
    subject: `${spec.name} offered`,
    attributes: { change: "offered", arch: "x86_64", channel: "cloud" },
  });
  expect(JSON.parse(told!.message)).toEqual({
    change: "offered",
    name: spec.name,
    arch: "x86_64",
    compose_id: "Fedora-Cloud-44-20251013.0",
    channel: "cloud",
    parameter: "/fedora/latest",
    end_of_life: "2027-06-01",
    amis: { "eu-west-1": "ami-of-eu-west-1", "us-east-1": "ami-of-us-east-1" },
  });
});

test("without a topic there is nobody to tell", () => {
  expect(inProduction(weather.open()).notify).toBeUndefined();
});

test("check names a topic that is not there and a permission that is missing, and tells nobody", async () => {
  const errors = async () => {
    const findings = await cloud.check([spec], call);
    return findings.filter(({ severity }) => severity === "error");
  };
  expect(await errors()).toMatchObject([{ subject: "sns_topic", code: "not-found", region: "eu-west-1" }]);
  makeTopic();
  expect(await errors()).toEqual([]);
  weather.simulator.accounts.add({ ...AWS_PUBLISHER, deny: ["sns:Publish"] });
  expect(await errors()).toMatchObject([{ subject: "sns:Publish", code: "forbidden" }]);
  expect(weather.simulator.state.topics.get(TOPIC)?.messages).toEqual([]);
});
