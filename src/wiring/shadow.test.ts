/** The whole program as a shadow, with Fedora's configuration and no credential of any cloud. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { runProgram } from "../cli/program.ts";
import { composeFiles } from "../compose/testing/composes.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import { silent } from "../lib/call.ts";
import { QUEUES } from "../workflows/index.ts";
import { createSession } from "./session.ts";
import { SHADOW_QUEUES } from "./shadow.ts";

const COMPOSE = "Fedora-43-20251021.0";
const PREFIX = "org.fedoraproject.prod";

let directory: string;
let database: Awaited<ReturnType<typeof testDatabase>>;
let web: Server;
let location: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "slipway-shadow-"));
  database = await testDatabase();
  const files = composeFiles(COMPOSE);
  web = createServer((request, response) => {
    const name = /^\/compose\/metadata\/(composeinfo|images)\.json$/.exec(request.url ?? "")?.[1];
    if (name === undefined) response.writeHead(404).end();
    else response.end(files[name as "composeinfo" | "images"]);
  });
  await new Promise<void>((done) => web.listen(0, "127.0.0.1", done));
  location = `http://127.0.0.1:${(web.address() as AddressInfo).port}/compose`;
  await writeFile(
    join(directory, "slipway.yaml"),
    `include: ${resolve(import.meta.dirname, "../../examples/fedora.yaml")}
data_dir: ${directory}/data
database: { url: { env: DATABASE } }
bus: { fedora_messaging: null, url: amqp://127.0.0.1:1, topics: [] }
console: { listen: off }
shadow: {}
`,
  );
});
afterAll(async () => {
  web?.closeAllConnections();
  web?.close();
  await database?.close();
  await rm(directory, { recursive: true, force: true });
});
afterEach(() => vi.restoreAllMocks());

const open = (signal = AbortSignal.timeout(20_000)) =>
  createSession(
    { config: join(directory, "slipway.yaml"), output: "json" },
    { environment: { DATABASE: database.url }, version: "0", log: silent, signal, engine: { hurry: 0.001 } },
  );

async function slipway(...args: string[]) {
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    vi.spyOn(process[name], "write").mockImplementation((text) => {
      written[name] += String(text);
      return true;
    });
  }
  const exit = await runProgram(args, "0", () => open());
  vi.restoreAllMocks();
  return { exit, ...written, said: JSON.parse(written.stdout || "null") };
}

async function publish(event: object) {
  const file = join(directory, "event.json");
  await writeFile(file, JSON.stringify(event));
  return slipway("events", "publish", "--file", file, "--wait");
}

test("no target can be opened, whoever asks, and nothing but what looks at events is started", async () => {
  const session = open();
  try {
    const { targets } = await session.services();
    for (const name of Object.keys(targets.plan)) {
      const refused = { code: "unsupported", subject: "shadow" };
      await expect(targets.cloud(name, session.call)).rejects.toMatchObject(refused);
      await expect(targets.registry(name, session.call)).rejects.toMatchObject(refused);
      await expect(targets.uploading([name], session.call, async () => 1)).rejects.toMatchObject(refused);
    }
    const engine = await session.engine("service", [...QUEUES]);
    const events = await session.events(engine);
    // There is a broker, and nothing is sent to it.
    expect(events.state()).toMatchObject({ publishing: undefined });
  } finally {
    await session.close();
  }
  expect(SHADOW_QUEUES).toEqual(["events"]);
});

test("a release by hand is refused with the way out; a plan asks no cloud", async () => {
  const released = await slipway("release", location);
  expect(released.exit).toBe(1);
  expect(JSON.parse(released.stderr.split("\n")[0]!).error).toMatchObject({
    code: "unsupported",
    message: "release-compose is not started: this is a shadow, which only compares",
    next: expect.stringContaining("shadow:"),
  });
  const planned = await slipway("plan", location);
  expect(planned).toMatchObject({ exit: 0, stderr: "" });
  expect(planned.said.items.length).toBeGreaterThan(0);
});

test("an event gives an expectation, a message of the other service a comparison, the report an exit code", async () => {
  const finished = { status: "FINISHED", compose_id: COMPOSE, location };
  const acted = await publish({ topic: `${PREFIX}.pungi.compose.status.change`, body: finished, id: "finished" });
  expect(acted.exit).toBe(0);
  const body = { compose_id: COMPOSE, subvariant: "Cloud_Base", architecture: "x86_64", release: 43 };
  const topic = `${PREFIX}.fedora_image_uploader.published.v1.aws.rc.Cloud_Base.x86_64`;
  expect((await publish({ topic, body, id: "theirs" })).said).toMatchObject({ rules: [] });

  const { exit, said } = await slipway("shadow", "report", "--compose", COMPOSE, "--detailed-exitcode");
  expect(exit).toBe(10);
  expect(said.counts).toMatchObject({ composes: { differs: 1 }, messages: { theirs: 1, ours: 8 } });
  expect(said.composes[0].differences.map(({ kind }: { kind: string }) => kind)).toContain("schema");
  expect((await slipway("shadow", "report")).exit).toBe(0);
  expect((await slipway("shadow", "report", "--since", "2999-01-01", "--detailed-exitcode")).said.composes).toEqual([]);
  // Nothing was written where images are prepared.
  expect(await readdir(join(directory, "data")).catch(() => [])).toEqual([]);
});
