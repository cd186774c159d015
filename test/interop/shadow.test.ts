// A shadow on a real broker, beside another service's queue: it may read one queue and nothing else, takes nothing from
// the other, sends nothing, and compares what comes through.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { connect } from "amqplib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { composeFiles } from "../../src/compose/testing/composes.ts";
import type { Database } from "../../src/database/index.ts";
import { testDatabase } from "../../src/database/testing/postgres.ts";
import { silent } from "../../src/lib/call.ts";
import { createSession } from "../../src/wiring/session.ts";
import { reportShadow } from "../../src/workflows/index.ts";
import { hasRabbit, type Rabbit, startRabbit } from "./rabbitmq.ts";

const COMPOSE = "Fedora-43-20251021.0";
const STATUS = "org.fedoraproject.prod.pungi.compose.status.change";
const PUBLISHED = "org.fedoraproject.prod.fedora_image_uploader.published.v1";

describe.skipIf(!hasRabbit)("a shadow beside another service", () => {
  let rabbit: Rabbit;
  let database: Database;
  let web: Server;
  const directory = mkdtempSync(join(tmpdir(), "shadow-"));
  beforeAll(async () => {
    [rabbit, database] = await Promise.all([startRabbit(), testDatabase()]);
    const files = composeFiles(COMPOSE);
    web = createServer((request, response) => {
      const name = /metadata\/(composeinfo|images)\.json$/.exec(request.url ?? "")?.[1];
      if (name === undefined) response.writeHead(404).end();
      else response.end(files[name as "composeinfo" | "images"]);
    });
    await new Promise<void>((done) => web.listen(0, "127.0.0.1", done));
  });
  afterAll(async () => {
    web?.close();
    await rabbit?.close();
    await database?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  test("with the right to read its own queue and no other", async () => {
    const connection = await connect(rabbit.url);
    const channel = await connection.createConfirmChannel();
    for (const queue of ["uploader", "slipway-shadow"]) {
      await channel.assertQueue(queue, { durable: true });
      for (const topic of [STATUS, `${PUBLISHED}.#`]) await channel.bindQueue(queue, "amq.topic", topic);
    }
    const { cert, key } = await rabbit.user("shadow", { configure: "^$", write: "^$", read: "^slipway-shadow$" });
    writeFileSync(
      join(directory, "slipway.yaml"),
      `include: ${resolve(import.meta.dirname, "../../examples/fedora.yaml")}
data_dir: ${directory}/data
database: { url: { env: DATABASE } }
bus:
  { fedora_messaging: null, url: ${rabbit.tlsUrl}, ca_file: ${rabbit.caFile}, cert_file: ${cert}, key_file: ${key},
    queue: slipway-shadow, declare: passive }
shadow: {}
`,
    );
    const stop = new AbortController();
    const session = createSession(
      { config: join(directory, "slipway.yaml") },
      { environment: { DATABASE: database.url }, version: "0", log: silent, signal: stop.signal },
    );
    try {
      const events = await session.events(await session.engine("service"));
      const send = (id: string, topic: string, body: object, headers = {}) =>
        channel.publish("amq.topic", topic, Buffer.from(JSON.stringify(body)), {
          ...{ messageId: id, contentEncoding: "utf-8", contentType: "application/json", deliveryMode: 2 },
          headers: { "sent-at": "2025-10-21T09:12:40+00:00", fedora_messaging_severity: 20, ...headers },
        });
      const location = `http://127.0.0.1:${(web.address() as AddressInfo).port}/compose`;
      send(
        "theirs",
        `${PUBLISHED}.container.rc.fedora`,
        {
          ...{ compose_id: COMPOSE, release: 43, repository: "fedora", architectures: ["x86_64", "aarch64"] },
          ...{ registries: ["quay.io/fedora", "registry.fedoraproject.org"], tags: ["43"] },
        },
        { fedora_messaging_schema: "fedora_image_uploader.published.v1.container" },
      );
      for (let n = 0; n < 3; n++) send("finished", STATUS, { status: "FINISHED", compose_id: COMPOSE, location });
      await channel.waitForConfirms();

      const { db } = await session.services();
      const report = () => reportShadow(db, { now: new Date("2025-10-21T10:00:00Z"), within: 12 * 3_600_000 });
      await expect
        .poll(async () => (await report()).counts.messages, { timeout: 60_000 })
        .toMatchObject({
          ...{ theirs: 1, ours: 8, agreed: 1 },
        });
      expect((await report()).composes).toMatchObject([{ compose: COMPOSE, verdict: "waiting", differences: [] }]);
      expect(events.state()).toMatchObject({ consuming: true, publishing: undefined, fresh: 2, repeated: 2 });
      // Everything that was sent is in the other queue still, and nothing beside it.
      expect(await channel.checkQueue("uploader")).toMatchObject({ messageCount: 4, consumerCount: 0 });
      expect(await channel.checkQueue("slipway-shadow")).toMatchObject({ messageCount: 0, consumerCount: 1 });
    } finally {
      stop.abort();
      await session.close();
      await connection.close();
    }
  });
});
