import { type Alarm, alarmKey } from "./alarm.ts";
import { plain } from "./text.ts";
import { unlessMissing, type World } from "./watch.ts";

/** So many times what is asked for are looked at: the newest may run still. */
const LOOK_BACK = 3;

/** An event's id is its sender's, and what stands in a command is typed or pasted into a shell. */
const TYPEABLE = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}$/;

/**
 * `rule-failing`: the last so many times a rule had something to do and that has ended, it failed: it could not be
 * judged or started, or its run failed. What a release that it started became, is that release's matter.
 */
export async function watchRules({ db, runs }: World, rules: readonly string[], times: number): Promise<Alarm[]> {
  const alarms: Alarm[] = [];
  for (const rule of rules) {
    const rows = await db
      .selectFrom("dispatches")
      .select(["state", "run_id", "why", "event_id"])
      .where("rule", "=", rule)
      .where("state", "in", ["started", "done", "failed"])
      .orderBy("sequence", "desc")
      .limit(times * LOOK_BACK)
      .execute();
    const ended: { failed: boolean; why: string; run?: string | undefined; event: string }[] = [];
    for (const row of rows) {
      if (ended.length === times) break;
      const event = row.event_id;
      if (row.state === "failed") ended.push({ failed: true, why: row.why ?? "no reason is known", event });
      else if (row.run_id !== null) {
        // One that was forgotten says nothing.
        const run = await runs.status(row.run_id).catch(unlessMissing);
        if (run?.state === "done") ended.push({ failed: false, why: "", event });
        if (run?.state === "failed") {
          ended.push({ failed: true, why: run.error?.message ?? "no reason is known", run: run.id, event });
        }
      }
      if (ended.at(-1)?.failed === false) break;
    }
    if (ended.length < times || ended.some(({ failed }) => !failed)) continue;
    const { why, run, event } = ended[0]!;
    const look = run !== undefined ? `runs why ${run}` : TYPEABLE.test(event) ? `events show ${event}` : "events list";
    alarms.push({
      ...{ key: alarmKey("rule-failing", rule), kind: "rule-failing", severity: "error", subject: rule },
      message: `The rule ${rule} failed ${times} times in a row, last: ${plain(why, 250)}`,
      next: `slipway ${look}. When it is mended: slipway events replay --rule ${rule} --since 1d. To stop it meanwhile: slipway pause ${rule} --reason TEXT`,
    });
  }
  return alarms;
}
