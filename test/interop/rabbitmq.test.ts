// Reading and writing the bus against a real RabbitMQ, with Python's fedora-messaging on the other side.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { connect } from "amqplib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Consumer, consumeEvents } from "../../src/bus/consume.ts";
import { type BrokerSettings, readFedoraMessaging } from "../../src/bus/fedora-messaging.ts";
import { acceptDeliveries, type InboxTables, listEvents } from "../../src/bus/inbox.ts";
import { BUS_MIGRATIONS } from "../../src/bus/schema.ts";
import type { Database } from "../../src/database/index.ts";
import { testDatabase } from "../../src/database/testing/postgres.ts";
import { type Log, silent } from "../../src/lib/call.ts";
import { hasRabbit, type Rabbit, startRabbit } from "./rabbitmq.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));

describe.skipIf(!hasRabbit)("RabbitMQ", () => {
  let rabbit: Rabbit;
  let database: Database;
  let directory: string;
  const opened: Consumer[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "bus-"));
    [rabbit, database] = await Promise.all([startRabbit(), testDatabase()]);
    await database.migrate("bus", BUS_MIGRATIONS);
  });
  afterAll(async () => {
    await rabbit?.close();
    await database?.close();
    rmSync(directory, { recursive: true, force: true });
  });
  beforeEach(() => database.pool.query("truncate inbox, quarantine cascade"));
  afterEach(async () => {
    for (const consumer of opened.splice(0)) await consumer.close();
  });

  const db = () => database.kysely<InboxTables>();
  const events = () => listEvents(db(), { limit: 1000 });
  const quarantined = () => db().selectFrom("quarantine").selectAll().execute();

  const BASE: Omit<BrokerSettings, "url"> = {
    clientProperties: { app: "Slipway's tests" },
    publishExchange: "amq.topic",
    topicPrefix: "org.example.test",
    declare: "active",
    queues: [
      {
        ...{ name: "slipway", durable: true, autoDelete: false, exclusive: false, arguments: {} },
        bindings: [{ exchange: "amq.topic", topic: "org.example.#" }],
      },
    ],
    prefetch: 25,
  };

  async function consume(more: Partial<BrokerSettings> = {}, watchMs?: number): Promise<Consumer> {
    const consumer = await consumeEvents({
      settings: { ...BASE, url: rabbit.url, ...more },
      version: "0.0.0-test",
      accept: (deliveries) => acceptDeliveries(db(), "broker", deliveries),
      log: silent,
      ...(watchMs === undefined ? {} : { watchMs }),
    });
    opened.push(consumer);
    return consumer;
  }
  const isConnected = (consumer: Consumer) => expect.poll(() => consumer.connected, { timeout: 20_000 }).toBe(true);

  /** Puts messages on the exchange as anybody may. */
  async function publish(...messages: { id?: string; body: string | Buffer; topic?: string; more?: object }[]) {
    const connection = await connect(rabbit.url);
    const channel = await connection.createConfirmChannel();
    for (const { id, body, topic = "org.example.test.thing", more } of messages) {
      const options = { contentEncoding: "utf-8", ...(id === undefined ? {} : { messageId: id }), ...more };
      channel.publish("amq.topic", topic, Buffer.from(body), options);
    }
    await channel.waitForConfirms();
    await connection.close();
  }
  async function left(queue = "slipway"): Promise<number> {
    const text = await rabbit.ctl("list_queues", "--no-table-headers", "name", "messages");
    return Number(new RegExp(`^${queue}\\s+(\\d+)$`, "m").exec(text)?.[1] ?? Number.NaN);
  }

  /** fedora-messaging's own configuration for one of its programs. */
  function pythonConfig(name: string, url: string, extra = ""): string {
    const path = join(directory, `${name}.toml`);
    writeFileSync(path, `amqp_url = "${url}"\ntopic_prefix = "org.example.test"\n${extra}`);
    return path;
  }
  const fedoraMessaging = (config: string, ...args: string[]) =>
    promisify(execFile)(join(tools, "python/bin/fedora-messaging"), ["--conf", config, ...args], {
      env: { PATH: process.env.PATH },
    });

  test("Python's fedora-messaging publishes, every message is an event, and the queue is empty", async () => {
    const consumer = await consume();
    await isConnected(consumer);
    const dump = join(directory, "messages.jsonl");
    const message = (n: number) => ({
      topic: `compose.status.${n}`,
      body: { n, text: "ü\u2028", list: [null, 1.5] },
      headers: { fedora_messaging_severity: 30, fedora_messaging_schema: "base.message" },
      id: `00000000-0000-4000-8000-00000000000${n}`,
    });
    writeFileSync(dump, [1, 2, 3].map((n) => `${JSON.stringify(message(n)).replace(/\u2028/g, "\\u2028")}\n`).join(""));
    await fedoraMessaging(pythonConfig("publish", rabbit.url), "publish", dump);
    await expect.poll(async () => (await events()).length, { timeout: 20_000 }).toBe(3);
    const [, , first] = await events();
    expect(first).toMatchObject({
      ...{ id: message(1).id, topic: "org.example.test.compose.status.1", body: message(1).body, severity: 30 },
      ...{ schema: "base.message", source: "broker", sentAt: expect.stringMatching(/^\d{4}-.*\+00:00$/) },
    });
    await expect.poll(() => left()).toBe(0);
  });

  test("fifty deliveries are one event, and a poison message is quarantined once and holds nobody up", async () => {
    await isConnected(await consume());
    const same = Array.from({ length: 50 }, () => ({ id: "same", body: '{"n": 1}' }));
    await publish(
      ...same.slice(0, 25),
      { id: "poison", body: "{", more: { contentEncoding: "gzip" } },
      ...same.slice(25),
      { id: "after", body: "{}" },
    );
    await expect
      .poll(async () => (await events()).map(({ id }) => id).sort(), { timeout: 20_000 })
      .toEqual(["after", "same"]);
    expect(await events()).toContainEqual(expect.objectContaining({ id: "same", deliveries: 50 }));
    expect(await quarantined()).toMatchObject([{ id: "poison", reason: "encoding", deliveries: 1 }]);
    await expect.poll(() => left()).toBe(0);
  });

  test("logged in by client certificate, with EXTERNAL, on a queue that may only be looked for", async () => {
    await rabbit.ctl(
      "eval",
      'rabbit_amqqueue:declare(rabbit_misc:r(<<"/">>, queue, <<"uploader">>), true, false, [], none, <<"test">>).',
    );
    const { cert, key } = await rabbit.user("uploader", {
      configure: "^$",
      write: "^amq.topic$|^uploader",
      read: "^uploader",
    });
    const toml = `
      amqp_url = "${rabbit.tlsUrl}"
      passive_declares = true
      [tls]
      ca_cert = "${rabbit.caFile}"
      certfile = "${cert}"
      keyfile = "${key}"
      [queues.uploader]
      durable = true
      auto_delete = false
      exclusive = false
      arguments = {}
      [[bindings]]
      queue = "uploader"
      exchange = "amq.topic"
      routing_keys = ["#"]
    `;
    const consumer = await consume(readFedoraMessaging(toml, "config.toml").settings);
    await isConnected(consumer);
    expect(await rabbit.ctl("list_connections", "user", "auth_mechanism", "ssl")).toMatch(/uploader\s+EXTERNAL\s+true/);
    const connection = await connect(rabbit.url);
    const channel = await connection.createConfirmChannel();
    channel.sendToQueue("uploader", Buffer.from("{}"), { messageId: "by-certificate" });
    await channel.waitForConfirms();
    await connection.close();
    await expect
      .poll(async () => (await events()).map(({ id }) => id), { timeout: 20_000 })
      .toEqual(["by-certificate"]);
  });

  test("what a broker does not let in is tried again and says why, without the password", async () => {
    const consumer = await consume({ url: rabbit.url.replace("guest:guest", "guest:hunter2") });
    await expect.poll(() => consumer.trouble, { timeout: 20_000 }).toMatch(/ACCESS.REFUSED|403/i);
    expect(consumer.trouble).not.toContain("hunter2");
    expect(consumer.connected).toBe(false);
  });

  test("the broker is killed in the middle, and everything it kept arrives once", async () => {
    const consumer = await consume();
    await isConnected(consumer);
    const sent = Array.from({ length: 300 }, (_, n) => ({
      id: `k-${n}`,
      body: `{"n": ${n}}`,
      more: { persistent: true },
    }));
    await publish(...sent);
    await rabbit.kill();
    await expect.poll(() => consumer.connected).toBe(false);
    await rabbit.start();
    await publish({ id: "afterwards", body: "{}", more: { persistent: true } });
    await expect.poll(async () => (await events()).length, { timeout: 60_000 }).toBe(301);
    await expect.poll(() => left()).toBe(0);
  });

  test("a queue that was deleted under the consumer is there again, and consumed", async () => {
    const consumer = await consume();
    await isConnected(consumer);
    await rabbit.ctl("delete_queue", "slipway");
    await expect.poll(() => left(), { timeout: 20_000 }).toBe(0);
    await isConnected(consumer);
    await publish({ id: "again", body: "{}" });
    await expect.poll(async () => (await events()).map(({ id }) => id), { timeout: 20_000 }).toEqual(["again"]);
  });

  test("what the broker has gathered while nobody consumed is worked off in order, over one connection", async () => {
    await isConnected(await consume());
    for (const consumer of opened.splice(0)) await consumer.close();
    const gathered = Array.from({ length: 2000 }, (_, n) => ({ id: `waited-${n}`, body: `{"n": ${n}}` }));
    await publish(...gathered);
    expect(await left()).toBe(2000);
    let connections = 0;
    const log: Log = {
      ...silent,
      info(message) {
        if (message.startsWith("connected")) connections++;
      },
    };
    const consumer = await consumeEvents({
      settings: { ...BASE, url: rabbit.url },
      version: "0.0.0-test",
      accept: (deliveries) => acceptDeliveries(db(), "broker", deliveries),
      log,
    });
    opened.push(consumer);
    await expect.poll(() => left(), { timeout: 30_000 }).toBe(0);
    const kept = await listEvents(db(), { limit: 5000 });
    expect(kept.reverse().map(({ id }) => id)).toEqual(gathered.map(({ id }) => id));
    expect(connections).toBe(1);
  });

  test("what comes while the database is away is acknowledged when it is back", async () => {
    let away = true;
    const consumer = await consumeEvents({
      settings: { ...BASE, url: rabbit.url },
      version: "0.0.0-test",
      accept: (deliveries) => (away ? Promise.reject(new Error("away")) : acceptDeliveries(db(), "broker", deliveries)),
      log: silent,
    });
    opened.push(consumer);
    await isConnected(consumer);
    await publish(...Array.from({ length: 60 }, (_, n) => ({ id: `w-${n}`, body: "{}" })));
    await expect.poll(() => consumer.intake.counts().waiting).toBe(BASE.prefetch);
    expect(await left()).toBe(60);
    away = false;
    await expect.poll(async () => (await events()).length, { timeout: 20_000 }).toBe(60);
    await expect.poll(() => left()).toBe(0);
  });
});
