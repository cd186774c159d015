import { expect, test } from "vitest";
import { readDelivery } from "../message.ts";
import { webhookDelivery } from "./event.ts";
import type { VerifiedCall } from "./verify.ts";

const call = (body: string, rest: Partial<VerifiedCall> = {}): VerifiedCall => ({
  ...{ ok: true, event: "push", delivery: "d-1", content: Buffer.from(body), identity: ["body", body] },
  ...rest,
});
const source = { name: "dist-git", forge: "forgejo", topicPrefix: "org.fedoraproject.prod" } as const;

test("topic, body and headers are an event's as any other", () => {
  const headers = { "x-forgejo-event": "push", "x-forgejo-delivery": "d-1" };
  expect(readDelivery(webhookDelivery(source, call('{"ref":"main"}'), headers))).toMatchObject({
    topic: "org.fedoraproject.prod.forgejo.push",
    body: { ref: "main" },
    headers: { ...headers, "webhook-source": "dist-git" },
  });
  expect(webhookDelivery({ ...source, topicPrefix: undefined }, call("{}"), {}).routingKey).toBe("forgejo.push");
});

test("headers are kept by name, and only what can be shown", () => {
  const headers = {
    ...{ authorization: "Basic c2VjcmV0", cookie: "a=b", "x-hub-signature-256": "sha256=00", "x-gitlab-token": "t" },
    ...{ "x-forwarded-for": "10.0.0.1", fedora_messaging_severity: "40", "webhook-signature": "v1,x" },
    ...{ "x-forgejo-signature": "00", "x-gitea-signature": "00", "proxy-authorization": "x", "webhook-source": "mine" },
    ...{ "x-forgejo-event": "a\r\nb", "x-github-hook-id": "7", "x-forgejo-event-type": "x".repeat(201) },
  };
  expect(webhookDelivery(source, call("{}"), headers).headers).toEqual({
    "webhook-source": "dist-git",
    "x-github-hook-id": "7",
  });
});

test("one call has one id, and no other source or identity has it", () => {
  const id = (name: string, identity: string[]) =>
    webhookDelivery({ ...source, name }, call("{}", { identity }), {}).messageId;
  expect(id("a", ["body", "1"])).toBe(id("a", ["body", "1"]));
  expect(
    new Set([id("a", ["body", "1"]), id("b", ["body", "1"]), id("a", ["body", "2"]), id("a", ["id", "1"])]).size,
  ).toBe(4);
});

test("bytes are kept as they came", () => {
  const body = '{ "a": 1.0,\n"b": "\\u017e" }';
  expect(Buffer.from(webhookDelivery(source, call(body), {}).content).toString()).toBe(body);
});

test.each([
  ["the hook's own secret, as old versions write it", '{"secret":"hush","ref":"main"}', { ref: "main" }],
  ["deeper, the word means something else", '{"a":{"secret":"b"}}', { a: { secret: "b" } }],
])("%s", (_, body, kept) => {
  expect(JSON.parse(Buffer.from(webhookDelivery(source, call(body), {}).content).toString())).toEqual(kept);
});

test("a key called __proto__ is a key", () => {
  const said = readDelivery(webhookDelivery(source, call('{"secret":"hush","__proto__":{"admin":true}}'), {}));
  if ("reason" in said) throw new Error(said.reason);
  expect(JSON.stringify(said.body)).toBe('{"__proto__":{"admin":true}}');
  expect((said.body as { admin?: unknown }).admin).toBeUndefined();
  expect(({} as { admin?: unknown }).admin).toBeUndefined();
});

test("what is no JSON is left for others to refuse", () => {
  for (const body of ['"secret"', '{"secret":', 'null "secret"']) {
    expect(Buffer.from(webhookDelivery(source, call(body), {}).content).toString()).toBe(body);
  }
});
