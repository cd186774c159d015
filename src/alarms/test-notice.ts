import { randomUUID } from "node:crypto";
import { messageId } from "../bus/outbox.ts";
import type { Notice } from "./alarm.ts";

/** A notice that says that it is none, to see whether it arrives. Each is another one. */
export function testNotice(channel: string, now: Date): Notice {
  const at = now.toISOString();
  return {
    id: messageId("alarm-test", channel, at, randomUUID()),
    ...{ what: "test", key: `test:${channel}`, kind: "test", severity: "warning", subject: channel },
    message: `This is a test of the channel ${channel}; nothing is wrong.`,
    next: "Nothing is to be done.",
    ...{ since: at, at },
  };
}
