import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { GcpTarget } from "../config/index.ts";
import { gcpOptions } from "./gcp-target.ts";

const folder = mkdtempSync(join(tmpdir(), "slipway-gcp-target-"));
afterAll(() => rmSync(folder, { recursive: true }));
const key = join(folder, "key.json");
writeFileSync(key, JSON.stringify({ type: "service_account", client_email: "a@b", private_key: "PEM" }));

const target = {
  name: "google",
  cloud: "gcp",
  project: "fedora-cloud",
  bucket: "uploads",
  storage_locations: ["us"],
  offer: { to: "public" },
} as unknown as GcpTarget;

test("the key is the target's, else the environment's file, else the machine's own account", async () => {
  const known = { clientEmail: "a@b", privateKey: "PEM" };
  const own = { ...target, credentials: { service_account: { file: key } } } as GcpTarget;
  expect((await gcpOptions(own, {})).credentials).toEqual(known);
  expect((await gcpOptions(target, { GOOGLE_APPLICATION_CREDENTIALS: key })).credentials).toEqual(known);
  expect((await gcpOptions(target, {})).credentials).toBe("metadata");
});

test.each([
  ["no JSON", "-----BEGIN SECRET", "unauthenticated"],
  ["of another type", '{"type":"authorized_user","refresh_token":"SECRET"}', "unsupported"],
  ["half a key", '{"client_email":"a@b","secret":"SECRET"}', "unauthenticated"],
])("a key that is %s is refused, and nothing of it is quoted", async (_, text, code) => {
  const wrong = join(folder, "wrong.json");
  writeFileSync(wrong, text);
  const error = await gcpOptions(target, { GOOGLE_APPLICATION_CREDENTIALS: wrong }).catch((one: unknown) => one);
  expect(error).toMatchObject({ code, subject: wrong });
  expect(JSON.stringify(error) + String(error)).not.toContain("SECRET");
});
