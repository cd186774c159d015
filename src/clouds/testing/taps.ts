import http from "node:http";

/** A vendor's service with a tap in front: answers can be lost after the work was done, and calls are counted. */
export interface Tap {
  readonly handler: http.RequestListener;
  /** The answer of the next call of this name does not arrive: the connection breaks instead. */
  lose(operation: string): void;
  /** Calls of this name that were answered without an error. */
  count(operation: string): number;
}

/** @param operationOf names the call from its request and from what was answered */
export function tap(
  handler: http.RequestListener,
  operationOf: (request: http.IncomingMessage, answer: string) => string | undefined,
): Tap {
  const counts = new Map<string, number>();
  let lost: string | undefined;
  return {
    lose(operation) {
      lost = operation;
    },
    count: (operation) => counts.get(operation) ?? 0,
    handler(request, response) {
      const end = response.end.bind(response) as (...all: unknown[]) => http.ServerResponse;
      response.end = ((...all: unknown[]) => {
        const body = typeof all[0] === "string" || Buffer.isBuffer(all[0]) ? all[0].toString("utf8") : "";
        const operation = response.statusCode < 400 ? operationOf(request, body) : undefined;
        if (operation) counts.set(operation, (counts.get(operation) ?? 0) + 1);
        if (operation && operation === lost) {
          lost = undefined;
          request.socket.destroy();
          return response;
        }
        return end(...all);
      }) as typeof response.end;
      handler(request, response);
    },
  };
}

/** A handler that carries requests to another server, unchanged but for the connection. */
export function carry(to: URL): http.RequestListener {
  const agent = new http.Agent({ keepAlive: true });
  return (request, response) => {
    const { host: _, ...headers } = request.headers;
    const onward = http.request(
      {
        agent,
        hostname: to.hostname,
        port: to.port,
        method: request.method,
        path: request.url,
        headers: { ...headers, host: request.headers.host },
      },
      (answer) => {
        const chunks: Buffer[] = [];
        answer.on("data", (chunk: Buffer) => chunks.push(chunk));
        answer.on("end", () => {
          const { "transfer-encoding": __, connection: ___, ...kept } = answer.headers;
          response.writeHead(answer.statusCode ?? 502, kept);
          response.end(Buffer.concat(chunks));
        });
      },
    );
    onward.on("error", () => request.socket.destroy());
    request.pipe(onward);
  };
}
