// A process of its own for tests: opens the embedded database of a directory, commits a row, says so and waits.
import { silent } from "../../lib/call.ts";
import { openDatabase } from "../index.ts";

const [dataDir = "", once] = process.argv.slice(2);
const database = await openDatabase({ dataDir, log: silent, durable: false });
await database.pool.query("CREATE TABLE said (word text)");
await database.pool.query("INSERT INTO said VALUES ('hello')");
if (once === "once") {
  const { rows } = await database.pool.query("SELECT word FROM said");
  process.stdout.write(JSON.stringify(rows));
  await database.close();
} else {
  process.send?.("ready");
  setInterval(() => {}, 60_000);
}
