/** Killed, stopped, doubled: whatever happens to the process, the clouds end up the same. */
import { afterEach, expect, test } from "vitest";
import { AWS_REGIONS, expectOneImageEach, expectOneVersionEach, repeatedPuts, totalPuts } from "./clouds.ts";
import { type Stage, setStage } from "./stage.ts";

const AMIS = ["Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6"];
const MiB = 1024 * 1024;
/** Acknowledgements that one flush of the journal may hold: what a kill can lose. */
const FLUSH = 256;

let stage: Stage;
afterEach(async () => {
  await stage[Symbol.asyncDispose]();
});

function expectAllThere(): void {
  expectOneImageEach(stage, AMIS, { public: true });
  expectOneVersionEach(stage, ["Fedora-Cloud-43-x64"]);
}

async function expectMessagesOnce(): Promise<void> {
  const events = JSON.parse((await stage.slipway(["events", "list", "--sent", "--output", "json"])).stdout);
  const attested = events.filter((event: { topic: string }) => event.topic.includes(".attested."));
  expect([events.length - attested.length, attested.length]).toEqual([4, 4]);
}

test("killed with SIGKILL after every step, and after every effect whose checkpoint was not written yet", async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * MiB });
  let kills = 0;
  for (; kills < 200; kills++) {
    // `done`: the effect has happened, nobody wrote it down. `kept`: it is on record, the next step has not begun.
    const at = kills % 2 === 0 ? "done" : "kept";
    const ended = await stage.slipway(["release", stage.compose, "--output", "json"], { crash: { at, nth: 1 } });
    if (ended.signal !== "SIGKILL") {
      expect(ended.stderr).not.toContain("error");
      expect(ended).toMatchObject({ code: 0 });
      break;
    }
  }
  // Every step of every group was met twice.
  expect(kills).toBeGreaterThan(20);
  expectAllThere();
  await expectMessagesOnce();
}, 600_000);

test("killed in the middle of an upload, it goes on where it stopped and sends no acknowledged block again", async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 128 * MiB });
  stage.rehearsal.set({ name: "slow", match: { operation: "PutSnapshotBlock" }, fault: "latency", ms: 100 });
  const running = stage.start(["release", stage.compose, "--output", "json"]);
  while (totalPuts(stage, "us-east-1") < 150) await new Promise((resolve) => setTimeout(resolve, 5));
  running.process.kill("SIGKILL");
  await running.finished;
  const before = totalPuts(stage, "us-east-1");
  expect(before).toBeLessThan(256);

  stage.rehearsal.enable("slow", false);
  const ended = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(ended).toMatchObject({ code: 0 });
  expectAllThere();
  // 256 blocks make the disk. The journal's last flush may be missing; what it had was not sent twice.
  expect(totalPuts(stage, "us-east-1") - repeatedPuts(stage, "us-east-1")).toBe(256);
  expect(repeatedPuts(stage, "us-east-1")).toBeLessThan(Math.min(before, FLUSH));
  await expectMessagesOnce();
}, 300_000);

test("two releases of one compose started at once from two processes make one set of images", async () => {
  stage = await setStage({ arches: ["x86_64"] });
  const both = [0, 1].map(() => stage.start(["release", stage.compose, "--output", "json"]));
  const ended = await Promise.all(both.map((one) => one.finished));
  expect(ended.map((one) => one.code)).toEqual([0, 0]);
  expect(JSON.parse(ended[0]!.stdout)).toEqual(JSON.parse(ended[1]!.stdout));
  expectAllThere();
  for (const region of AWS_REGIONS) expect(repeatedPuts(stage, region)).toBe(0);
  await expectMessagesOnce();
}, 300_000);

test("stopped until another process took over, then continued: it notices and does nothing more", async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 64 * MiB });
  stage.rehearsal.set({ name: "slow", match: { operation: "PutSnapshotBlock" }, fault: "latency", ms: 400 });
  const first = stage.start(["release", stage.compose, "--output", "json", "--verbose"], { leaseMs: 4000 });
  while (totalPuts(stage, "us-east-1") < 20) await new Promise((resolve) => setTimeout(resolve, 5));
  first.process.kill("SIGSTOP");

  stage.rehearsal.enable("slow", false);
  const second = await stage.slipway(["release", stage.compose, "--output", "json"], { leaseMs: 8000 });
  expect(second).toMatchObject({ code: 0 });
  expectAllThere();
  const calls = new Map(stage.rehearsal.simulators.aws.state.calls);

  first.process.kill("SIGCONT");
  await first.finished;
  // It may still ask; it changes nothing.
  for (const operation of ["StartSnapshot", "RegisterImage", "CopyImage", "CompleteSnapshot", "DeleteSnapshot"]) {
    expect(stage.rehearsal.simulators.aws.state.calls.get(operation)).toBe(calls.get(operation));
  }
  expectAllThere();
  await expectMessagesOnce();
}, 300_000);
