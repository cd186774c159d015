/** The scenarios that come along, each through a whole release: it comes through, or says what stopped it and goes on later. */
import { afterEach, expect, test } from "vitest";
import { expectOneImageEach, expectOneVersionEach } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";

const AMI = "Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6";
const MINUTES = 60_000;

let stage: Stage | undefined;
afterEach(async () => {
  await stage?.[Symbol.asyncDispose]();
  stage = undefined;
}, 2 * MINUTES);

async function staged(scenario: string): Promise<Stage> {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * 1024 * 1024, rehearsal: { scenario } });
  return stage;
}

interface Outcome {
  readonly result: string;
  readonly images: Record<string, Record<string, { error?: ErrorSaid; missing?: Record<string, ErrorSaid> }>>;
}
interface ErrorSaid {
  readonly code: string;
  readonly message: string;
  readonly operation?: string;
  readonly region?: string;
  readonly next?: string;
}

test.each(["real-limits", "eventual"])(
  "%s: it is released, once",
  async (scenario) => {
    const on = await staged(scenario);
    const released = await on.slipway(["release", on.compose, "--output", "json"]);
    expect(released.stderr).not.toContain("error");
    expect(released).toMatchObject({ code: 0 });
    expectOneImageEach(on, [AMI], { public: true });
    expectOneVersionEach(on, ["Fedora-Cloud-43-x64"]);
    const applied = Object.values(on.rehearsal.proxies).flatMap((proxy) => Object.values(proxy.counts().rules));
    expect(applied.reduce((sum, one) => sum + one.matched, 0)).toBeGreaterThan(50);
  },
  3 * MINUTES,
);

test(
  "quota-midway: what was done stays, each error names its quota, and with room the rest is done",
  async () => {
    const on = await staged("quota-midway");
    const first = await on.slipway(["release", on.compose, "--output", "json"], { hurry: true });
    expect(first).toMatchObject({ code: 77 });
    const outcome: Outcome = JSON.parse(first.stdout);
    const { error } = outcome.images[AMI]!.aws!;
    expect(error).toMatchObject({ code: "quota", next: expect.stringContaining("Service Quotas") });
    expectOneVersionEach(on, ["Fedora-Cloud-43-x64"]);
    // Nothing of the image that is not everywhere is public.
    expect(on.rehearsal.simulators.aws.state.images().some(({ permissions }) => permissions.size > 0)).toBe(false);
    const fetched = on.imageBytes();

    on.rehearsal.load({ world: { aws: { regions: { "us-west-2": { public_images: 5 } } } } });
    const retried = await on.slipway(["runs", "retry", "--last", "--output", "json"], { hurry: true });
    expect(retried).toMatchObject({ code: 0 });
    expectOneImageEach(on, [AMI], { public: true });
    expect(on.imageBytes()).toBe(fetched);
  },
  3 * MINUTES,
);

test(
  "credentials-expire: what can be renewed is, a static key stops it clearly, and another one goes on",
  async () => {
    const on = await staged("credentials-expire");
    // Few blocks: the key ends after the first of them.
    on.rehearsal.set({ name: "aws", match: { operation: "PutSnapshotBlock" }, after: 4, times: 1, fault: "expire" });
    const first = await on.slipway(["release", on.compose, "--output", "json"], { hurry: true });
    expect(first).toMatchObject({ code: 77 });
    const outcome: Outcome = JSON.parse(first.stdout);
    expect(outcome.images[AMI]!.aws!.error).toMatchObject({
      ...{ code: "unauthenticated", operation: "PutSnapshotBlock", region: "us-east-1" },
      next: expect.stringContaining("access key"),
    });
    expectOneVersionEach(on, ["Fedora-Cloud-43-x64"]);
    expect(first.stdout + first.stderr).not.toContain("rehearsal-publisher-secret");

    on.rehearsal.load({});
    const retried = await on.slipway(["runs", "retry", "--last", "--output", "json"], { hurry: true });
    expect(retried).toMatchObject({ code: 0 });
    expectOneImageEach(on, [AMI], { public: true });
  },
  3 * MINUTES,
);
