import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, expect, test } from "vitest";
import type { System } from "../compose/index.ts";
import { type MadeCompose, madeFiles } from "../compose/testing/composes.ts";
import type { Engine, ListQuery, RunState, RunView, StartOptions } from "../durable/index.ts";
import { quietCall } from "../lib/call.ts";
import type { PlanningServices, Services } from "./services.ts";
import { inspectCompose, startRelease } from "./start-release.ts";

const release = { location: "https://example.org/compose", composeId: "Fedora-43-20251021.0", system: "cloud" };

/** An engine that has these runs and starts what it is told. */
function engineWith(earlier: { generation: number; state: RunState; result?: string; as?: string }[]) {
  const started: StartOptions[] = [];
  const asked: ListQuery[] = [];
  const idOf = (generation: number) => `${release.composeId}.${release.system}.${generation}`;
  const engine = {
    async list(query: ListQuery) {
      asked.push(query);
      return earlier.map(({ generation, state, as }) => {
        return { id: idOf(generation), state, labels: as === undefined ? {} : { as } } as unknown as RunView;
      });
    },
    async result(runId: string) {
      return { result: earlier.find(({ generation }) => idOf(generation) === runId)?.result };
    },
    async start(_: unknown, __: unknown, options: StartOptions) {
      started.push(options);
      return { runId: options.runId, result: async () => ({}) };
    },
  };
  return { engine: engine as unknown as Engine<Services>, started, asked };
}

test.each([
  { name: "the first", earlier: [], how: "started", generation: 1 },
  { name: "while it waits", earlier: [{ generation: 1, state: "waiting" }], how: "joined", generation: 1 },
  { name: "while it runs", earlier: [{ generation: 2, state: "running" }], how: "joined", generation: 2 },
  {
    name: "after it is done",
    earlier: [{ generation: 1, state: "done", result: "done" }],
    how: "finished",
    generation: 1,
  },
  {
    name: "when there was nothing to do",
    earlier: [{ generation: 1, state: "done", result: "nothing" }],
    how: "finished",
    generation: 1,
  },
  {
    name: "after it was done in part",
    earlier: [{ generation: 1, state: "done", result: "partial" }],
    how: "started",
    generation: 2,
  },
  {
    name: "after all targets failed",
    earlier: [{ generation: 1, state: "done", result: "failed" }],
    how: "started",
    generation: 2,
  },
  {
    name: "after it stopped at candidates",
    earlier: [{ generation: 1, state: "done", result: "done", as: "candidate" }],
    how: "started",
    generation: 2,
  },
  { name: "after the run broke", earlier: [{ generation: 1, state: "failed" }], how: "started", generation: 2 },
  { name: "after it was cancelled", earlier: [{ generation: 1, state: "cancelled" }], how: "started", generation: 2 },
  {
    name: "by number, not by text or order",
    earlier: [
      { generation: 9, state: "failed" },
      { generation: 10, state: "done", result: "partial" },
      { generation: 2, state: "done", result: "done" },
    ],
    how: "started",
    generation: 11,
  },
  {
    name: "by force",
    earlier: [{ generation: 1, state: "done", result: "done" }],
    force: true,
    how: "started",
    generation: 2,
  },
  {
    name: "by force while it runs",
    earlier: [{ generation: 1, state: "running" }],
    force: true,
    how: "joined",
    generation: 1,
  },
] as const)("$name: $how, generation $generation", async ({ how, generation, ...given }) => {
  const { engine, started, asked } = engineWith([...given.earlier]);
  const force = "force" in given;
  const runId = `Fedora-43-20251021.0.cloud.${generation}`;
  expect(await startRelease(engine, release, { force })).toMatchObject({ how, runId, handle: { runId } });
  const labels = { compose: release.composeId, system: "cloud" };
  expect(asked).toMatchObject([{ labels, workflow: "release-compose", rootsOnly: true }]);
  expect(started).toEqual([
    {
      runId,
      queue: "releases",
      title: `${release.composeId} → cloud`,
      labels: { ...labels, location: release.location },
    },
  ]);
});

const directories: string[] = [];
afterEach(async () => {
  for (const directory of directories.splice(0)) await rm(directory, { recursive: true, force: true });
});

async function composeOf(made: MadeCompose): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "slipway-inspect-"));
  directories.push(directory);
  const { composeinfo, images, status } = { status: undefined, ...madeFiles(made) };
  await mkdir(join(directory, "compose/metadata"), { recursive: true });
  await writeFile(join(directory, "compose/metadata/composeinfo.json"), composeinfo);
  await writeFile(join(directory, "compose/metadata/images.json"), images);
  if (status !== undefined) await writeFile(join(directory, "STATUS"), `${status}\n`);
  return pathToFileURL(join(directory, "compose")).href;
}

function services(...systems: Partial<System>[]): PlanningServices {
  const empty = { name: "cloud", composes: {}, channels: [], images: [], containers: [] };
  return {
    systems: systems.map((system) => ({ ...empty, ...system })),
    releases: { stable: [43], branched: [], end_of_life: {}, unknown_end_of_life_months: 13 },
    sources: { attempts: 1 },
    maxDiskBytes: 1,
    now: () => new Date(),
    targets: { plan: {} } as PlanningServices["targets"],
  };
}

const call = quietCall();

test("a finished compose is what it is to every system that takes it", async () => {
  for (const status of [undefined, "FINISHED", "FINISHED_INCOMPLETE"]) {
    const location = await composeOf(status === undefined ? {} : { status });
    const two = services({ name: "a" }, { name: "b" }, { name: "c", composes: { short: ["Other"] } });
    const { compose, selections } = await inspectCompose(location, two, call);
    expect(compose.id).toBe("Fedora-43-20251021.0");
    expect(selections.map((selection) => selection.system)).toEqual(["a", "b"]);
    expect((await inspectCompose(location, two, call, "b")).selections).toHaveLength(1);
  }
});

test.each(["STARTED", "DOOMED", "TERMINATED", "FINISHED_OTHERWISE"])("%s is not released", async (status) => {
  const location = await composeOf({ status });
  await expect(inspectCompose(location, services({}), call)).rejects.toMatchObject({
    code: "invalid",
    message: `Fedora-43-20251021.0 is ${status}; only finished composes are released`,
  });
});

test("a system that is not there is answered with those there are", async () => {
  const location = await composeOf({});
  await expect(inspectCompose(location, services({ name: "a" }, { name: "b" }), call, "x")).rejects.toMatchObject({
    code: "not-found",
    message: "no system is called x",
    next: "The configuration has: a, b.",
  });
});

test("a compose that no system takes: every reason is told, and an empty configuration is one", async () => {
  const location = await composeOf({});
  const other = services({ name: "a", composes: { short: ["Other"] } });
  await expect(inspectCompose(location, other, call)).rejects.toMatchObject({
    code: "not-found",
    message: "no system takes Fedora-43-20251021.0",
    tried: expect.stringContaining("a"),
  });
  await expect(inspectCompose(location, services(), call)).rejects.toMatchObject({ tried: "no system is configured" });
});
