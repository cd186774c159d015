import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createAuthority } from "../../rehearsal/src/tls.ts";
import { type Log, silent } from "../lib/call.ts";
import { openBroker } from "./broker.ts";
import type { BrokerSettings } from "./fedora-messaging.ts";

let directory: string;
const file = (name: string) => join(directory, name);
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "login-"));
  const [one, other] = await Promise.all([createAuthority(), createAuthority()]);
  await writeFile(file("one.pem"), one.cert);
  await writeFile(file("one.key"), one.key);
  await writeFile(file("other.key"), other.key);
  await writeFile(file("text"), "no PEM at all, hunter2");
  await writeFile(file("broken.pem"), "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n");
  await writeFile(file("broken.key"), "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n");
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const open = (more: Partial<BrokerSettings>, log: Log = silent) =>
  openBroker({
    settings: {
      // Nobody is there: port 9 is discarded.
      ...{ url: "amqps://user:hunter2@localhost:9/%2Fpubsub", clientProperties: {}, publishExchange: "amq.topic" },
      ...{ topicPrefix: "", declare: "active", queues: [], prefetch: 1, ...more },
    },
    version: "0",
    log,
    setup: async () => {},
  });

describe("a login that cannot be is told at once, and without what is secret", () => {
  test.each([
    ["a certificate that is not there", { certFile: "nowhere.pem", keyFile: "one.key" }, /cannot be read/],
    ["a key that is not there", { certFile: "one.pem", keyFile: "nowhere.key" }, /cannot be read/],
    ["an authority that is not there", { caFile: "nowhere.pem" }, /cannot be read/],
    ["text for a certificate", { certFile: "text", keyFile: "one.key" }, /is no PEM/],
    ["a certificate that is broken", { certFile: "broken.pem", keyFile: "one.key" }, /certificate .* cannot be read/],
    ["a key that is broken", { certFile: "one.pem", keyFile: "broken.key" }, /key .* cannot be read/],
    ["another's key", { certFile: "one.pem", keyFile: "other.key" }, /do not belong together/],
  ])("%s", async (_, files, message) => {
    const paths = Object.fromEntries(Object.entries(files).map(([name, path]) => [name, file(path)]));
    const error = await open(paths).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toMatchObject({ code: "invalid", message: expect.stringMatching(message) });
    expect(JSON.stringify([error, (error as Error).message])).not.toContain("hunter2");
  });

  test.each(["http://example.org", "amqp://a b", ""])("the URL %j", async (url) => {
    await expect(open({ url })).rejects.toMatchObject({ code: "invalid", next: expect.stringContaining("amqps://") });
  });
});

test("a broker that is not there is waited for, with a reason that holds no password, and left at once", async () => {
  const said: [string, unknown][] = [];
  const broker = await open(
    { certFile: file("one.pem"), keyFile: file("one.key") },
    { ...silent, warn: (message, fields) => void said.push([message, fields]) },
  );
  await expect
    .poll(() => said.some(([message]) => message.includes("cannot be reached")), { timeout: 10_000 })
    .toBe(true);
  expect(broker.connected).toBe(false);
  expect(broker.trouble).toBeDefined();
  expect(JSON.stringify(said)).not.toContain("hunter2");
  await broker.close();
});
