// The outbox against a real RabbitMQ: confirmed, returned, refused; and what Python's fedora-messaging makes of it.
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { connect } from "amqplib";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { z } from "zod";
import type { BrokerSettings } from "../../src/bus/fedora-messaging.ts";
import { MESSAGE_SCHEMAS } from "../../src/bus/message-schemas.ts";
import {
  enqueueMessages,
  listMessages,
  messageId,
  type OutboxTables,
  type OutgoingMessage,
} from "../../src/bus/outbox.ts";
import { type Publisher, publishMessages } from "../../src/bus/publish.ts";
import { awsPublished, azurePublished, containerPublished, gcpPublished } from "../../src/bus/published.ts";
import { BUS_MIGRATIONS } from "../../src/bus/schema.ts";
import type { Database } from "../../src/database/index.ts";
import { testDatabase } from "../../src/database/testing/postgres.ts";
import { silent } from "../../src/lib/call.ts";
import { hasRabbit, type Rabbit, startRabbit } from "./rabbitmq.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));

describe.skipIf(!hasRabbit)("publishing to RabbitMQ", () => {
  let rabbit: Rabbit;
  let database: Database;
  let directory: string;
  const opened: Publisher[] = [];
  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "publish-"));
    [rabbit, database] = await Promise.all([startRabbit(), testDatabase()]);
    await database.migrate("bus", BUS_MIGRATIONS);
  });
  afterAll(async () => {
    await rabbit?.close();
    await database?.close();
    rmSync(directory, { recursive: true, force: true });
  });
  beforeEach(() => database.pool.query("truncate outbox"));
  afterEach(async () => {
    for (const publisher of opened.splice(0)) await publisher.close();
  });

  const db = () => database.kysely<OutboxTables>();
  const SETTINGS: Omit<BrokerSettings, "url"> = {
    clientProperties: { app: "Slipway's tests" },
    publishExchange: "amq.topic",
    topicPrefix: "org.example.test",
    declare: "active",
    queues: [],
    prefetch: 25,
  };

  async function publisher(more: Partial<BrokerSettings> = {}): Promise<Publisher> {
    const settings = { ...SETTINGS, url: rabbit.url, ...more };
    const made = await publishMessages({ settings, version: "0.0.0-test", db: db(), log: silent, hurry: 0.01 });
    opened.push(made);
    return made;
  }
  async function write(...messages: OutgoingMessage[]): Promise<void> {
    await db()
      .transaction()
      .execute((tx) => enqueueMessages(tx, messages, "run"));
    for (const one of opened) one.wake();
  }
  const states = async () =>
    (await listMessages(db(), { limit: 100 })).reverse().map(({ state, trouble }) => [state, trouble]);
  const settled = (count: number, state = "delivered") =>
    expect.poll(async () => (await states()).filter(([one]) => one === state).length, { timeout: 30_000 }).toBe(count);

  const sentAt = new Date("2026-01-02T03:04:05.678Z");
  const image = { composeId: "Fedora-43-20260101.0", kind: "rc", release: 43, sentAt, edition: "1" };
  const disk = { ...image, subvariant: "Cloud_Base", architecture: "x86_64" };
  const MESSAGES: OutgoingMessage[] = [
    awsPublished({ ...disk, imageName: "Fedora-Cloud-Base", regions: { "us-east-1": "ami-1", "eu-west-1": "ami-2" } }),
    azurePublished({
      ...disk,
      definition: "Fedora-Cloud-43-x64",
      version: "43.1.0",
      resourceId: "/x",
      regions: ["eastus"],
    }),
    gcpPublished({
      ...disk,
      imageName: "fedora-43",
      family: "fedora-43",
      imageUrl: "https://x",
      storageLocations: ["us"],
    }),
    containerPublished({
      ...{ ...image, architectures: ["x86_64"], registries: ["quay.io/fedora"] },
      ...{ repository: "fedora", tags: ["43", "latest"] },
    }),
  ];
  const plain = (name: string): OutgoingMessage => ({
    ...{ id: messageId(name), topic: `thing.${name}` },
    ...{ headers: {}, body: { name }, summary: name },
  });

  async function bound(queue: string, pattern: string): Promise<void> {
    const connection = await connect(rabbit.url);
    const channel = await connection.createChannel();
    await channel.assertQueue(queue, { durable: true });
    await channel.bindQueue(queue, "amq.topic", pattern);
    await connection.close();
  }
  async function take(queue: string): Promise<{ topic: string; id: string; body: unknown }[]> {
    const connection = await connect(rabbit.url);
    const channel = await connection.createChannel();
    const taken = [];
    for (let message = await channel.get(queue); message; message = await channel.get(queue)) {
      const { fields, properties, content } = message;
      taken.push({ topic: fields.routingKey, id: properties.messageId, body: JSON.parse(content.toString()) });
      channel.ack(message);
    }
    await connection.close();
    return taken;
  }

  test("Python's fedora-messaging receives what was published and finds it valid, each in its class", async () => {
    const config = join(directory, "record.toml");
    writeFileSync(
      config,
      `amqp_url = "${rabbit.url}"\n[queues.recorder]\ndurable = true\nauto_delete = false\nexclusive = false\narguments = {}\n` +
        '[[bindings]]\nqueue = "recorder"\nexchange = "amq.topic"\nrouting_keys = ["org.example.test.fedora_image_uploader.#"]\n',
    );
    await bound("recorder", "org.example.test.fedora_image_uploader.#");
    await publisher();
    await write(...MESSAGES);
    await settled(4);
    const recorded = join(directory, "recorded.jsonl");
    const python = (program: string, ...args: string[]) =>
      promisify(execFile)(join(tools, "python/bin", program), args, { env: { PATH: process.env.PATH } });
    await python("fedora-messaging", "--conf", config, "record", "--limit", "4", recorded);
    const judged = (await python("python3", join(import.meta.dirname, "judge-messages.py"), recorded)).stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    const classes = ["AwsPublishedV1", "AzurePublishedV1", "GcpPublishedV1", "ContainerPublishedV1"];
    expect(judged.map((one) => one.class)).toEqual(classes);
    expect(judged.map((one) => [one.id, one.topic, one.summary])).toEqual(
      MESSAGES.map(({ id, topic, summary }) => [id, `org.example.test.${topic}`, summary]),
    );
    expect(judged[3].containers).toEqual(["quay.io/fedora/fedora:43", "quay.io/fedora/fedora:latest"]);
    expect(judged[0].text).toContain("Image Name: Fedora-Cloud-Base\n");

    // Our schemas ask for the same as theirs.
    const kinds = (schema: { properties: Record<string, { type?: string }> }) =>
      Object.fromEntries(Object.entries(schema.properties).map(([name, { type }]) => [name, type]));
    for (const [position, [name]] of [...MESSAGE_SCHEMAS].entries()) {
      const theirs = judged.find((one) => one.schema.id.endsWith(name))?.schema;
      const ours = z.toJSONSchema([...MESSAGE_SCHEMAS.values()][position]!) as { required: string[] };
      expect(kinds(ours as never)).toEqual(kinds(theirs));
      expect([...ours.required].sort()).toEqual([...theirs.required].sort());
    }
  });

  test("a message nobody wants is tried a few times, then delivered with a warning, and blocks nobody", async () => {
    await bound("wanted", "org.example.test.thing.wanted");
    await publisher();
    await write(plain("unwanted"), plain("wanted"));
    await settled(1);
    await settled(1, "delivered-with-warning");
    expect(await states()).toEqual([
      ["delivered-with-warning", "no queue is bound to org.example.test.thing.unwanted"],
      ["delivered", undefined],
    ]);
    expect(await take("wanted")).toMatchObject([{ topic: "org.example.test.thing.wanted", body: { name: "wanted" } }]);
  });

  test("a reader that binds its queue meanwhile receives it", async () => {
    await publisher();
    await write(plain("late"));
    await expect.poll(async () => (await states())[0]?.[1], { timeout: 10_000 }).toMatch(/no queue is bound/);
    await bound("late", "org.example.test.thing.late");
    await settled(1);
    expect(await take("late")).toHaveLength(1);
  });

  test("what its readers would refuse is not sent", async () => {
    await bound("all", "org.example.test.#");
    await take("all");
    await publisher();
    const [aws] = MESSAGES;
    await write(
      { ...aws!, body: { ...aws!.body, release: "Rawhide" } },
      { ...plain("long"), topic: `thing.${"x".repeat(250)}` },
      plain("good"),
    );
    await settled(2, "invalid");
    await settled(1);
    expect((await states()).map(([, trouble]) => trouble)).toEqual([
      expect.stringContaining("release"),
      expect.stringContaining("255"),
      undefined,
    ]);
    expect((await take("all")).map(({ body }) => body)).toEqual([{ name: "good" }]);
  });

  test("a topic we may not write to does not keep the others from being sent", async () => {
    await bound("allowed", "org.example.test.thing.#");
    await take("allowed");
    const { cert, key } = await rabbit.user("publisher");
    await rabbit.ctl("set_topic_permissions", "publisher", "amq.topic", "^org\\.example\\.test\\.thing\\.", "^$");
    await publisher({ url: rabbit.tlsUrl, caFile: rabbit.caFile, certFile: cert, keyFile: key });
    const others = Array.from({ length: 10 }, (_, n) => plain(String(n)));
    await write({ ...plain("forbidden"), topic: "other.forbidden" }, ...others);
    await settled(10);
    const waiting = (await states()).find(([state]) => state === "waiting");
    expect(waiting?.[1]).toMatch(/ACCESS.REFUSED|access/i);
    const ids = (await take("allowed")).map(({ id }) => id);
    expect(new Set(ids).size).toBe(10);
  });

  test("nothing is lost while the broker is killed and started again", async () => {
    await bound("kept", "org.example.test.thing.kept.#");
    await publisher();
    const before = Array.from({ length: 40 }, (_, n) => ({ ...plain(`1${n}`), topic: `thing.kept.${n}` }));
    const after = Array.from({ length: 40 }, (_, n) => ({ ...plain(`2${n}`), topic: `thing.kept.${n}` }));
    await write(...before);
    await rabbit.kill();
    await write(...after);
    await rabbit.start();
    await database.pool.query("update outbox set next_at = now() where state = 'waiting'");
    await expect
      .poll(
        async () => {
          opened[0]!.wake();
          return (await states()).filter(([state]) => state === "delivered").length;
        },
        { timeout: 60_000 },
      )
      .toBe(80);
    const ids = new Set((await take("kept")).map(({ id }) => id));
    expect(ids).toEqual(new Set([...before, ...after].map(({ id }) => id)));
  });
});
