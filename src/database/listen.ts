import pg from "pg";
import type { Log } from "../lib/call.ts";

export interface Listener {
  close(): Promise<void>;
}

const RECONNECT_MS = 500;

/**
 * LISTENs on a connection of its own and calls back for every notification. When the connection breaks it is made anew,
 * and the callback is called once with "", because notifications may have been missed.
 */
export async function listen(
  config: pg.ClientConfig,
  channel: string,
  onNotify: (payload: string) => void,
  log: Log,
): Promise<Listener> {
  let closed = false;
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function connect(): Promise<void> {
    const fresh = new pg.Client({ ...config, keepAlive: true });
    let gone = false;
    const lost = (error?: Error) => {
      if (gone) return;
      gone = true;
      fresh.end().catch(() => {});
      if (closed || client !== fresh) return;
      log.warn("lost the connection that listens for notifications", { channel, error: error?.message });
      client = undefined;
      retry();
    };
    fresh.on("error", lost);
    fresh.on("end", () => lost());
    fresh.on("notification", (message) => onNotify(message.payload ?? ""));
    try {
      await fresh.connect();
      await fresh.query(`LISTEN ${pg.escapeIdentifier(channel)}`);
    } catch (error) {
      gone = true;
      await fresh.end().catch(() => {});
      throw error;
    }
    if (closed) await fresh.end().catch(() => {});
    else client = fresh;
  }

  function retry(): void {
    timer = setTimeout(() => {
      connect().then(
        () => onNotify(""),
        () => {
          if (!closed) retry();
        },
      );
    }, RECONNECT_MS);
  }

  await connect();
  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await client?.end().catch(() => {});
    },
  };
}
