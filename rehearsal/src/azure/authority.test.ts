import { fetch } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { account, type Rehearsed, rehearse } from "./testing.ts";

const SCOPE = "https://management.azure.com/.default";

describe("the simulated Entra ID, asked by the unchanged @azure/identity", () => {
  let rehearsed: Rehearsed;
  beforeAll(async () => {
    rehearsed = await rehearse({ tokenSeconds: 600 });
  });
  afterAll(() => rehearsed[Symbol.asyncDispose]());

  it("gives a token for the right secret", async () => {
    const token = await rehearsed.credential().getToken(SCOPE);
    expect(token.token.split(".")).toHaveLength(3);
    expect(token.expiresOnTimestamp).toBeGreaterThan(Date.now());
  });

  const cases = [
    { name: "a wrong secret", secret: "wrong", code: "AADSTS7000215" },
    { name: "a tenant that does not exist", tenant: "00000000-0000-4000-8000-000000000000", code: "AADSTS90002" },
  ];
  it.each(cases)("$name is refused with $code", async ({ secret, tenant, code }) => {
    await expect(rehearsed.credential(secret, tenant).getToken(SCOPE)).rejects.toThrow(code);
  });

  it("an expired secret is refused with AADSTS7000222, even when it is the right one", async () => {
    rehearsed.simulator.expireSecret(true);
    await expect(rehearsed.credential().getToken(SCOPE)).rejects.toThrow("AADSTS7000222");
    rehearsed.simulator.expireSecret(false);
  });

  it("says no secret in an error", async () => {
    const error = await rehearsed.credential("my wrong secret").getToken(SCOPE).then(String, String);
    expect(error).not.toContain("my wrong secret");
  });

  it("issues tokens for one audience each", async () => {
    const storage = await rehearsed.credential().getToken("https://storage.azure.com/.default");
    const answer = await plain(`/subscriptions/${account.subscriptionId}?api-version=2022-12-01`, storage.token);
    expect(answer).toMatchObject({ status: 401, code: "InvalidAuthenticationTokenAudience" });
  });

  it("issues tokens that run out", async () => {
    const token = await rehearsed.credential().getToken(SCOPE);
    rehearsed.clock.now += 601_000;
    const answer = await plain(`/subscriptions/${account.subscriptionId}?api-version=2022-12-01`, token.token);
    expect(answer).toMatchObject({ status: 401, code: "ExpiredAuthenticationToken" });
  });

  async function plain(path: string, token: string): Promise<{ status: number; code: string }> {
    const { Agent } = await import("undici");
    const dispatcher = new Agent({ connect: { ca: rehearsed.ca } });
    const response = await fetch(`${rehearsed.url}${path}`, {
      dispatcher,
      headers: { authorization: `Bearer ${token}` },
    });
    const body = (await response.json()) as { error: { code: string } };
    await dispatcher.close();
    return { status: response.status, code: body.error.code };
  }
});
