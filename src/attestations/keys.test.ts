import { generateKeyPairSync, type KeyObject, scryptSync } from "node:crypto";
import { readFile } from "node:fs/promises";
import { xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { expect, test } from "vitest";
import { readSigningKey, readVerifyingKey } from "./keys.ts";

const ecdsa = generateKeyPairSync("ec", { namedCurve: "P-256" });
const edwards = generateKeyPairSync("ed25519");
const data = Buffer.from("what is signed");

function pkcs8(key: KeyObject, passphrase?: string): string {
  const lock = passphrase === undefined ? {} : { cipher: "aes-256-cbc", passphrase };
  return key.export({ type: "pkcs8", format: "pem", ...lock } as never).toString();
}

const spki = (key: KeyObject) => key.export({ type: "spki", format: "pem" }).toString();

/** As cosign writes it. */
function cosign(key: KeyObject, passphrase: string, word = "SIGSTORE", N = 1024): string {
  const [salt, nonce] = [Buffer.alloc(32, 1), Buffer.alloc(24, 2)];
  const secret = scryptSync(passphrase, salt, 32, { N, r: 8, p: 1, maxmem: 2 ** 28 });
  const der = key.export({ type: "pkcs8", format: "der" });
  const sealed = {
    kdf: { name: "scrypt", params: { N, r: 8, p: 1 }, salt: salt.toString("base64") },
    cipher: { name: "nacl/secretbox", nonce: nonce.toString("base64") },
    ciphertext: Buffer.from(xsalsa20poly1305(secret, nonce).encrypt(der)).toString("base64"),
  };
  const body = Buffer.from(JSON.stringify(sealed))
    .toString("base64")
    .replace(/(.{64})/g, "$1\n");
  return `-----BEGIN ENCRYPTED ${word} PRIVATE KEY-----\n${body}\n-----END ENCRYPTED ${word} PRIVATE KEY-----\n`;
}

test.each<[string, string, string | undefined, KeyObject]>([
  ["ECDSA in PKCS#8", pkcs8(ecdsa.privateKey), undefined, ecdsa.publicKey],
  ["ECDSA in SEC 1", ecdsa.privateKey.export({ type: "sec1", format: "pem" }).toString(), undefined, ecdsa.publicKey],
  ["encrypted PKCS#8", pkcs8(ecdsa.privateKey, "open"), "open", ecdsa.publicKey],
  ["Ed25519", pkcs8(edwards.privateKey), undefined, edwards.publicKey],
  ["a cosign key", cosign(ecdsa.privateKey, "open"), "open", ecdsa.publicKey],
  ["an old cosign key", cosign(ecdsa.privateKey, "open", "COSIGN"), "open", ecdsa.publicKey],
  ["a cosign key with an empty passphrase", cosign(ecdsa.privateKey, ""), undefined, ecdsa.publicKey],
])("%s signs what its public half verifies", async (_, pem, passphrase, publicKey) => {
  const key = await readSigningKey(pem, passphrase, "test");
  const vouching = readVerifyingKey(spki(publicKey), "test");
  const signature = key.sign(data);
  expect(vouching.keyId).toBe(key.keyId);
  expect(vouching.verify(data, signature)).toBe(true);
  expect(vouching.verify(Buffer.from("something else"), signature)).toBe(false);
  expect(vouching.verify(data, Buffer.from("no signature"))).toBe(false);
});

test("a key pair that cosign 3 made", async () => {
  const read = (name: string) => readFile(new URL(`testdata/${name}`, import.meta.url), "utf8");
  const key = await readSigningKey(await read("cosign-3.key"), "open", "test");
  expect(readVerifyingKey(await read("cosign-3.pub"), "test").verify(data, key.sign(data))).toBe(true);
});

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const damaged = cosign(ecdsa.privateKey, "open").replace(/\n[A-Za-z0-9+/]{64}\n/, "\n");

test.each<[string, string, string | undefined, string]>([
  ["no key", "hello", undefined, "invalid"],
  ["an empty file", "", undefined, "invalid"],
  ["a public key", spki(ecdsa.publicKey), undefined, "invalid"],
  ["RSA", pkcs8(rsa.privateKey), undefined, "unsupported"],
  ["P-384", pkcs8(p384.privateKey), undefined, "unsupported"],
  ["an encrypted key without passphrase", pkcs8(ecdsa.privateKey, "open"), undefined, "unauthenticated"],
  ["an encrypted key with another passphrase", pkcs8(ecdsa.privateKey, "open"), "wrong", "unauthenticated"],
  ["a cosign key with another passphrase", cosign(ecdsa.privateKey, "open"), "wrong", "unauthenticated"],
  ["a damaged cosign key", damaged, "open", "invalid"],
  ["a cosign key that asks for a gigabyte", cosignThatWants(2 ** 20), "open", "invalid"],
  ["a megabyte", "a".repeat(2 ** 20), undefined, "invalid"],
])("%s is refused, and says nothing of the key", async (_, pem, passphrase, code) => {
  const failure = await readSigningKey(pem, passphrase, "file /etc/key").catch((error: unknown) => error);
  expect(failure).toMatchObject({ code, subject: "file /etc/key" });
  const said = JSON.stringify([failure, String(failure), (failure as Error).cause]);
  for (const line of pem.split("\n").filter((one) => one.length > 30 && !one.includes("-----"))) {
    expect(said).not.toContain(line);
  }
  if (passphrase !== undefined) expect(said).not.toMatch(new RegExp(`"${passphrase}"`));
});

function cosignThatWants(N: number): string {
  const honest = cosign(ecdsa.privateKey, "open");
  const body = honest.split("-----")[2]!.replace(/\s/g, "");
  const sealed = JSON.parse(Buffer.from(body, "base64").toString());
  sealed.kdf.params.N = N;
  return honest.replace(
    /-----\n[\s\S]+\n-----END/,
    `-----\n${Buffer.from(JSON.stringify(sealed)).toString("base64")}\n-----END`,
  );
}

test("a private key is not taken for a public one", () => {
  expect(() => readVerifyingKey(pkcs8(ecdsa.privateKey), "trusted")).toThrow(
    expect.objectContaining({ code: "invalid" }),
  );
  expect(() => readVerifyingKey("hello", "trusted")).toThrow(expect.objectContaining({ code: "invalid" }));
  expect(() => readVerifyingKey(spki(rsa.publicKey), "trusted")).toThrow(
    expect.objectContaining({ code: "unsupported" }),
  );
});
