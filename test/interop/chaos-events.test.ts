// Events while RabbitMQ, PostgreSQL and the services are killed and started again at random: each event has exactly one
// run for each rule that means it, none is lost, none is doubled. CHAOS_EVENTS and CHAOS_KILLS say how many; CHAOS_SEED
// repeats one.
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type ConfirmChannel, connect } from "amqplib";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { type EmbeddedServer, startEmbedded } from "../../src/database/embedded.ts";
import { silent } from "../../src/lib/call.ts";
import { hasRabbit, type Rabbit, startRabbit } from "./rabbitmq.ts";

const EVENTS = Number(process.env.CHAOS_EVENTS ?? 4000);
const KILLS = Number(process.env.CHAOS_KILLS ?? 8);
const SEED = Number(process.env.CHAOS_SEED ?? Date.now() % 1_000_000);

const MAIN = resolve(import.meta.dirname, "../../src/main.ts");
/** Topics in turn, so that what is expected can be counted. */
const TOPICS = ["org.example.build", "org.example.tag", "org.example.compose"];
const topicOf = (n: number) => TOPICS[n % TOPICS.length]!;
const RULES: Record<string, (n: number) => boolean> = {
  hundredth: (n) => n % 100 === 0,
  composes: (n) => topicOf(n) === "org.example.compose" && n % 50 === 2,
};
const YAML = `rules:
  - { name: hundredth, topic: "org.example.#", when: "int(body.n) % 100 == 0", do: { heal: {} } }
  - { name: composes, topic: org.example.compose, when: "int(body.n) % 50 == 2", do: { heal: {} } }
`;

describe.skipIf(!hasRabbit)(`${EVENTS} events, seed ${SEED}`, () => {
  test("one run for each event and rule that means it, whatever dies meanwhile", { timeout: 1_800_000 }, async () => {
    const directory = mkdtempSync(join(tmpdir(), "chaos-"));
    await chmod(directory, 0o755);
    const random = generator(SEED);
    const place = { dataDir: join(directory, "postgres"), log: silent, settings: ["max_connections=200"] };
    let [rabbit, postgres]: [Rabbit, EmbeddedServer] = await Promise.all([startRabbit(), startEmbedded(place)]);
    const url = postgres.urlOf("postgres");
    writeFileSync(
      join(directory, "slipway.yaml"),
      `${YAML}console: { listen: off }\ndatabase: { url: { env: CHAOS_DATABASE } }\nbus: { fedora_messaging: bus.toml }\n`,
    );
    // A quorum queue: the index of a classic one does not survive every kill of RabbitMQ 3.10, which then does not start.
    writeFileSync(
      join(directory, "bus.toml"),
      `amqp_url = "${rabbit.url}"\n[qos]\nprefetch_count = 250\n[queues.chaos]\ndurable = true\nauto_delete = false\n` +
        'exclusive = false\n[queues.chaos.arguments]\nx-queue-type = "quorum"\n' +
        '[[bindings]]\nqueue = "chaos"\nexchange = "amq.topic"\nrouting_keys = ["org.example.#"]\n',
    );
    const services = [0, 1].map((number) => service(directory, number, url));
    const killed = { rabbit: 0, postgres: 0, service: 0 };
    let over = false;

    const kills = () => killed.rabbit + killed.postgres + killed.service;

    async function chaos(): Promise<void> {
      while (!over) {
        await sleep(500 + random() * 2000);
        if (over) return;
        const dice = random();
        if (dice < 0.55) {
          const one = services[Math.floor(random() * services.length)]!;
          await one.kill();
          killed.service++;
          await sleep(random() * 1000);
          one.start();
        } else if (dice < 0.8) {
          await rabbit.kill();
          killed.rabbit++;
          await rabbit.start();
        } else {
          process.kill(postgres.pid, "SIGKILL");
          killed.postgres++;
          await postgres.release().catch(() => {});
          postgres = await startEmbedded(place);
        }
      }
    }

    try {
      for (const one of services) one.start();
      await expect.poll(() => consumers(rabbit), { timeout: 60_000, interval: 500 }).toBe(services.length);
      let broken: unknown;
      const troubles = chaos().catch((error: unknown) => {
        broken = error;
        over = true;
      });
      const begun = performance.now();
      await publishAll(rabbit.url, EVENTS, (part) => {
        if (broken !== undefined) throw broken;
        return over || kills() >= part * KILLS;
      });
      const published = performance.now();
      // The end of it happens under fire too.
      await query(url, "select count(*) from inbox where dispatched_at is not null", (count) => count >= EVENTS * 0.8);
      over = true;
      await troubles;
      if (broken !== undefined) throw broken;
      await query(url, "select count(*) from inbox where dispatched_at is not null", (count) => count >= EVENTS);
      const expected = Object.entries(RULES).flatMap(([rule, means]) =>
        Array.from({ length: EVENTS }, (_, n) => n)
          .filter(means)
          .map((n) => `event-${n} ${rule} 1`),
      );
      const ended = "select count(*) from dbos.workflow_status where name = 'handle-event' and status = 'SUCCESS'";
      await query(url, ended, (count) => count >= expected.length);
      const done = performance.now();
      // A row whose dispatcher was killed before it could say so is taken again after half a minute; deliveries that came
      // twice are acknowledged last.
      await query(url, "select count(*) from dispatches where state <> 'started'", (count) => count === 0);
      await expect.poll(() => left(rabbit), { timeout: 60_000, interval: 500 }).toBe(0);

      const [inbox, dispatches, runs, quarantine] = await Promise.all([
        rowsOf(url, "select id, deliveries from inbox"),
        rowsOf(url, "select event_id || ' ' || rule || ' ' || generation as what, state, run_id from dispatches"),
        rowsOf(url, "select workflow_uuid as id, status from dbos.workflow_status where name = 'handle-event'"),
        rowsOf(url, "select id from quarantine"),
      ]);
      expect(inbox.map(({ id }) => id).sort()).toEqual(Array.from({ length: EVENTS }, (_, n) => `event-${n}`).sort());
      expect(dispatches.map(({ what }) => what).sort()).toEqual(expected.sort());
      expect(dispatches.filter(({ state }) => state !== "started")).toEqual([]);
      expect(runs.map(({ id }) => id).sort()).toEqual(dispatches.map(({ run_id }) => run_id).sort());
      expect(runs.filter(({ status }) => status !== "SUCCESS")).toEqual([]);
      expect(quarantine).toEqual([]);
      const again = inbox.reduce((sum, { deliveries }) => sum + Number(deliveries) - 1, 0);
      const seconds = (from: number, to: number) => `${((to - from) / 1000).toFixed(0)} s`;
      console.log(
        `${EVENTS} events, ${runs.length} runs; killed ${JSON.stringify(killed)}; ${again} delivered more than once; ` +
          `published in ${seconds(begun, published)}, all done ${seconds(published, done)} later; seed ${SEED}`,
      );
      expect(kills()).toBeGreaterThanOrEqual(KILLS);
    } finally {
      over = true;
      await Promise.all(services.map((one) => one.kill()));
      await rabbit.close();
      await postgres.release().catch(() => {});
      if (process.env.CHAOS_KEEP === undefined) rmSync(directory, { recursive: true, force: true });
    }
  });
});

function service(directory: string, number: number, url: string) {
  const home = join(directory, `service-${number}`);
  mkdirSync(home);
  let child: ChildProcess | undefined;
  return {
    start() {
      const log = createWriteStream(join(home, "log"), { flags: "a" });
      child = spawn(process.execPath, [MAIN, "--config", join(directory, "slipway.yaml"), "--verbose", "serve"], {
        cwd: home,
        env: { PATH: process.env.PATH, CHAOS_DATABASE: url, SLIPWAY_DATA_DIR: home },
        stdio: ["ignore", "pipe", "pipe"],
      });
      child.stdout!.pipe(log, { end: false });
      child.stderr!.pipe(log, { end: false });
      // One that ends by itself (the database was away when it began) is what a service manager starts again.
      const mine = child;
      child.once("exit", () => {
        if (child === mine) setTimeout(() => child === mine && this.start(), 500);
      });
    },
    async kill() {
      const mine = child;
      child = undefined;
      if (mine === undefined || mine.exitCode !== null || mine.signalCode !== null) return;
      const gone = new Promise((done) => mine.once("exit", done));
      mine.kill("SIGKILL");
      await gone;
    },
  };
}

/**
 * Every event is sent until the broker has confirmed it; one that was confirmed unheard is sent twice. A part of them goes
 * out when so many have been killed that the killing lasts to the end.
 */
async function publishAll(url: string, count: number, may: (part: number) => boolean): Promise<void> {
  let channel: ConfirmChannel | undefined;
  const waiting = Array.from({ length: count }, (_, n) => n);
  while (waiting.length > 0) {
    while (!may((count - waiting.length) / count)) await sleep(50);
    try {
      if (channel === undefined) {
        const connection = await connect(url);
        connection.on("error", () => {});
        connection.on("close", () => {
          channel = undefined;
        });
        channel = await connection.createConfirmChannel();
        channel.on("error", () => {});
        channel.setMaxListeners(0);
      }
      const batch = waiting.slice(0, Math.min(500, Math.ceil(count / 50)));
      const through = channel;
      for (const n of batch) {
        const content = Buffer.from(JSON.stringify({ n, text: `event ${n}` }));
        const properties = { messageId: `event-${n}`, contentEncoding: "utf-8", persistent: true };
        through.publish("amq.topic", topicOf(n), content, properties);
      }
      await Promise.race([
        through.waitForConfirms(),
        new Promise((_, reject) => through.once("close", () => reject(new Error("closed")))),
      ]);
      waiting.splice(0, batch.length);
    } catch {
      channel = undefined;
      await sleep(100);
    }
  }
}

async function rowsOf(url: string, sql: string): Promise<Record<string, string>[]> {
  const client = new pg.Client(url);
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

/** Until the number is as wanted; a database that is away has no number. */
async function query(url: string, sql: string, wanted: (count: number) => boolean): Promise<void> {
  const number = () =>
    rowsOf(url, sql).then(
      ([row]) => Number(row!.count),
      () => -1,
    );
  await expect.poll(async () => wanted(await number()), { timeout: 900_000, interval: 500 }).toBe(true);
}

async function consumers(rabbit: Rabbit): Promise<number> {
  const text = await rabbit.ctl("list_queues", "--no-table-headers", "name", "consumers").catch(() => "");
  return Number(/^chaos\s+(\d+)$/m.exec(text)?.[1] ?? 0);
}

async function left(rabbit: Rabbit): Promise<number> {
  const text = await rabbit.ctl("list_queues", "--no-table-headers", "name", "messages");
  return Number(/^chaos\s+(\d+)$/m.exec(text)?.[1] ?? Number.NaN);
}

/** Mulberry32: the same numbers for the same seed. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
