import { randomUUID, timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { Refusal, sendJson } from "./wire.ts";

export interface GateOptions {
  /** Absent: everybody may do everything. */
  readonly credentials?: { readonly username: string; readonly password: string };
  /** True: Bearer tokens from /token of the same host; false: Basic. */
  readonly tokenAuth?: boolean;
  /** What the account may do; default everything. Actions are `pull`, `push`, `delete`. */
  readonly allows?: (repository: string, action: string) => boolean;
}

interface Need {
  readonly name: string;
  readonly actions: readonly string[];
}

/** Who may come in, by Basic or by token. A token allows what it was given for, and nothing else. */
export function createGate({ credentials, tokenAuth = false, allows = () => true }: GateOptions) {
  const tokens = new Map<string, ReadonlySet<string>>();

  function knows(request: IncomingMessage): boolean {
    if (!credentials) return true;
    const expected = Buffer.from(
      `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`,
    );
    const given = Buffer.from(request.headers.authorization ?? "");
    return given.length === expected.length && timingSafeEqual(given, expected);
  }

  function challenge(request: IncomingMessage, needs: readonly Need[], refused: boolean): string {
    if (!tokenAuth) return 'Basic realm="rehearsal"';
    // Behind a proxy the client's own scheme is what counts; docker-registry listens to the same header.
    const scheme = request.headers["x-forwarded-proto"] ?? ("encrypted" in request.socket ? "https" : "http");
    const scope = needs.map(({ name, actions }) => `repository:${name}:${actions.join(",")}`).join(" ");
    return [
      `Bearer realm="${scheme}://${request.headers.host}/token",service="rehearsal"`,
      ...(scope ? [`scope="${scope}"`] : []),
      ...(refused ? ['error="insufficient_scope"'] : []),
    ].join(",");
  }

  return {
    /** @throws Refusal 401, 403 */
    admit(request: IncomingMessage, needs: readonly Need[]): void {
      if (!credentials && !tokenAuth) return;
      const wanted = needs.flatMap(({ name, actions }) => actions.map((action) => ({ name, action })));
      const unauthorized = (refused: boolean) =>
        new Refusal(401, "UNAUTHORIZED", "authentication required", {
          "WWW-Authenticate": challenge(request, needs, refused),
        });
      if (!tokenAuth) {
        if (!knows(request)) throw unauthorized(false);
        const missing = wanted.find(({ name, action }) => !allows(name, action));
        if (missing) throw new Refusal(403, "DENIED", `${missing.action} on ${missing.name} is denied`);
        return;
      }
      const granted = tokens.get(/^Bearer (\S+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "");
      if (!granted) throw unauthorized(false);
      if (!wanted.every(({ name, action }) => granted.has(`${name}:${action}`))) throw unauthorized(true);
    },

    /** The token service: grants what is asked and allowed, silently less. */
    token(request: IncomingMessage, url: URL, response: ServerResponse): void {
      if (!tokenAuth) throw new Refusal(501, "UNSUPPORTED", "the simulated registry does not know GET /token");
      if (!knows(request)) throw new Refusal(401, "UNAUTHORIZED", "wrong user name or password");
      const granted = new Set<string>();
      for (const scope of url.searchParams.getAll("scope").flatMap((each) => each.split(" "))) {
        const [type, name, actions] = scope.split(":");
        if (type !== "repository" || !name || !actions) continue;
        for (const action of actions.split(",")) if (allows(name, action)) granted.add(`${name}:${action}`);
      }
      const token = randomUUID();
      tokens.set(token, granted);
      sendJson(response, 200, { token, expires_in: 300, issued_at: new Date().toISOString() });
    },
  };
}
