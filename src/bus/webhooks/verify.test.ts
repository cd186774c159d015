import { createHmac } from "node:crypto";
import { describe, expect, test } from "vitest";
import { type CallHeaders, type Forge, type VerifiedCall, verifyWebhook, type WebhookCall } from "./verify.ts";

const NOW = new Date("2026-11-28T03:00:00Z");
const SECRET = "It's a Secret to Everybody";
const hex = (secret: string, body: string | Buffer) => createHmac("sha256", secret).update(body).digest("hex");

/** A push as each forge sends it, rightly signed. */
function push(forge: Forge, body: string, secret = SECRET): WebhookCall {
  const signature = hex(secret, body);
  const headers: Record<Forge, CallHeaders> = {
    github: { "x-hub-signature-256": `sha256=${signature}`, "x-github-event": "push", "x-github-delivery": "d-1" },
    forgejo: { "x-forgejo-signature": signature, "x-forgejo-event": "push", "x-forgejo-delivery": "d-1" },
    gitea: { "x-gitea-signature": signature, "x-gitea-event": "push", "x-gitea-delivery": "d-1" },
    gitlab: { "x-gitlab-token": secret, "x-gitlab-event": "Push Hook", "idempotency-key": "d-1" },
    quay: { authorization: `Basic ${Buffer.from(`slipway:${secret}`).toString("base64")}` },
  };
  const event = forge === "quay" ? "push" : undefined;
  return { forge, secrets: [SECRET], headers: headers[forge], rawBody: Buffer.from(body), now: NOW, event };
}

const FORGES: Forge[] = ["github", "forgejo", "gitea", "gitlab", "quay"];
const altered = (call: WebhookCall, headers: CallHeaders, rest: Partial<WebhookCall> = {}): WebhookCall => ({
  ...call,
  ...rest,
  headers: { ...call.headers, ...headers },
});
const why = (call: WebhookCall) => {
  const said = verifyWebhook(call);
  return said.ok ? "accepted" : said.why;
};
const accepted = (call: WebhookCall): VerifiedCall => {
  const said = verifyWebhook(call);
  if (!said.ok) throw new Error(said.why);
  return said;
};

test("GitHub's own example", () => {
  const call = push("github", "Hello, World!");
  const signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
  expect(why(altered(call, { "x-hub-signature-256": `sha256=${signature}` }))).toBe("accepted");
  expect(why(altered(call, { "x-hub-signature-256": `sha256=${signature.replace("7", "8")}` }))).toBe("mismatch");
});

test("RFC 4231's second case, as Forgejo writes it", () => {
  const signature = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
  const call = push("forgejo", "what do ya want for nothing?");
  expect(why(altered(call, { "x-forgejo-signature": signature }, { secrets: ["Jefe"] }))).toBe("accepted");
});

describe.each(FORGES)("%s", (forge) => {
  test("a call that is what it says", () => {
    expect(accepted(push(forge, '{"ref":"main"}'))).toMatchObject({
      event: "push",
      delivery: forge === "quay" ? undefined : "d-1",
      content: Buffer.from('{"ref":"main"}'),
    });
  });

  test("letters of all alphabets are bytes like others", () => {
    const call = push(forge, '{"name":"žluťoučký 🐎"}', "tajemství-秘密");
    expect(why({ ...call, secrets: ["tajemství-秘密"] })).toBe("accepted");
    expect(why(call)).toBe("mismatch");
  });

  test("the old secret and the new one both do while one is replaced, and others never", () => {
    for (const secrets of [
      ["new", "old"],
      ["old", "new"],
    ]) {
      expect(why({ ...push(forge, "{}", "old"), secrets })).toBe("accepted");
      expect(why({ ...push(forge, "{}", "new"), secrets })).toBe("accepted");
      expect(why({ ...push(forge, "{}", "older"), secrets })).toBe("mismatch");
    }
  });

  test("without a secret nobody is believed, one who knows the empty secret least of all", () => {
    for (const secrets of [[], [""], [" "]]) {
      expect(why({ ...push(forge, "{}", secrets[0] ?? ""), secrets })).toBe("no-secret");
    }
  });

  test("nothing that proves anything", () => {
    expect(why({ ...push(forge, "{}"), headers: {} })).toBe("unsigned");
  });
});

const SIGNED: [Forge, string][] = [
  ["github", "x-hub-signature-256"],
  ["forgejo", "x-forgejo-signature"],
  ["gitea", "x-gitea-signature"],
];

describe.each(SIGNED)("%s signs the body", (forge, header) => {
  const call = push(forge, '{"ref":"main"}');
  const signature = call.headers[header]!;

  test.each([
    ["of another body", { rawBody: Buffer.from('{"ref":"mine"}') }],
    ["of the whole of a body cut short", { rawBody: Buffer.from('{"ref":"mai') }],
    ["of no body", { rawBody: Buffer.alloc(0) }],
    ["with another secret", { secrets: ["another"] }],
  ])("a signature %s", (_, rest) => {
    expect(why({ ...call, ...rest })).toBe("mismatch");
  });

  test.each([
    ["cut short", signature.slice(0, -1)],
    ["with more behind", `${signature}0`],
    ["twice, as HTTP joins them", `${signature}, ${signature}`],
    ["with no hex in it", signature.replace(/.$/, "g")],
  ])("a signature %s", (_, value) => {
    expect(why(altered(call, { [header]: value }))).toBe("malformed");
  });

  test("upper case is hex too", () => {
    expect(why(altered(call, { [header]: signature.replace(/[0-9a-f]{64}/, (one) => one.toUpperCase()) }))).toBe(
      "accepted",
    );
  });

  test("SHA-1 is refused, right or wrong", () => {
    const sha1 = `sha1=${createHmac("sha1", SECRET).update(call.rawBody).digest("hex")}`;
    expect(why(altered(call, { [header]: undefined, "x-hub-signature": sha1 }))).toBe("algorithm");
    expect(why(altered(call, { [header]: undefined, "x-hub-signature-256": sha1 }))).toBe("algorithm");
  });

  test("another delivery id or another event on the same body is the same event", () => {
    const { identity } = accepted(call);
    const prefix = header.startsWith("x-hub") ? "x-github" : header.replace("-signature", "");
    const again = accepted(altered(call, { [`${prefix}-delivery`]: "d-2", [`${prefix}-event`]: "release" }));
    expect(again).toMatchObject({ identity, delivery: "d-2", event: "release" });
    expect(accepted(push(forge, '{"ref":"other"}')).identity).not.toEqual(identity);
  });
});

test("a good second signature does not rescue a bad first one", () => {
  const call = push("forgejo", "{}");
  const good = { "x-gitea-signature": hex(SECRET, "{}"), "x-hub-signature-256": `sha256=${hex(SECRET, "{}")}` };
  expect(why(altered(call, { ...good, "x-forgejo-signature": hex("another", "{}") }))).toBe("mismatch");
  expect(why(altered(call, { ...good, "x-forgejo-signature": undefined }))).toBe("accepted");
});

test("what a Forgejo hook without a secret sends is unsigned", () => {
  expect(why(altered(push("forgejo", "{}"), { "x-forgejo-signature": "" }))).toBe("unsigned");
});

test("a form's payload: GitHub signs the form, Forgejo what is in it", () => {
  const json = '{"name":"ž & b"}';
  const form = `payload=${encodeURIComponent(json)}`;
  const type = { "content-type": "application/x-www-form-urlencoded" };
  const github = altered(push("github", form), type);
  const forgejo = altered(push("forgejo", json), type, { rawBody: Buffer.from(form) });
  for (const call of [github, forgejo]) expect(accepted(call).content.toString()).toBe(json);
  // The same event, however it was sent.
  expect(accepted(forgejo).identity).toEqual(accepted(push("forgejo", json)).identity);
  expect(why(altered(push("github", "payload=%7B%7D&payload=%7B%7D"), type))).toBe("no-payload");
  expect(why(altered(push("github", "other=%7B%7D"), type))).toBe("no-payload");
});

test("an event's name is one word of a topic, whatever the header says", () => {
  const called = (name: string) => verifyWebhook(altered(push("github", "{}"), { "x-github-event": name }));
  expect(called("pull_request")).toMatchObject({ event: "pull_request" });
  expect(called("Push.#.*\r\nX-Evil: 1")).toMatchObject({ event: "push-x-evil-1" });
  expect(called("x".repeat(1000))).toMatchObject({ event: "x".repeat(64) });
  for (const name of ["", "...", "プッシュ"]) expect(called(name)).toMatchObject({ why: "no-event" });
});

test("a delivery id that could not be shown is none", () => {
  for (const id of ["", "a\r\nb", "x".repeat(201), "ž"]) {
    expect(why(altered(push("github", "{}"), { "x-github-delivery": id }))).toBe("no-delivery");
  }
});

describe("GitLab", () => {
  test.each([
    ["Push Hook", "push"],
    ["Merge Request Hook", "merge_request"],
    ["Confidential Issue Hook", "confidential_issue"],
    ["System Hook", "system"],
  ])("%s is %s", (header, event) => {
    expect(accepted(altered(push("gitlab", "{}"), { "x-gitlab-event": header })).event).toBe(event);
  });

  test("without an idempotency key, the event's id and the body together", () => {
    const older = { "idempotency-key": undefined, "x-gitlab-event-uuid": "u-1" };
    const one = accepted(altered(push("gitlab", '{"a":1}'), older));
    const other = accepted(altered(push("gitlab", '{"a":2}'), older));
    expect(one.identity).not.toEqual(other.identity);
    expect(why(altered(push("gitlab", "{}"), { "idempotency-key": undefined }))).toBe("no-delivery");
  });

  const key = Buffer.from("0123456789abcdef0123456789abcdef");
  const token = `whsec_${key.toString("base64")}`;
  const body = '{"object_kind":"push"}';
  const at = String(NOW.getTime() / 1000);
  const sign = (id: string, time: string, by = key) =>
    `v1,${createHmac("sha256", by).update(`${id}.${time}.${body}`).digest("base64")}`;
  const signed = (headers: CallHeaders = {}, secrets = [token]): WebhookCall => ({
    ...{ forge: "gitlab", secrets, rawBody: Buffer.from(body), now: NOW },
    headers: {
      "x-gitlab-event": "Push Hook",
      "webhook-id": "w-1",
      "webhook-timestamp": at,
      "webhook-signature": sign("w-1", at),
      ...headers,
    },
  });

  test("a signature over id, time and body", () => {
    expect(accepted(signed())).toMatchObject({ event: "push", delivery: "w-1", identity: ["id", "w-1"] });
    expect(
      why(signed({ "webhook-signature": `v2,abc ${sign("w-1", at, Buffer.from("old"))} ${sign("w-1", at)}` })),
    ).toBe("accepted");
  });

  test("none of the three can be changed", () => {
    expect(why(signed({ "webhook-id": "w-2" }))).toBe("mismatch");
    expect(why(signed({ "webhook-timestamp": String(Number(at) + 1) }))).toBe("mismatch");
    expect(why({ ...signed(), rawBody: Buffer.from("{}") })).toBe("mismatch");
    expect(why(signed({ "webhook-timestamp": "soon" }))).toBe("malformed");
    expect(why(signed({ "webhook-signature": "v2,abc" }))).toBe("algorithm");
  });

  test("five minutes are allowed to clocks, not a second more, in both directions", () => {
    for (const [seconds, said] of [
      [-301, "stale"],
      [-300, "accepted"],
      [300, "accepted"],
      [301, "stale"],
    ] as const) {
      const time = String(Number(at) + seconds);
      expect(why(signed({ "webhook-timestamp": time, "webhook-signature": sign("w-1", time) }))).toBe(said);
    }
  });

  test("leaving the signature out, or sending the key as a token, opens nothing", () => {
    const unsigned = { "webhook-signature": undefined };
    expect(why(signed(unsigned))).toBe("unsigned");
    expect(why(signed({ ...unsigned, "x-gitlab-token": token }))).toBe("mismatch");
  });

  test("while a token is replaced by a signature both do, and a bad signature is not rescued by the token", () => {
    const both = [token, "plain"];
    expect(why(signed({}, both))).toBe("accepted");
    expect(why({ ...push("gitlab", body, "plain"), secrets: both })).toBe("accepted");
    expect(why(signed({ "x-gitlab-token": "plain", "webhook-signature": "v1,AAAA" }, both))).toBe("mismatch");
  });

  test("a signing token without a key in it is no secret", () => {
    expect(why(signed({}, ["whsec_"]))).toBe("no-secret");
  });
});

describe("Quay", () => {
  const call = (authorization: string, body = "{}", event?: string): WebhookCall => ({
    ...{ forge: "quay", secrets: ["to:ken"], headers: { authorization }, rawBody: Buffer.from(body), now: NOW, event },
  });
  const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;

  test.each([
    ["the password of anybody", basic("anybody:to:ken"), "accepted"],
    ["a bearer's token", "Bearer to:ken", "accepted"],
    ["the token as a user's name", basic("to:ken:"), "mismatch"],
    ["another scheme", "Digest to:ken", "malformed"],
    ["more behind", "Bearer to:ken x", "malformed"],
  ])("%s", (_, authorization, said) => {
    expect(why(call(authorization, "{}", "repo_push"))).toBe(said);
  });

  test.each([
    ["what is configured comes first", '{"event":"b"}', "a", "a"],
    ["a template may say it", '{"event":"build_failure","updated_tags":[]}', undefined, "build_failure"],
    ["a push is told by its tags", '{"updated_tags":["latest"]}', undefined, "repo_push"],
  ])("%s", (_, body, configured, event) => {
    expect(accepted(call("Bearer to:ken", body, configured)).event).toBe(event);
  });

  test.each(['{"build_id":"1"}', "{", "null", '{"event":7}', '{"__proto__":{"event":"x"}}'])(
    "nothing in %s names an event",
    (body) => {
      expect(why(call("Bearer to:ken", body))).toBe("no-event");
    },
  );

  test("the same push twice is two events: nothing in it says otherwise", () => {
    const one = call("Bearer to:ken", '{"updated_tags":["latest"]}');
    const other = { ...one, now: new Date(NOW.getTime() + 1) };
    expect(accepted(one).identity).not.toEqual(accepted(other).identity);
  });
});
