import { sql } from "kysely";
import { type Alarm, alarmKey } from "./alarm.ts";
import { forPeople } from "./text.ts";
import type { World } from "./watch.ts";

export interface QueueLimits {
  /** Milliseconds an event may wait to be looked at, and a message to be sent. */
  readonly after: number;
  /** Milliseconds a run may wait for a place: uploads wait for each other by design. */
  readonly runsAfter: number;
  /** Whether messages are sent at all: where no broker is configured they wait for ever, and that is all right. */
  readonly sending: boolean;
}

/** Of more than these waiting runs the oldest is not looked for: the newest of them are old enough to be told of. */
const MOST_RUNS = 1000;

/** `queue-age`: the oldest event not looked at, message not sent, run of each queue not begun. */
export async function watchQueues(world: World, { after, runsAfter, sending }: QueueLimits): Promise<Alarm[]> {
  const alarms: Alarm[] = [];
  const events = await waitingEvents(world);
  if (tooOld(events.oldest, after)) {
    alarms.push(
      queueAlarm("events", events.oldest!, {
        message: `${events.count} event(s) wait to be looked at`,
        next: "The log of slipway serve says why events cannot be dispatched. See which: slipway events list. Then: slipway doctor",
      }),
    );
  }
  if (sending) {
    const messages = await waitingMessages(world);
    if (tooOld(messages.oldest, after)) {
      alarms.push(
        queueAlarm("messages", messages.oldest!, {
          message: `${messages.count} message(s) wait to be sent to the broker`,
          next: "slipway events list --sent shows each with its trouble. They are kept, and sent when the broker takes them.",
        }),
      );
    }
  }
  for (const [queue, { oldest, count }] of await waitingRuns(world)) {
    if (!tooOld(oldest, runsAfter)) continue;
    alarms.push(
      queueAlarm(`runs-${queue}`, oldest!, {
        message: `${count} run(s) wait in the queue ${queue}`,
        next: `See what is in the way: slipway runs list. A queue needs a worker that works on it: slipway worker --queues ${queue}`,
      }),
    );
  }
  return alarms;
}

interface Waiting {
  readonly count: number;
  /** Milliseconds it waits; undefined: nothing does. */
  readonly oldest: number | undefined;
}

function tooOld(oldest: number | undefined, most: number): boolean {
  return oldest !== undefined && oldest >= most;
}

function queueAlarm(queue: string, age: number, words: Pick<Alarm, "message" | "next">): Alarm {
  return {
    ...{ key: alarmKey("queue-age", queue), kind: "queue-age", severity: "error", subject: queue },
    message: `${words.message}, the oldest for ${forPeople(age)}.`,
    next: words.next,
  };
}

async function waitingEvents({ db, now }: World): Promise<Waiting> {
  const row = await db
    .selectFrom("inbox")
    .select([sql<string>`count(*)`.as("count"), sql<Date | null>`min(received_at)`.as("oldest")])
    .where("dispatched_at", "is", null)
    .where("source", "<>", "shadow")
    .executeTakeFirstOrThrow();
  return waiting(row, now);
}

async function waitingMessages({ db, now }: World): Promise<Waiting> {
  const row = await db
    .selectFrom("outbox")
    .select([sql<string>`count(*)`.as("count"), sql<Date | null>`min(created_at)`.as("oldest")])
    .where("state", "=", "waiting")
    .executeTakeFirstOrThrow();
  return waiting(row, now);
}

function waiting(row: { count: string; oldest: Date | null }, now: Date): Waiting {
  return { count: Number(row.count), oldest: row.oldest === null ? undefined : now.getTime() - row.oldest.getTime() };
}

async function waitingRuns({ runs, now }: World): Promise<ReadonlyMap<string, Waiting>> {
  const queues = new Map<string, { count: number; oldest: number }>();
  for (const { queue, createdAt } of await runs.list({ state: "waiting", limit: MOST_RUNS })) {
    const known = queues.get(queue) ?? { count: 0, oldest: 0 };
    queues.set(queue, { count: known.count + 1, oldest: Math.max(known.oldest, now.getTime() - createdAt) });
  }
  return queues;
}
