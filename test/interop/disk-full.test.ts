/** The data directory is full: a command says so, nothing is public, and with room again it goes on. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { expectOneImageEach } from "../release/clouds.ts";
import { type Stage, setStage } from "../release/stage.ts";

const MiB = 1024 * 1024;

let stage: Stage;
let data: string;
beforeEach(async () => {
  stage = await setStage({ arches: ["x86_64"], diskBytes: 8 * MiB });
  data = join(stage.directory, "data");
  mkdirSync(data);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256m", "tmpfs", data]);
  chmodSync(data, 0o755);
});
afterEach(async () => {
  // The mount is in the way of deleting the stage; it goes first, and the database in it with the stage.
  execFileSync("umount", ["--lazy", data]);
  await stage[Symbol.asyncDispose]();
});

test("disk-full is the error, with what to do, and the release is done when there is room", async () => {
  expect(await stage.slipway(["runs", "list"])).toMatchObject({ code: 0 });
  const ballast = join(data, "ballast");
  expect(() => writeFileSync(ballast, Buffer.alloc(256 * MiB))).toThrow("ENOSPC");

  const refused = await stage.slipway(["release", stage.compose, "--output", "json"]);
  expect(refused).toMatchObject({ code: 1 });
  expect(refused.stderr).toContain('"disk-full"');
  expect(refused.stderr).toContain('"next"');
  expect(stage.rehearsal.simulators.aws.state.images().some((image) => image.permissions.size > 0)).toBe(false);

  rmSync(ballast);
  expect(await stage.slipway(["release", stage.compose, "--output", "json"])).toMatchObject({ code: 0 });
  expectOneImageEach(stage, ["Fedora-Cloud-Base-AmazonEC2.x86_64-43-1.6"], { public: true });
});
