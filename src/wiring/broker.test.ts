import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfig } from "../config/index.ts";
import { silent } from "../lib/call.ts";
import { brokerSettings } from "./broker.ts";

let directory: string;
let file: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "broker-"));
  file = join(directory, "config.toml");
  await writeFile(
    file,
    `amqp_url = "amqps://uploader:@rabbitmq.example.org/%2Fpubsub"
topic_prefix = "org.example.prod"
passive_declares = true
[tls]
ca_cert = "/etc/ca.pem"
certfile = "/etc/cert.pem"
keyfile = "/etc/key.pem"
[queues.uploader]
durable = true
auto_delete = false
exclusive = false
arguments = {}
[[bindings]]
queue = "uploader"
exchange = "amq.topic"
routing_keys = ["org.example.#"]
[qos]
prefetch_count = 25
`,
  );
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const settings = (yaml: string, environment: Record<string, string> = {}) =>
  brokerSettings(parseConfig(yaml), environment, silent);

test("no broker is configured: there is none", async () => {
  expect(await settings("")).toBeUndefined();
  expect(await settings("bus: { topics: [a.b] }")).toBeUndefined();
});

test("fedora-messaging's file is the default of everything, wherever it is named", async () => {
  const expected = {
    ...{ url: "amqps://uploader:@rabbitmq.example.org/%2Fpubsub", topicPrefix: "org.example.prod", prefetch: 25 },
    ...{ declare: "passive", caFile: "/etc/ca.pem", certFile: "/etc/cert.pem", keyFile: "/etc/key.pem" },
    queues: [{ name: "uploader", bindings: [{ exchange: "amq.topic", topic: "org.example.#" }] }],
  };
  expect(await settings(`bus: { fedora_messaging: ${file} }`)).toMatchObject(expected);
  expect(await settings("", { FEDORA_MESSAGING_CONF: file })).toMatchObject(expected);
});

test("what slipway.yaml says wins", async () => {
  const yaml = `bus: { fedora_messaging: ${file}, topics: [org.example.compose], topic_prefix: org.example.stg, declare: none, prefetch: 5 }`;
  expect(await settings(yaml)).toMatchObject({
    ...{ topicPrefix: "org.example.stg", declare: "none", prefetch: 5 },
    queues: [{ name: "uploader", durable: true, bindings: [{ exchange: "amq.topic", topic: "org.example.compose" }] }],
  });
});

test("a broker without that file: own queue, credentials from where they are", async () => {
  const yaml =
    "bus: { url: amqps://rabbit.example.org/%2Fpubsub, username: us, password: { env: PW }, queue: q, topics: ['a.#'] }";
  expect(await settings(yaml, { PW: "p@ss/w" })).toMatchObject({
    ...{ url: "amqps://us:p%40ss%2Fw@rabbit.example.org/%2Fpubsub", topicPrefix: "org.fedoraproject.dev" },
    queues: [{ name: "q", durable: true, exclusive: false, bindings: [{ exchange: "amq.topic", topic: "a.#" }] }],
  });
  expect(await settings("bus: { url: amqp://localhost, topics: [a] }")).toMatchObject({
    queues: [{ name: "", durable: false, exclusive: true, autoDelete: true }],
  });
  expect(await settings("bus: { url: amqp://localhost }")).toMatchObject({ queues: [] });
});

test("a shadow's topics come through the same queue", async () => {
  const queue = async (yaml: string) => (await settings(yaml))?.queues[0]?.bindings.map(({ topic }) => topic);
  const shadow = "shadow: { topics: [org.example.published.#] }";
  expect(await queue(`{ bus: { url: amqp://localhost, topics: [a.b] }, ${shadow} }`)).toEqual([
    ...["a.b", "org.example.published.#"],
  ]);
  // Where the file says what is bound, it is believed.
  expect(await queue(`{ bus: { fedora_messaging: ${file} }, ${shadow} }`)).toEqual(["org.example.#"]);
});

test("what is missing is told", async () => {
  await expect(settings("bus: { fedora_messaging: /nowhere/config.toml }")).rejects.toMatchObject({
    ...{ code: "not-found", subject: "/nowhere/config.toml" },
  });
  await expect(settings("bus: { url: { env: NOT_SET } }")).rejects.toMatchObject({ code: "unauthenticated" });
});
