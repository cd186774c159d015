import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Delivery, MOST_BYTES, readDelivery } from "./message.ts";

const TOPIC = "org.fedoraproject.prod.pungi.compose.status.change";

function read(content: string | Uint8Array, more: Partial<Delivery> = {}) {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  return readDelivery({ routingKey: TOPIC, content: bytes, messageId: "one", contentEncoding: "utf-8", ...more });
}

describe("a message of today", () => {
  test("is read with everything its headers say", () => {
    const headers = {
      fedora_messaging_schema: "base.message",
      fedora_messaging_severity: 30,
      "sent-at": "2024-09-12T01:55:05+00:00",
      fedora_messaging_user_alice: true,
      "x-received-from": [{ uri: "amqps://other", redelivered: false }],
    };
    expect(read('{"status": "FINISHED", "compose_label": null}', { headers, priority: 3 })).toEqual({
      id: "one",
      topic: TOPIC,
      severity: 30,
      priority: 3,
      schema: "base.message",
      sentAt: "2024-09-12T01:55:05+00:00",
      headers,
      body: { status: "FINISHED", compose_label: null },
      bodySha256: "415c55b573032663f9c871be0ab44abbd976a57e4d4889e775261d88e0d744c8",
    });
  });
});

describe("read as the original reads it", () => {
  test.each(["null", "[]", "0", '""', "false"])("%s is an empty body", (content) => {
    expect(read(content)).toMatchObject({ body: {}, severity: 20 });
  });
  test.each(["[1]", '"x"', "5", "true"])("%s is no body", (content) => {
    expect(read(content)).toMatchObject({ reason: "not-an-object" });
  });
  test("without headers and encoding it is plain and of severity 20", () => {
    expect(read("{}", { headers: undefined, contentEncoding: undefined })).toMatchObject({ severity: 20, headers: {} });
  });
  test.each([21, 0, "20", true, null])("a severity of %j is none", (severity) => {
    expect(read("{}", { headers: { fedora_messaging_severity: severity } })).toMatchObject({ reason: "headers" });
  });
  test.each(["fedora_messaging_schema", "sent-at"])("%s has to be text", (name) => {
    expect(read("{}", { headers: { [name]: 5 } })).toMatchObject({
      reason: "headers",
      detail: expect.stringContaining(name),
    });
  });
  test("the last of two equal keys wins", () => {
    expect(read('{"a": 1, "a": 2}')).toMatchObject({ body: { a: 2 } });
  });
  test("latin-1 is decoded as such", () => {
    expect(read(Buffer.from('{"a": "\xe9"}', "latin1"), { contentEncoding: "latin-1" })).toMatchObject({
      body: { a: "é" },
    });
  });
});

describe("what the original dies of", () => {
  test("an encoding that nobody knows is a reason, not an error", () => {
    expect(read("{}", { contentEncoding: "gzip" })).toMatchObject({
      reason: "encoding",
      detail: expect.stringContaining("gzip"),
    });
  });
  test("a byte order mark is taken off", () => {
    expect(read(Buffer.from('\ufeff{"a": 1}'))).toMatchObject({ body: { a: 1 } });
  });
});

describe("hostile ones", () => {
  test.each([
    ["broken", "{", "not-json"],
    ["empty", "", "not-json"],
    ["NaN", '{"a": NaN}', "not-json"],
    ["Infinity", '{"a": -Infinity}', "not-json"],
    ["bad UTF-8", Buffer.from([0x7b, 0xff, 0x7d]), "encoding"],
    ["deep arrays", "[".repeat(10_000), "too-deep"],
    ["deep objects", `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`, "too-deep"],
    ["too large", Buffer.alloc(MOST_BYTES + 1, 0x20), "too-large"],
    ["of 200 MB", Buffer.alloc(200_000_000, 0x20), "too-large"],
  ] as const)("%s: kept with its reason", (_, content, reason) => {
    const said = read(content);
    expect(said).toMatchObject({ reason, id: "one" });
  });

  test("brackets in strings are no depth, and a string may end in a backslash", () => {
    const body = { a: "[".repeat(5000), b: '\\"[', c: "\\" };
    expect(read(JSON.stringify(body))).toMatchObject({ body });
  });

  test("a parser's quotation of the text does not get into the reason", () => {
    const said = read('{"password": hunter2 }');
    expect(JSON.stringify(said)).not.toContain("hunter2");
  });

  test("__proto__ is a key like any other, and changes nothing", () => {
    const said = read('{"__proto__": {"admin": true}, "constructor": {"prototype": {"admin": true}}}');
    expect("body" in said && Object.keys(said.body)).toEqual(["__proto__", "constructor"]);
    expect(({} as { admin?: boolean }).admin).toBe(undefined);
    const headers = JSON.parse('{"__proto__": {"admin": true}}');
    const withHeader = read("{}", { headers });
    expect("headers" in withHeader && (withHeader.headers as { admin?: boolean }).admin).toBe(undefined);
  });

  test("a lone surrogate is kept, in a form that can be written down", () => {
    const said = read('{"a": "\\ud800"}');
    expect("body" in said && JSON.stringify(said.body)).toBe('{"a":"\\ud800"}');
  });

  test.each([
    ["of 256 bytes", "t".repeat(256)],
    ["of 255 characters and more bytes", "é".repeat(255)],
    ["with NUL", "a\u0000b"],
    ["with a line break", "a\nb"],
  ])("a topic %s is refused", (_, routingKey) => {
    expect(read("{}", { routingKey })).toMatchObject({ reason: "topic" });
  });

  test.each(["a/b", "..", "", "../../etc/passwd"])("the topic %j is only text", (routingKey) => {
    expect(read("{}", { routingKey })).toMatchObject({ topic: routingKey });
  });

  test("a message without an id has one of its own, the same each time and another for another body", () => {
    const [one, again, other] = ["{}", "{}", '{"a":1}'].map((content) => read(content, { messageId: undefined }).id);
    expect(one).toMatch(/^sha256-[0-9a-f]{40}$/);
    expect(again).toBe(one);
    expect(other).not.toBe(one);
    expect(read("{}", { messageId: "x".repeat(201) }).id).toBe(one);
    expect(read("{}", { messageId: "2019-abc-def" }).id).toBe("2019-abc-def");
  });

  test("nothing that comes throws", () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.oneof(fc.string(), fc.constantFrom("utf-8", "utf-16le", "gzip")),
        fc.string({ maxLength: 300 }),
        fc.dictionary(fc.string(), fc.anything()),
        (content, contentEncoding, routingKey, headers) => {
          const said = readDelivery({ routingKey, content, contentEncoding, headers });
          expect("reason" in said || typeof said.body === "object").toBe(true);
        },
      ),
    );
  });

  test("any JSON object comes through as it is", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 })), (body) => {
        const said = read(JSON.stringify(body));
        const wrapped = "msg" in body || ("body" in body && "headers" in body);
        if (!wrapped) expect("body" in said && said.body).toEqual(JSON.parse(JSON.stringify(body)));
      }),
    );
  });
});

describe("what is wrapped around a body", () => {
  test("the old bus's envelope is taken off", () => {
    const old = { msg: { update: 1 }, msg_id: "2019-1", topic: "t", timestamp: 1560000000.5, i: 3 };
    expect(read(JSON.stringify(old))).toMatchObject({ body: { update: 1 } });
  });
  test("a body that only has a field called msg is left as it is", () => {
    expect(read('{"msg": {"a": 1}}')).toMatchObject({ body: { msg: { a: 1 } } });
    expect(read('{"msg": "text", "topic": "t"}')).toMatchObject({ body: { msg: "text" } });
  });
  test("a webhook's double body is taken off, with the caller's headers and what they hold", () => {
    const hook = {
      body: { ref: "refs/heads/main" },
      headers: { "x-github-event": "push", authorization: "Bearer hunter2", "x-hub-signature-256": "sha256=00" },
      agent: null,
    };
    const said = read(JSON.stringify(hook));
    expect(said).toMatchObject({ body: { ref: "refs/heads/main" } });
    expect(JSON.stringify(said)).not.toContain("hunter2");
  });
  test("headers that hold secrets are not kept", () => {
    const headers = { Authorization: "Bearer hunter2", "x-api-key": "hunter2", nested: { token: "hunter2", kept: 1 } };
    expect(read("{}", { headers })).toMatchObject({ headers: { nested: { kept: 1 } } });
    expect(JSON.stringify(read("{}", { headers }))).not.toContain("hunter2");
  });
});
