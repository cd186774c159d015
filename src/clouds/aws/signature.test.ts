import { createHash, createHmac } from "node:crypto";
import { SignatureV4 } from "@smithy/signature-v4";
import { expect, test } from "vitest";
import { queryString, requestSigner } from "./signature.ts";

/** Node's hashes in the shape the vendor's signer wants. */
class Sha256 {
  #parts: Uint8Array[] = [];
  readonly #secret: Uint8Array | string | undefined;
  constructor(secret?: unknown) {
    this.#secret = secret as Uint8Array | string | undefined;
  }
  update(data: Uint8Array | string) {
    this.#parts.push(typeof data === "string" ? Buffer.from(data) : data);
  }
  async digest(): Promise<Uint8Array> {
    const hash = this.#secret === undefined ? createHash("sha256") : createHmac("sha256", this.#secret);
    for (const part of this.#parts) hash.update(part);
    return new Uint8Array(hash.digest());
  }
  reset() {
    this.#parts = [];
  }
}

const plain = { accessKeyId: "AKIAEXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" };
const cases = [
  { name: "a block", method: "PUT", path: "/snapshots/snap-0123456789abcdef0/blocks/17", query: {} },
  {
    name: "a page of blocks",
    method: "GET",
    path: "/snapshots/snap-0123456789abcdef0/blocks",
    query: { maxResults: "1000", pageToken: "AAIAA+f/x==!'()*" },
  },
];

test.each(cases)("our signature is the vendor's: $name", async ({ method, path, query }) => {
  for (const credentials of [plain, { ...plain, sessionToken: "FwoGZXIvYXdzE//example==" }]) {
    const now = new Date("2026-03-04T05:06:07.890Z");
    const body = Buffer.alloc(1024, 7);
    const headers = {
      host: "ebs.eu-west-1.amazonaws.com",
      "x-amz-checksum": createHash("sha256").update(body).digest("base64"),
      "x-amz-checksum-algorithm": "SHA256",
      "x-amz-data-length": "1024",
    };
    const theirs = await new SignatureV4({ service: "ebs", region: "eu-west-1", credentials, sha256: Sha256 }).sign(
      { method, protocol: "https:", hostname: headers.host, path, query, headers: { ...headers }, body },
      { signingDate: now },
    );
    const payloadSha256 = createHash("sha256").update(body).digest("hex");
    const ours = requestSigner("eu-west-1", "ebs")({ method, path, query, headers, payloadSha256 }, credentials, now);
    expect(ours).toEqual(theirs.headers);
  }
});

test("the signing key follows the day and the secret", () => {
  const sign = requestSigner("eu-west-1", "ebs");
  const request = { method: "GET", path: "/", headers: { host: "h" }, payloadSha256: "0".repeat(64) };
  const fresh = (secret: string, day: string) =>
    requestSigner("eu-west-1", "ebs")(request, { ...plain, secretAccessKey: secret }, new Date(day)).authorization;
  for (const [secret, day] of [
    ["a", "2026-01-01"],
    ["a", "2026-01-02"],
    ["b", "2026-01-02"],
  ] as const) {
    const signed = sign(request, { ...plain, secretAccessKey: secret }, new Date(day)).authorization;
    expect(signed).toBe(fresh(secret, day));
  }
});

test("a query is sorted and encoded", () => {
  expect(queryString({ b: "x y", a: "/+=" })).toBe("a=%2F%2B%3D&b=x%20y");
});
