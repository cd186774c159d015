import { generateKeyPairSync } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Envelope, openEnvelope, parseEnvelope, preAuthenticationEncoding, signEnvelope } from "./dsse.ts";
import { readSigningKey } from "./keys.ts";

const key = await newKey();
const other = await newKey();

function newKey() {
  const { privateKey } = generateKeyPairSync("ed25519");
  return readSigningKey(privateKey.export({ type: "pkcs8", format: "pem" }).toString(), undefined, "test");
}

test("what is signed is the example of the specification", () => {
  const encoded = preAuthenticationEncoding("http://example.com/HelloWorld", Buffer.from("hello world"));
  expect(encoded.toString()).toBe("DSSEv1 29 http://example.com/HelloWorld 11 hello world");
});

test("no two types and payloads are signed as the same bytes", () => {
  const part = fc.record({ type: fc.string({ maxLength: 40 }), payload: fc.uint8Array({ maxLength: 40 }) });
  fc.assert(
    fc.property(part, part, (a, b) => {
      const same = a.type === b.type && Buffer.from(a.payload).equals(Buffer.from(b.payload));
      const encoded = [a, b].map(({ type, payload }) => preAuthenticationEncoding(type, payload));
      return encoded[0]!.equals(encoded[1]!) === same;
    }),
  );
});

test("what was signed comes out again, with the key that vouches for it", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 200 }), (payload) => {
      const envelope = parseEnvelope(JSON.stringify(signEnvelope("text/plain", payload, key)));
      const opened = openEnvelope(envelope, [other, key])!;
      return opened.payload.equals(Buffer.from(payload)) && opened.keyId === key.keyId;
    }),
  );
});

test.each<[string, (envelope: Envelope) => Envelope]>([
  ["another payload", (envelope) => ({ ...envelope, payload: Buffer.from("other").toString("base64") })],
  ["another type", (envelope) => ({ ...envelope, payloadType: "text/html" })],
  ["no valid signature", (envelope) => ({ ...envelope, signatures: [{ keyid: key.keyId, sig: "AAAA" }] })],
  [
    "another's signature",
    (envelope) => ({ ...envelope, signatures: signEnvelope("text/plain", Buffer.from("x"), key).signatures }),
  ],
])("an envelope with %s is opened by nobody", (_, spoil) => {
  const envelope = signEnvelope("text/plain", Buffer.from("payload"), key);
  expect(openEnvelope(envelope, [key])).toBeDefined();
  expect(openEnvelope(spoil(envelope), [key])).toBeUndefined();
});

test("a key that is not trusted opens nothing, whatever the envelope calls it", () => {
  const envelope = signEnvelope("text/plain", Buffer.from("payload"), other);
  const lying = { ...envelope, signatures: envelope.signatures.map(({ sig }) => ({ keyid: key.keyId, sig })) };
  expect(openEnvelope(lying, [key])).toBeUndefined();
  expect(openEnvelope(lying, [])).toBeUndefined();
});

test("one of several signatures is enough", () => {
  const [ours] = signEnvelope("text/plain", Buffer.from("payload"), key).signatures;
  const envelope = signEnvelope("text/plain", Buffer.from("payload"), other);
  const both = { ...envelope, signatures: [...envelope.signatures, ours!] };
  expect(openEnvelope(both, [key])?.keyId).toBe(key.keyId);
});

test.each<[string, string]>([
  ["text", "hello"],
  ["another shape", '{"payload": 1}'],
  ["no signature", '{"payloadType": "a", "payload": "AA==", "signatures": []}'],
  ["a payload that is not base64", '{"payloadType": "a", "payload": "<>", "signatures": [{"sig": "AA=="}]}'],
  [
    "too many signatures",
    JSON.stringify({ payloadType: "a", payload: "AA==", signatures: Array(17).fill({ sig: "AA==" }) }),
  ],
  ["a deep hole", `${"[".repeat(100_000)}`],
  ["nine million characters", `"${"a".repeat(9_000_000)}"`],
])("%s is no envelope", (_, text) => {
  expect(() => parseEnvelope(text)).toThrow(expect.objectContaining({ code: "invalid" }));
});
