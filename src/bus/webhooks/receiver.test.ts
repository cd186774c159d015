import { createHmac } from "node:crypto";
import { expect, test } from "vitest";
import type { Log } from "../../lib/call.ts";
import type { Accepted } from "../inbox.ts";
import { type Delivery, readDelivery } from "../message.ts";
import { createWebhookReceiver, type WebhookReceiverOptions, type WebhookRequest } from "./receiver.ts";

const SECRET = "hush-hush-hush";

/** An inbox in memory: one event for each id, one that comes back changed in quarantine. */
function inbox() {
  const kept = new Map<string, Delivery>();
  const state = { away: false };
  async function accept(deliveries: readonly Delivery[]): Promise<Accepted> {
    if (state.away) throw new Error("connection refused");
    const fresh: string[] = [];
    let quarantined = 0;
    for (const delivery of deliveries) {
      const said = readDelivery(delivery);
      const before = kept.get(said.id);
      if ("reason" in said || (before && !Buffer.from(before.content).equals(delivery.content))) quarantined++;
      else if (before === undefined) {
        kept.set(said.id, delivery);
        fresh.push(said.id);
      }
    }
    return { fresh, quarantined, repeated: deliveries.length - fresh.length - quarantined };
  }
  return { accept, kept, state };
}

function recordingLog() {
  const lines: { message: string; fields: Record<string, unknown> }[] = [];
  const write = (message: string, fields = {}) => void lines.push({ message, fields });
  const log: Log = { debug: write, info: write, warn: write, error: write };
  return { log, lines, warned: () => lines.filter(({ message }) => message === "webhook refused") };
}

function door(options: Partial<WebhookReceiverOptions> = {}) {
  const { accept, kept, state } = inbox();
  const { log, lines, warned } = recordingLog();
  const clock = { now: new Date("2026-11-28T03:00:00Z") };
  const receiver = createWebhookReceiver({
    sources: {
      "dist-git": { forge: "forgejo", secrets: async () => [SECRET], topicPrefix: "org.fedoraproject.prod" },
      hub: { forge: "github", secrets: async () => [SECRET], events: ["push"] },
      registry: { forge: "quay", secrets: async () => [SECRET] },
      "no-secret": { forge: "github", secrets: async () => [] },
      "lost-secret": { forge: "github", secrets: () => Promise.reject(new Error("no file /run/secrets/hub")) },
    },
    accept,
    log,
    now: () => clock.now,
    ...options,
  });
  return { ...receiver, kept, state, lines, warned, clock };
}

const hex = (body: string, secret = SECRET) => createHmac("sha256", secret).update(body).digest("hex");

function forgejo(body: string, headers: WebhookRequest["headers"] = {}, name = "dist-git"): WebhookRequest {
  const own = { "x-forgejo-event": "push", "x-forgejo-delivery": "d-1", "x-forgejo-signature": hex(body) };
  return { name, headers: { ...own, ...headers }, body: Buffer.from(body), remote: "192.0.2.7" };
}

function github(body: string, headers: WebhookRequest["headers"] = {}, name = "hub"): WebhookRequest {
  const own = { "x-github-event": "push", "x-github-delivery": "d-1", "x-hub-signature-256": `sha256=${hex(body)}` };
  return { name, headers: { ...own, ...headers }, body: Buffer.from(body) };
}

test("a call is kept, and only then answered with its id", async () => {
  const { handle, kept, counts } = door();
  const { status, body } = await handle(forgejo('{"ref":"main"}'));
  expect([status, body.state, [...kept.keys()]]).toEqual([202, "accepted", [body.id]]);
  expect(kept.get(body.id!)!.routingKey).toBe("org.fedoraproject.prod.forgejo.push");
  expect(counts().get("dist-git")).toEqual({ accepted: 1, repeated: 0, quarantined: 0, ignored: 0, refused: {} });
});

test("a replay starts nothing, under its own delivery id or another, as another event or as a form", async () => {
  const { handle, kept, counts } = door();
  const json = '{"ref":"main"}';
  const { body } = await handle(forgejo(json));
  const form = { ...forgejo(json), body: Buffer.from(`payload=${encodeURIComponent(json)}`) };
  for (const replay of [
    forgejo(json),
    forgejo(json, { "x-forgejo-delivery": "d-2" }),
    forgejo(json, { "x-forgejo-event": "release" }),
    { ...form, headers: { ...form.headers, "content-type": "application/x-www-form-urlencoded" } },
  ]) {
    expect(await handle(replay)).toMatchObject({ status: 200, body: { state: "repeated", id: body.id } });
  }
  expect(kept.size).toBe(1);
  expect(counts().get("dist-git")).toMatchObject({ accepted: 1, repeated: 4 });
});

test("nothing secret is kept or logged", async () => {
  const { handle, kept, lines } = door();
  const body = JSON.stringify({ ref: "main", secret: SECRET });
  const authorization = `Basic ${Buffer.from(`x:${SECRET}`).toString("base64")}`;
  const extra = { authorization, cookie: `s=${SECRET}`, "x-api-key": SECRET, "x-gitlab-token": SECRET };
  await handle(forgejo(body, extra));
  await handle({ name: "registry", headers: extra, body: Buffer.from('{"updated_tags":["latest"]}') });
  await handle(forgejo(body, { ...extra, "x-forgejo-signature": hex(body, "wrong") }));
  const written = [...kept.values()].map(({ content, ...rest }) => [Buffer.from(content).toString(), rest]);
  const everything = JSON.stringify([written, lines]);
  expect(kept.size).toBe(2);
  for (const secret of [SECRET, authorization, hex(body), hex(body, "wrong")]) expect(everything).not.toContain(secret);
});

test.each([
  ["a wrong signature", forgejo("{}", { "x-forgejo-signature": "0".repeat(64) }), 401, "unauthenticated"],
  ["no signature", forgejo("{}", { "x-forgejo-signature": undefined }), 401, "unauthenticated"],
  ["SHA-1", github("{}", { "x-hub-signature-256": `sha1=${"0".repeat(40)}` }), 401, "unauthenticated"],
  ["an unknown source", forgejo("{}", {}, "elsewhere"), 404, "unknown-source"],
  ["a source called __proto__", forgejo("{}", {}, "__proto__"), 404, "unknown-source"],
  ["a source called constructor", forgejo("{}", {}, "constructor"), 404, "unknown-source"],
  ["no JSON", forgejo("{"), 400, "unreadable"],
  ["no object", forgejo("[1]"), 400, "unreadable"],
  ["JSON nested beyond reason", forgejo("[".repeat(200)), 400, "unreadable"],
  ["no event", forgejo("{}", { "x-forgejo-event": undefined }), 400, "no-event"],
  ["a delivery id with a line break", forgejo("{}", { "x-forgejo-delivery": "a\r\nb" }), 400, "no-delivery"],
  ["a source without a secret", github("{}", {}, "no-secret"), 503, "not-configured"],
  ["a source whose secret cannot be read", github("{}", {}, "lost-secret"), 503, "not-configured"],
])("%s", async (_, request, status, why) => {
  const { handle, kept, warned } = door();
  expect(await handle(request)).toMatchObject({ status, body: { state: "refused", why } });
  expect(kept.size).toBe(0);
  expect(warned()).toHaveLength(1);
});

test("of a header sent several times the first counts", async () => {
  const { handle } = door();
  const good = hex("{}");
  expect(await handle(forgejo("{}", { "x-forgejo-signature": [good, "0"] }))).toMatchObject({ status: 202 });
  expect(await handle(forgejo("{}", { "x-forgejo-signature": ["0", good] }))).toMatchObject({ status: 401 });
});

test("a ping and an event nobody wants are answered and forgotten, once they are believed", async () => {
  const { handle, kept, counts } = door();
  expect(await handle(github("{}", { "x-github-event": "ping" }))).toMatchObject({
    status: 200,
    body: { state: "pong" },
  });
  expect(await handle(github("{}", { "x-github-event": "star" }))).toMatchObject({
    status: 200,
    body: { state: "ignored" },
  });
  const forged = github("{}", { "x-github-event": "ping", "x-hub-signature-256": `sha256=${"0".repeat(64)}` });
  expect(await handle(forged)).toMatchObject({ status: 401 });
  expect(kept.size).toBe(0);
  expect(counts().get("hub")).toMatchObject({ ignored: 2, refused: { mismatch: 1 } });
});

test("while the database is away the caller is told to come again, and coming again works", async () => {
  const { handle, kept, state } = door();
  state.away = true;
  expect(await handle(forgejo("{}"))).toMatchObject({ status: 503, headers: { "retry-after": "30" } });
  state.away = false;
  expect(await handle(forgejo("{}"))).toMatchObject({ status: 202, body: { state: "accepted" } });
  expect(kept.size).toBe(1);
});

test("secrets are asked for every time", async () => {
  let secrets = ["old"];
  const { handle } = door({ sources: { hub: { forge: "github", secrets: async () => secrets } } });
  const signed = (secret: string) => github("{}", { "x-hub-signature-256": `sha256=${hex("{}", secret)}` });
  expect((await handle(signed("old"))).status).toBe(202);
  secrets = ["new"];
  expect((await handle(signed("old"))).status).toBe(401);
  expect((await handle(signed("new"))).status).toBe(200);
});

/** A body that counts how much of it was asked for. */
function stream(chunks: readonly string[], fails = false) {
  const seen = { chunks: 0, returned: false };
  const body: AsyncIterable<Uint8Array> = {
    [Symbol.asyncIterator]: () => ({
      async next() {
        if (seen.chunks === chunks.length) {
          if (fails) throw new Error("aborted");
          return { done: true, value: undefined };
        }
        return { done: false, value: Buffer.from(chunks[seen.chunks++]!) };
      },
      async return() {
        seen.returned = true;
        return { done: true, value: undefined };
      },
    }),
  };
  return { body, seen };
}

test("a body in pieces is one body", async () => {
  const { handle } = door();
  expect(await handle({ ...forgejo('{"a":"ž"}'), body: stream(['{"a":', '"ž"}']).body })).toMatchObject({
    status: 202,
  });
});

test("a body too large is read no further than that, and its connection is left to be answered on", async () => {
  const { handle } = door({ limits: { mostBytes: 10 } });
  const { body, seen } = stream(["12345", "67890", "1", "never asked for"]);
  expect(await handle({ ...forgejo("{}"), body })).toMatchObject({ status: 413, headers: { connection: "close" } });
  expect(seen).toEqual({ chunks: 3, returned: false });
});

test("a body in very many pieces weighs more than its bytes", async () => {
  const { handle } = door({ limits: { mostHeldBytes: 10_000 } });
  const { body, seen } = stream(Array.from({ length: 1000 }, () => " "));
  expect(await handle({ ...forgejo("{}"), body })).toMatchObject({ status: 503, body: { why: "busy" } });
  expect(seen.chunks).toBeLessThan(100);
});

test("a body declared too large is not read at all", async () => {
  const { handle } = door({ limits: { mostBytes: 10 } });
  const { body, seen } = stream(["1"]);
  expect(await handle({ ...forgejo("{}", { "content-length": "11" }), body })).toMatchObject({ status: 413 });
  expect(seen.chunks).toBe(0);
});

test("25 MiB is what GitHub sends at most: beyond what events are read from, it waits in quarantine for people", async () => {
  const { handle, counts } = door();
  const body = JSON.stringify({ blob: "x".repeat(17 * 1024 * 1024) });
  expect(await handle(github(body))).toMatchObject({ status: 202, body: { state: "quarantined" } });
  expect(counts().get("hub")).toMatchObject({ quarantined: 1 });
  expect(await handle({ ...github("{}"), body: Buffer.alloc(25 * 1024 * 1024 + 1) })).toMatchObject({ status: 413 });
});

test("a body that breaks off", async () => {
  const { handle } = door();
  expect(await handle({ ...forgejo("{}"), body: stream(["{"], true).body })).toMatchObject({ status: 400 });
});

test("all calls together hold no more than they may, and what was held is free again", async () => {
  const kept: Accepted = { fresh: ["x"], repeated: 0, quarantined: 0 };
  const reached = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<Accepted>();
  const accept = () => {
    reached.resolve();
    return answered.promise;
  };
  const { handle } = door({ accept, limits: { mostHeldBytes: 12 } });
  const first = handle(forgejo('{"a":"12"}'));
  await reached.promise;
  expect(await handle(forgejo("{  }"))).toMatchObject({ status: 503, body: { why: "busy" } });
  answered.resolve(kept);
  expect(await first).toMatchObject({ status: 202 });
  expect(await handle(forgejo("{  }"))).toMatchObject({ status: 202 });
});

test("refusals are counted all and told once a minute, and an unknown name only if it is one", async () => {
  const { handle, counts, warned, clock } = door();
  for (let time = 0; time < 100; time++) await handle(forgejo("{}", { "x-forgejo-signature": "0" }));
  for (let time = 0; time < 100; time++) await handle(forgejo("{}", {}, `guess-${time}`));
  expect(counts().get("dist-git")!.refused).toEqual({ malformed: 100 });
  expect(counts().get("")!.refused).toEqual({ "unknown-source": 100 });
  expect(warned()).toHaveLength(2);
  clock.now = new Date(clock.now.getTime() + 60_000);
  await handle(forgejo("{}", { "x-forgejo-signature": "0" }));
  await handle(forgejo("{}", {}, "a\nb"));
  expect(warned().map(({ fields }) => fields)).toEqual([
    { source: "dist-git", why: "malformed", remote: "192.0.2.7" },
    { source: "", why: "unknown-source", named: "guess-0", remote: "192.0.2.7" },
    { source: "dist-git", why: "malformed", remote: "192.0.2.7", unsaid: 99 },
    { source: "", why: "unknown-source", remote: "192.0.2.7", unsaid: 99 },
  ]);
});

test.each([
  ["a name for no URL", "Dist Git", {}],
  ["a forge nobody knows", "x", { forge: "sourceforge" }],
  ["a prefix that ends in a dot", "x", { topicPrefix: "org." }],
  ["a prefix with a wildcard", "x", { topicPrefix: "org.*" }],
])("%s is refused before anybody calls", (_, name, rest) => {
  const source = { forge: "github", secrets: async () => [SECRET], ...rest };
  expect(() => door({ sources: { [name]: source } as WebhookReceiverOptions["sources"] })).toThrow(
    expect.objectContaining({ code: "invalid", subject: `webhooks.${name}` }),
  );
});
