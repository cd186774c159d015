/** One release to two accounts of two partitions: each has its own credentials, regions and audience. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Stage, setStage } from "./stage.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const CHINA = {
  accessKeyId: "AKIACHINACHINACHINA1",
  secretAccessKey: "rehearsal-china-secret-access-key-00001",
  account: "222233334444",
  partition: "aws-cn",
} as const;

let stage: Stage;
beforeAll(async () => {
  stage = await setStage({
    ...{ arches: ["x86_64"], diskBytes: 4 * 1024 * 1024 },
    configure(config) {
      const { aws } = config.targets;
      const { witness: _, sns_topic: __, ...china } = aws;
      config.targets.china = {
        ...china,
        ...{ account: CHINA.account, home_region: "cn-north-1", regions: "all", offer: { accounts: ["555566667777"] } },
        credentials: { access_key_id: CHINA.accessKeyId, secret_access_key: { env: "CHINA_SECRET" } },
      };
      Object.assign(aws, { regions: "all", regions_except: ["me-south-1", "af-south-1"] });
      const [ami] = config.systems["fedora-cloud"].images;
      config.systems["fedora-cloud"] = {
        ...config.systems["fedora-cloud"],
        images: [{ ...ami, to: ["aws", "china"] }],
        containers: [],
      };
    },
  });
  process.env.CHINA_SECRET = CHINA.secretAccessKey;
  stage.rehearsal.simulators.aws.accounts.add(CHINA);
}, 300_000);
afterAll(async () => {
  delete process.env.CHINA_SECRET;
  await stage?.[Symbol.asyncDispose]();
}, 120_000);

test("both are released, each where its account is, and what is left out has a reason", async () => {
  const planned = await stage.slipway(["plan", stage.compose, "--output", "json"]);
  const { findings } = JSON.parse(planned.stdout).preflight;
  const leftOut = findings.filter((one: { subject: string }) => one.subject === "region");
  expect(leftOut.map((one: { target: string; region: string }) => `${one.target} ${one.region}`).sort()).toEqual([
    ...["af-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1"].map((region) => `aws ${region}`),
  ]);
  const reasonFor = (region: string) => leftOut.find((one: { region: string }) => one.region === region).message;
  expect(reasonFor("me-south-1")).toContain("regions_except");
  expect(reasonFor("il-central-1")).toContain("not opted in");

  const released = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(released.stderr).not.toContain("error");
  expect(released).toMatchObject({ code: 0 });
  const { aws, china } = JSON.parse(released.stdout).images[AMI];
  expect(Object.keys(china.regions).sort()).toEqual(["cn-north-1", "cn-northwest-1"]);
  expect(Object.keys(aws.regions)).toHaveLength(20);
  const images = stage.rehearsal.simulators.aws.state.images();
  const held = (account: string) => images.filter((image) => image.owner === account);
  expect(held(CHINA.account).map(({ permissions }) => [...permissions])).toEqual([["555566667777"], ["555566667777"]]);
  expect(held(stage.rehearsal.credentials.aws.account)).toHaveLength(20);
  // The same parameter in both: each account has its own.
  const named = stage.rehearsal.simulators.aws.state.parameters.all();
  expect(
    named
      .filter(({ account }) => account === CHINA.account)
      .map(({ region }) => region)
      .sort(),
  ).toEqual(["cn-north-1", "cn-northwest-1"]);
}, 300_000);
