/**
 * A bare client: requests that were made and signed beforehand, written to TLS connections one after the other. It does
 * nothing that is not needed to get the bytes to the server and its word that it has them: what it takes is the wire.
 */
import { once } from "node:events";
import { connect, createSecureContext, type TLSSocket } from "node:tls";

export interface BareRequest {
  /** Request line and headers, ending in an empty line. */
  readonly head: Buffer;
  readonly body: Uint8Array;
}

const HEAD_END = Buffer.from("\r\n\r\n");

/** Seconds until all were answered with success. Connections are made before the clock starts. */
export async function sendBare(
  server: URL,
  ca: string,
  connections: number,
  requests: readonly BareRequest[],
): Promise<number> {
  const secureContext = createSecureContext({ ca });
  const sockets = await Promise.all(
    Array.from({ length: connections }, async () => {
      const socket = connect({ host: server.hostname, port: Number(server.port), secureContext });
      socket.setNoDelay(true);
      await once(socket, "secureConnect");
      return socket;
    }),
  );
  const started = performance.now();
  const queue = requests.values();
  await Promise.all(
    sockets.map(async (socket) => {
      const answers = answersOf(socket);
      for (const { head, body } of queue) {
        socket.cork();
        socket.write(head);
        socket.write(body);
        socket.uncork();
        const { value: answer } = await answers.next();
        if (answer === undefined) throw new Error("the server hung up");
        if (answer.status >= 300) throw new Error(`the server answered ${answer.text}`);
      }
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  for (const socket of sockets) socket.destroy();
  return seconds;
}

interface BareAnswer {
  readonly status: number;
  readonly text: string;
}

/** Answers with a Content-Length, or without a body: all that the simulated clouds give to a write. */
async function* answersOf(socket: TLSSocket): AsyncGenerator<BareAnswer> {
  let pending: Buffer = Buffer.alloc(0);
  for await (const chunk of socket) {
    pending = pending.length === 0 ? (chunk as Buffer) : Buffer.concat([pending, chunk as Buffer]);
    for (;;) {
      const end = pending.indexOf(HEAD_END);
      if (end < 0) break;
      const head = pending.subarray(0, end).toString("latin1");
      let after = end + HEAD_END.length;
      if (/^transfer-encoding: *chunked/im.test(head)) {
        // Short error texts and XML come like this; their last chunk is empty.
        const last = pending.indexOf("0\r\n\r\n", after);
        if (last < 0) break;
        after = last + 5;
      } else after += Number(/^content-length: *(\d+)/im.exec(head)?.[1] ?? 0);
      if (pending.length < after) break;
      yield {
        status: Number(head.slice(9, 12)),
        text: `${head.split("\r\n")[0]} ${pending.subarray(end, after).toString().trim()}`,
      };
      pending = pending.subarray(after);
    }
  }
}
