import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type AzureTarget, parseConfig } from "./index.ts";
import { azureCredentials, azureSubscription, resolveSecret, resolveValue } from "./secrets.ts";

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "slipway-secrets-"));
});
afterAll(() => rm(directory, { recursive: true }));

test("from the environment and from a file, without the file's last line break", async () => {
  const file = join(directory, "secret");
  await writeFile(file, "line one\nline two\n");
  expect(await resolveSecret({ env: "S" }, { S: "value" })).toBe("value");
  expect(await resolveSecret({ file }, {})).toBe("line one\nline two");
  expect(await resolveValue("plain", {})).toBe("plain");
});

test.each([{ env: "S" }, { env: "EMPTY" }, { file: "/nonexistent/secret" }])("%j holds none", async (ref) => {
  await expect(resolveSecret(ref, { EMPTY: "" })).rejects.toMatchObject({
    code: "unauthenticated",
    subject: expect.stringMatching(/S|EMPTY|\/nonexistent\/secret/),
    next: expect.stringMatching(/\w/),
  });
});

test("a file that cannot be a secret is not read", async () => {
  const file = join(directory, "large");
  await writeFile(file, Buffer.alloc(100_000, "x"));
  await expect(resolveSecret({ file }, {})).rejects.toMatchObject({ code: "unauthenticated" });
});

describe("Azure's credentials", () => {
  const azure = (fields = "") => {
    const base = "cloud: azure, resource_group: g, gallery: G, storage_account: abc";
    return parseConfig(`targets:\n  a: { ${base}${fields} }`).targets.a as AzureTarget;
  };

  test("configured, by Ansible's names, by the SDK's, or the SDK's chain", async () => {
    const expected = { tenantId: "t", clientId: "c", clientSecret: "s" };
    const configured = azure(", credentials: { tenant_id: t, client_id: c, client_secret: { env: MINE } }");
    expect(await azureCredentials(configured, { MINE: "s" })).toEqual(expected);
    expect(await azureCredentials(azure(), { AZURE_TENANT: "t", AZURE_CLIENT_ID: "c", AZURE_SECRET: "s" })).toEqual(
      expected,
    );
    const sdk = { AZURE_TENANT_ID: "t", AZURE_CLIENT_ID: "c", AZURE_CLIENT_SECRET: "s" };
    expect(await azureCredentials(azure(), sdk)).toEqual(expected);
    expect(await azureCredentials(azure(), {})).toBeUndefined();
  });

  test("the subscription", async () => {
    expect(await azureSubscription(azure(", subscription: sub"), {})).toBe("sub");
    expect(await azureSubscription(azure(), { AZURE_SUBSCRIPTION_ID: "env" })).toBe("env");
    await expect(azureSubscription(azure(), {})).rejects.toMatchObject({ code: "unauthenticated" });
  });
});
