/** Our consumer: every message is committed, then acknowledged. Prints how long so many took. */
import { consumeEvents } from "../../src/bus/consume.ts";
import { acceptDeliveries, type InboxTables } from "../../src/bus/inbox.ts";
import { BUS_MIGRATIONS } from "../../src/bus/schema.ts";
import { openDatabase } from "../../src/database/index.ts";
import { silent } from "../../src/lib/call.ts";

const { INTAKE_COUNT, INTAKE_URL, INTAKE_DATA, INTAKE_PREFETCH } = process.env;
const count = Number(INTAKE_COUNT);
const database = await openDatabase({ dataDir: INTAKE_DATA!, log: silent });
await database.migrate("bus", BUS_MIGRATIONS);
await database.pool.query("truncate inbox, quarantine cascade");
const { rows } = await database.pool.query("show fsync");
const db = database.kysely<InboxTables>();
let begun: number | undefined;
const consumer = await consumeEvents({
  settings: {
    ...{ url: INTAKE_URL!, clientProperties: {}, publishExchange: "amq.topic", topicPrefix: "", declare: "passive" },
    queues: [{ name: "intake", durable: true, autoDelete: false, exclusive: false, arguments: {}, bindings: [] }],
    prefetch: Number(INTAKE_PREFETCH),
  },
  version: "bench",
  accept(deliveries) {
    begun ??= performance.now();
    return acceptDeliveries(db, "broker", deliveries);
  },
  log: silent,
});
while (consumer.intake.counts().fresh < count) await new Promise((resolve) => setTimeout(resolve, 2));
const seconds = (performance.now() - begun!) / 1000;
await consumer.close();
await database.close();
console.log(JSON.stringify({ seconds, fsync: rows[0].fsync }));
