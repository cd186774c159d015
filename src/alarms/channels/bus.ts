import type { Kysely } from "kysely";
import { enqueueMessages, type OutboxTables, type OutgoingMessage } from "../../bus/outbox.ts";
import { headersOf } from "../../bus/published.ts";
import type { Notice } from "../alarm.ts";
import { headline } from "../text.ts";
import type { Channel } from "./channel.ts";

/** Before every topic of an alarm, without the broker's prefix: by it, ours are told from what they are about. */
export const ALARM_TOPIC = "slipway.alarm.v1";

/** fedora-messaging's severities. */
const SEVERITY = { warning: 30, error: 40 } as const;
const INFO = 20;

/** A message on the bus: in the outbox when this returns, delivered when the broker is there. Once, by its id. */
export function busChannel({ name, db }: { readonly name: string; readonly db: Kysely<OutboxTables> }): Channel {
  return {
    name,
    kind: "bus",
    async send(notice) {
      await db.transaction().execute((tx) => enqueueMessages(tx, [messageOf(notice)], "alarms"));
    },
  };
}

function messageOf(notice: Notice): OutgoingMessage {
  const { id, what, kind, severity } = notice;
  const { at, since, key, subject, message, next } = notice;
  return {
    id,
    topic: [ALARM_TOPIC, ...(kind === "test" ? [] : [kind]), what].join("."),
    headers: {
      ...headersOf(`${ALARM_TOPIC}.${what}`, new Date(at)),
      fedora_messaging_severity: what === "recovered" || what === "test" ? INFO : SEVERITY[severity],
    },
    body: { what, key, kind, severity, subject, message, next, since, at },
    summary: headline(notice),
  };
}
