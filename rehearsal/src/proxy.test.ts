import { readdirSync } from "node:fs";
import type http from "node:http";
import { join } from "node:path";
import { EBSClient } from "@aws-sdk/client-ebs";
import { DescribeImagesCommand, DescribeRegionsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { Agent, fetch } from "undici";
import { afterEach, expect, test } from "vitest";
import { AWS_PUBLISHER, createAwsSimulator } from "./aws/index.ts";
import { block, putCommand, startSnapshot } from "./aws/testing.ts";
import { createProxy, type ProxyOptions, type RuleInput, readScenario } from "./proxy.ts";
import { findScenario, listScenarios } from "./scenarios.ts";
import { serve } from "./tls.ts";

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

/** Answers with what it was sent, and remembers it. */
function echo(seen: string[]): http.RequestListener {
  return (request, response) => {
    let text = "";
    request.setEncoding("latin1");
    request.on("data", (chunk: string) => {
      text += chunk;
    });
    request.on("end", () => {
      seen.push(text);
      response.writeHead(200, { "content-type": "text/plain", "x-host": request.headers.host ?? "" });
      response.end(`${request.method} ${request.url} ${text}`);
    });
  };
}

async function start(options: Partial<ProxyOptions> & { rules?: RuleInput[]; remote?: boolean } = {}) {
  const seen: string[] = [];
  const upstream = echo(seen);
  let url: string | undefined;
  if (options.remote === true) {
    const served = await serve(upstream);
    closers.push(served.close);
    url = `${served.url}/base`;
  }
  const proxy = createProxy({
    vendor: "plain",
    upstream: url ?? upstream,
    scenario: { rules: options.rules ?? [], seed: 3 },
    ...options,
  });
  const front = await serve(proxy.handler);
  const dispatcher = new Agent();
  closers.push(
    () => proxy.close(),
    () => front.close(),
    () => dispatcher.destroy(),
  );
  const call = async (path = "/", init: { method?: string; body?: string; signal?: AbortSignal } = {}) => {
    const answer = await fetch(front.url + path, { ...init, dispatcher });
    return { status: answer.status, text: await answer.text(), headers: answer.headers };
  };
  return { proxy, seen, call, front };
}

test.each([{ remote: false }, { remote: true }])(
  "without rules everything passes as it came (%o)",
  async ({ remote }) => {
    const { call, proxy, front } = await start({ remote });
    const answer = await call("/a%20b?c=d", { method: "POST", body: "hello" });
    expect(answer).toMatchObject({ status: 200, text: `POST ${remote ? "/base" : ""}/a%20b?c=d hello` });
    expect(answer.headers.get("x-host")).toBe(new URL(front.url).host);
    expect(proxy.counts()).toEqual({ requests: 1, operations: { ":POST /a%20b@": 1 }, rules: {} });
  },
);

test("a rule acts on what it matches, every so often, after so many, so many times", async () => {
  const rule = { name: "down", fault: "status", status: 503, match: { path: "/a*" } } as const;
  const { call, proxy } = await start({ rules: [{ ...rule, every: 2, after: 1, times: 2 }] });
  const statuses = async (path: string, count: number) => {
    const all: number[] = [];
    for (let n = 0; n < count; n++) all.push((await call(path)).status);
    return all;
  };
  expect(await statuses("/abc", 8)).toEqual([200, 200, 503, 200, 503, 200, 200, 200]);
  expect(await statuses("/b", 2)).toEqual([200, 200]);
  expect(proxy.counts().rules).toEqual({ down: { matched: 8, applied: 2 } });
  proxy.set(rule);
  expect(await statuses("/abc", 1)).toEqual([503]);
  proxy.enable("down", false);
  expect(await statuses("/abc", 1)).toEqual([200]);
  proxy.enable("down", true);
  proxy.remove("down");
  expect(await statuses("/abc", 1)).toEqual([200]);
  expect(() => proxy.enable("down", true)).toThrow("no rule is named down");
});

test("chance is the seed's: the same requests, the same faults", async () => {
  const run = async (seed: number) => {
    const { call, proxy } = await start();
    proxy.load({ seed, rules: [{ name: "luck", fault: "status", status: 500, chance: 0.5 }] });
    let text = "";
    for (let n = 0; n < 24; n++) text += (await call()).status === 200 ? "." : "x";
    return text;
  };
  const first = await run(7);
  expect(await run(7)).toBe(first);
  expect(await run(8)).not.toBe(first);
  expect(first).toMatch(/x.*\.|\..*x/);
});

test("a bucket lets a burst through, then its rate, for each region by itself", async () => {
  let now = 0;
  const { call } = await start({
    clock: () => now,
    rules: [{ name: "limit", fault: "throttle", rate: 2, burst: 3, per: ["path"] }],
  });
  const passes = async (path: string, count: number) => {
    let passed = 0;
    for (let n = 0; n < count; n++) if ((await call(path)).status === 200) passed += 1;
    return passed;
  };
  expect(await passes("/a", 5)).toBe(3);
  expect(await passes("/b", 1)).toBe(1);
  now += 1000;
  expect(await passes("/a", 5)).toBe(2);
  expect((await call("/a")).headers.get("retry-after")).toBe("1");
});

test.each([{ remote: false }, { remote: true }])(
  "a lost answer was carried out all the same (%o)",
  async ({ remote }) => {
    const { call, seen } = await start({ remote, rules: [{ name: "lost", fault: "lost-answer", times: 1 }] });
    await expect(call("/", { method: "PUT", body: "once" })).rejects.toThrow();
    expect(seen).toEqual(["once"]);
    expect((await call("/", { method: "PUT", body: "twice" })).status).toBe(200);
  },
);

test("one bit is turned over, in the request or in the answer", async () => {
  const { call, seen, proxy } = await start({ rules: [{ name: "flip", fault: "flip-bit", in: "request" }] });
  const sent = "a".repeat(1000);
  await call("/", { method: "PUT", body: sent });
  expect(differentBits(seen[0] ?? "", sent)).toBe(1);
  proxy.set({ name: "flip", fault: "flip-bit", in: "response" });
  const answer = await call("/x", { method: "PUT", body: sent });
  expect(seen[1]).toBe(sent);
  expect(differentBits(answer.text, `PUT /x ${sent}`)).toBe(1);
});

test("resets, outages and silence end for the client as they do in life", async () => {
  const { call, seen, proxy } = await start({ rules: [{ name: "cut", fault: "reset" }] });
  await expect(call()).rejects.toThrow("fetch failed");
  proxy.set({ name: "cut", fault: "outage", as: "status" });
  expect((await call()).status).toBe(503);
  for (const after_sending of ["nothing", "headers"] as const) {
    proxy.set({ name: "cut", fault: "silence", after_sending });
    await expect(call("/", { signal: AbortSignal.timeout(30) })).rejects.toThrow(/aborted/);
  }
  expect(seen).toEqual([]);
});

test("a quota lets so many through, and then none, however long one waits", async () => {
  let now = 0;
  const rules: RuleInput[] = [{ name: "full", fault: "quota", after: 2, match: { method: "PUT" } }];
  const { call, seen } = await start({ clock: () => now, rules });
  const put = async () => (await call("/", { method: "PUT", body: "x" })).status;
  expect([await put(), await put(), await put()]).toEqual([200, 200, 507]);
  now += 3_600_000;
  expect(await put()).toBe(507);
  expect((await call()).status).toBe(200);
  expect(seen).toHaveLength(3);
});

test("credentials that have expired are refused for everything, and new ones are good", async () => {
  const rules: RuleInput[] = [{ name: "late", fault: "expire", after: 1, times: 1, match: { method: "PUT" } }];
  const { front } = await start({ rules });
  const dispatcher = new Agent();
  closers.push(() => dispatcher.destroy());
  const ask = async (method: string, who?: string) => {
    const headers: Record<string, string> = who === undefined ? {} : { authorization: `Bearer ${who}` };
    return (await fetch(front.url, { method, headers, dispatcher })).status;
  };
  expect(await ask("PUT", "old")).toBe(200);
  expect(await ask("GET", "old")).toBe(200);
  expect(await ask("PUT", "old")).toBe(401);
  expect(await ask("GET", "old")).toBe(401);
  expect(await ask("PUT", "new")).toBe(200);
  expect(await ask("GET", "new")).toBe(200);
  // Nobody's credentials cannot expire.
  expect(await ask("PUT")).toBe(200);
});

test("every vendor says in its own words that a quota is reached and that credentials have expired", async () => {
  const scope = "Credential=AKIA/20260101/us-east-1/SERVICE/aws4_request, SignedHeaders=host";
  const aws = { authorization: `AWS4-HMAC-SHA256 ${scope}, Signature=${"0".repeat(64)}` };
  const cases = [
    ["aws", "ec2", 400, "ResourceLimitExceeded", 400, "RequestExpired"],
    ["aws", "ebs", 402, "ServiceQuotaExceededException", 403, "ExpiredTokenException"],
    [
      "azure",
      "/subscriptions/s/providers/Microsoft.Compute/galleries/g",
      409,
      "QuotaExceeded",
      401,
      "ExpiredAuthenticationToken",
    ],
    ["azure", "/account/vhds/disk", 409, "AccountLimitExceeded", 401, "InvalidAuthenticationInfo"],
    ["gcp", "/compute/v1/projects/p/global/images", 403, "quotaExceeded", 401, "authError"],
    ["registry", "/v2/fedora/manifests/latest", 403, "DENIED", 200, ""],
  ] as const;
  for (const [vendor, where, quotaStatus, quotaCode, expiredStatus, expiredCode] of cases) {
    const path = where.startsWith("/") ? where : "/";
    const authorization = vendor === "aws" ? aws.authorization.replace("SERVICE", where) : "Bearer token";
    const seen: (string | undefined)[] = [];
    const upstream: http.RequestListener = (request, response) => {
      seen.push(request.headers.authorization);
      response.end("ok");
    };
    const proxy = createProxy({ vendor, upstream });
    const front = await serve(proxy.handler);
    closers.push(
      () => proxy.close(),
      () => front.close(),
    );
    const dispatcher = new Agent();
    closers.push(() => dispatcher.destroy());
    const ask = async () => {
      const answer = await fetch(front.url + path, { headers: { authorization }, dispatcher });
      return { status: answer.status, said: (await answer.text()) + (answer.headers.get("x-amzn-errortype") ?? "") };
    };
    proxy.set({ name: "full", fault: "quota" });
    const full = await ask();
    expect(full.status, where).toBe(quotaStatus);
    expect(full.said).toContain(quotaCode);
    proxy.remove("full");
    proxy.set({ name: "late", fault: "expire" });
    const expired = await ask();
    expect(expired.status, where).toBe(expiredStatus);
    expect(expired.said).toContain(expiredCode);
    // A registry's own challenge is needed to get a new token: it is asked, by nobody.
    expect(seen).toEqual(vendor === "registry" ? [undefined] : []);
  }
});

test("a narrow line lets bodies pass at its pace, and all of them", async () => {
  const rules: RuleInput[] = [{ name: "line", fault: "bandwidth", bytes_per_second: 4_000_000, in: "request" }];
  const { call, seen, proxy } = await start({ rules });
  const body = "b".repeat(400_000);
  const began = performance.now();
  expect((await call("/", { method: "PUT", body })).text).toHaveLength(body.length + "PUT / ".length);
  // Nothing is ever faster than the line; how much slower is the machine's business.
  expect(performance.now() - began).toBeGreaterThan(95);
  expect(seen).toEqual([body]);
  proxy.set({ name: "line", fault: "bandwidth", bytes_per_second: 10, in: "response" });
  await expect(call("/", { method: "PUT", body, signal: AbortSignal.timeout(50) })).rejects.toThrow(/aborted/);
});

test("waits add up and end when the client leaves", async () => {
  const { call, seen } = await start({
    rules: [
      { name: "far", fault: "latency", ms: 1, jitter_ms: 1 },
      { name: "farther", fault: "latency", ms: 100_000, match: { path: "/slow" } },
    ],
  });
  expect((await call()).status).toBe(200);
  await expect(call("/slow", { signal: AbortSignal.timeout(20) })).rejects.toThrow(/aborted/);
  expect(seen).toHaveLength(1);
});

test("AWS's calls are known by operation and region, and refused in each service's own words", async () => {
  const { proxy, front } = await start({ vendor: "aws", upstream: createAwsSimulator().handler });
  const settings = (region: string) => ({ region, endpoint: front.url, maxAttempts: 1, credentials: AWS_PUBLISHER });
  const ec2 = new EC2Client(settings("us-east-1"));
  const ebs = new EBSClient(settings("us-east-1"));
  await ec2.send(new DescribeRegionsCommand({}));
  const id = await startSnapshot(ebs);
  proxy.set({ name: "puts", fault: "throttle", rate: 0.001, burst: 1, match: { operation: "PutSnapshotBlock" } });
  await ebs.send(putCommand(id, 0, block(0)));
  await expect(ebs.send(putCommand(id, 1, block(1)))).rejects.toMatchObject({
    name: "RequestThrottledException",
    Reason: "ACCOUNT_THROTTLED",
  });
  proxy.set({ name: "describes", fault: "throttle", rate: 0.001, burst: 1, match: { operation: "Describe*" } });
  await ec2.send(new DescribeImagesCommand({}));
  await expect(ec2.send(new DescribeImagesCommand({}))).rejects.toMatchObject({ name: "RequestLimitExceeded" });
  proxy.load({ rules: [{ name: "gone", fault: "outage", match: { region: "eu-*" } }] });
  await expect(new EC2Client(settings("eu-west-1")).send(new DescribeImagesCommand({}))).rejects.toThrow();
  await ec2.send(new DescribeImagesCommand({}));
  proxy.load({ rules: [{ name: "flip", fault: "flip-bit", in: "request" }] });
  await expect(ebs.send(putCommand(id, 1, block(1)))).rejects.toMatchObject({ name: "ValidationException" });
  proxy.load({ rules: [{ name: "lost", fault: "lost-answer" }] });
  await expect(ec2.send(new DescribeImagesCommand({}))).rejects.toThrow();
  expect(proxy.counts().operations).toEqual({ "ec2:DescribeImages@us-east-1": 1 });
});

test("every scenario that comes along is one; what is wrong with another is said by field", () => {
  const directory = join(import.meta.dirname, "../scenarios");
  const names = readdirSync(directory);
  expect(names).toEqual(expect.arrayContaining(["bad-day.yaml", "region-down.yaml"]));
  for (const name of names) expect(readScenario(join(directory, name)).rules.length).toBeGreaterThan(0);
  expect(listScenarios().map(({ name }) => `${name}.yaml`)).toEqual([...names].sort());
  for (const { name, description } of listScenarios()) {
    expect(description.length, name).toBeGreaterThan(40);
    expect(findScenario(name).rules.length).toBeGreaterThan(0);
  }
  expect(() => findScenario("worse-day")).toThrow(/worse-day; there are: bad-day, /);
  const proxy = createProxy({ vendor: "plain", upstream: () => {} });
  expect(() => proxy.set({ name: "x", fault: "status", status: 200 })).toThrow("status");
  expect(() => proxy.load({ rules: [{ name: "X y", fault: "reset" }] })).toThrow("rules[0].name");
  expect(() => proxy.load({ world: { aws: { copy_ms: -1 } } })).toThrow("world.aws.copy_ms");
  expect(() => proxy.load({ world: { mars: {} } } as never)).toThrow("mars");
  const twice: RuleInput = { name: "x", fault: "reset" };
  expect(() => proxy.load({ rules: [twice, twice] })).toThrow("two rules are named x");
});

function differentBits(a: string, b: string): number {
  let bits = Math.abs(a.length - b.length) * 8;
  for (let n = 0; n < Math.min(a.length, b.length); n++) {
    for (let x = a.charCodeAt(n) ^ b.charCodeAt(n); x > 0; x >>= 1) bits += x & 1;
  }
  return bits;
}
