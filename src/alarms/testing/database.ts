import { BUS_MIGRATIONS } from "../../bus/schema.ts";
import { CATALOG_MIGRATIONS } from "../../catalog/schema.ts";
import type { Database } from "../../database/index.ts";
import { testDatabase } from "../../database/testing/postgres.ts";
import { ALARM_MIGRATIONS } from "../schema.ts";

/** With everything alarms are about. To be closed. */
export function alarmDatabase(): Promise<Database> {
  return testDatabase({
    name: "alarms",
    async prepare(database) {
      await database.migrate("catalog", CATALOG_MIGRATIONS);
      await database.migrate("bus", BUS_MIGRATIONS);
      await database.migrate("alarms", ALARM_MIGRATIONS);
    },
  });
}
