import { listMessages } from "../../bus/outbox.ts";
import { EXIT, table } from "../output.ts";
import type { Session } from "../session.ts";

/** Messages that announce what was released. Without a broker they wait, and can be read here. */
export async function listEvents(
  session: Session,
  options: { sent?: boolean; topic?: string; run?: string; limit: string },
): Promise<number> {
  const { db } = await session.services();
  const messages = await listMessages(db, { topic: options.topic, runId: options.run, limit: Number(options.limit) });
  session.output.data(messages, (paint) =>
    messages.length === 0
      ? "No messages."
      : table(
          ["state", "time", "topic", "what"],
          messages.map((message) => [
            message.state === "waiting" ? paint.warn("waiting") : paint.good(message.state),
            message.createdAt.slice(0, 19).replace("T", " "),
            message.topic,
            message.summary,
          ]),
          paint,
        ),
  );
  return EXIT.done;
}
