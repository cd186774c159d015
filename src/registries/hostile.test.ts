/** Registries that break the specification's rules, by mistake or with intent: what they can and cannot do to us. */
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { createRegistrySimulator } from "../../rehearsal/src/registry/index.ts";
import { quietCall } from "../lib/call.ts";
import { MiB } from "../lib/units.ts";
import { openRegistry } from "./distribution.ts";
import { RegistryError } from "./errors.ts";
import { entryOf } from "./testing/contract.ts";
import { containerImage } from "./testing/image.ts";

const call = quietCall();
const credentials = { username: "robot+slipway", password: "s3cret-of-the-robot" };
const basic = `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`).toString("base64")}`;
const OTHER = `sha256:${"e".repeat(64)}`;
const ID = { "x-request-id": "r-17" };
const SLOW = 60_000;

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** True = it has answered itself. */
type Lie = (request: IncomingMessage, response: Parameters<RequestListener>[1]) => boolean;

async function listen(handler: RequestListener): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function setUp(lie: Lie, options: { credentials?: typeof credentials; tokenAuth?: boolean } = {}) {
  const simulator = createRegistrySimulator(options);
  const seen: string[] = [];
  const host = await listen((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    if (!lie(request, response)) simulator.handler(request, response);
  });
  const registry = openRegistry({
    ...{ url: `http://${host}`, insecure: true, retryDelaysMs: [1, 1, 1], settleMs: 0 },
    ...(options.credentials ? { credentials } : {}),
  });
  closing.push(() => registry.close());
  return { registry, simulator, seen, host };
}

const says =
  (status: number, headers: Record<string, string> = {}, body = ""): Lie =>
  (request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(status, headers).end(request.method === "HEAD" ? undefined : body));
    return true;
  };

/** Lies to the requests that match: to all of them, or to the first `times`. */
function when(method: string, path: RegExp, lie: Lie, times = Number.POSITIVE_INFINITY): Lie {
  let count = 0;
  return (request, response) =>
    request.method === method && path.test(request.url ?? "") && count++ < times ? lie(request, response) : false;
}

async function failure(work: Promise<unknown>): Promise<RegistryError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RegistryError);
  return error as RegistryError;
}

describe("an upload", () => {
  const large = () => containerImage({ layers: [20 * MiB] });
  const second = (lie: Lie) => {
    let count = 0;
    return when("PATCH", /uploads/, (request, response) => (++count === 2 ? lie(request, response) : false));
  };

  test("whose chunk is said to be out of turn (416) goes on where it stopped", { timeout: SLOW }, async () => {
    const { registry, simulator, seen } = await setUp(second(says(416, ID)));
    const image = large();
    await registry.push("fedora", image, call);
    expect(simulator.state.blobs.get(image.blobs[1]!.digest)?.length).toBe(20 * MiB);
    expect(seen.filter((line) => line.startsWith("PATCH"))).toHaveLength(4);
  });

  test("that is out of turn each time is given up, with what was tried", { timeout: SLOW }, async () => {
    const { registry, simulator } = await setUp(when("PATCH", /uploads/, says(416, ID)));
    const error = await failure(registry.push("fedora", large(), call));
    expect(error).toMatchObject({ code: "unavailable", status: 416, requestId: "r-17", operation: "PATCH upload" });
    expect(error.tried).toContain("4 attempts");
    expect(error.next).toBeTruthy();
    expect(simulator.state.repository("fedora").manifests.size).toBe(0);
    expect(simulator.state.repository("fedora").uploads.size).toBe(0);
  });

  test("that the registry forgot between two chunks begins anew", { timeout: SLOW }, async () => {
    const unknown = JSON.stringify({ errors: [{ code: "BLOB_UPLOAD_UNKNOWN", message: "who?" }] });
    let simulated: Awaited<ReturnType<typeof setUp>>["simulator"] | undefined;
    const set = await setUp(
      second((request, response) => {
        simulated!.state.repository("fedora").uploads.clear();
        return says(404, {}, unknown)(request, response);
      }),
    );
    simulated = set.simulator;
    const image = large();
    await set.registry.push("fedora", image, call);
    expect(set.simulator.state.blobs.get(image.blobs[1]!.digest)?.length).toBe(20 * MiB);
  });

  test.each([
    { name: "nothing of a chunk", range: () => "0-0" },
    { name: "more than was sent", range: () => `0-${64 * MiB}` },
    { name: "one byte a call", range: (calls: number) => `0-${calls}` },
  ])("of which the registry says it has $name ends, soon", { timeout: SLOW }, async ({ range }) => {
    let calls = 0;
    const taken: Lie = (request, response) => {
      const headers = { ...ID, location: request.url!, range: range(++calls) };
      return says(202, headers)(request, response);
    };
    const { registry, simulator } = await setUp(when("PATCH", /uploads/, taken));
    const error = await failure(registry.push("fedora", large(), call));
    expect(error).toMatchObject({ code: "unknown", operation: "PATCH upload", requestId: "r-17" });
    expect(error.next).toContain("operators");
    // Four attempts at the blob, each with four at the chunk.
    expect(calls).toBeLessThanOrEqual(16);
    expect(simulator.state.repository("fedora").manifests.size).toBe(0);
  });

  test("that goes on at another host goes there without credentials, whatever it asks for", async () => {
    const headers: IncomingMessage["headers"][] = [];
    const elsewhere = await listen((request, response) => {
      headers.push(request.headers);
      says(401, { "www-authenticate": 'Basic realm="give me all"' })(request, response);
    });
    const location = `http://${elsewhere}/upload?signed=yes`;
    const { registry } = await setUp(when("POST", /uploads/, says(202, { location })), { credentials });
    // The simulator asks for Basic, so the lie comes only to who has shown it.
    const error = await failure(registry.push("fedora", containerImage({ layers: [1] }), call));
    expect(error).toMatchObject({ code: "unauthenticated", operation: "PUT blob" });
    expect(headers.length).toBeGreaterThan(0);
    expect(headers.some((each) => each.authorization !== undefined)).toBe(false);
    expect(JSON.stringify([headers, error.message, error.next, error.tried])).not.toContain(basic.slice(6));
  });

  test.each([200, 202])("that ends in a success of another kind, %i, is not done", async (status) => {
    const { registry, simulator } = await setUp(when("PUT", /uploads/, says(status, ID)));
    const error = await failure(registry.push("fedora", containerImage({ layers: [10] }), call));
    expect(error).toMatchObject({ code: "unknown", status, requestId: "r-17" });
    expect(error.next).toContain("operators");
    expect(simulator.state.repository("fedora").manifests.size).toBe(0);
  });

  test("for which the registry says that it mounted something else is corrupt", async () => {
    const mounted = { ...ID, "docker-content-digest": OTHER };
    const { registry, host } = await setUp(when("POST", /mount=/, says(201, mounted)));
    const from = openRegistry({ url: `http://${host}/from`, insecure: true, settleMs: 0 });
    closing.push(() => from.close());
    const { digest } = await from.push("fedora", containerImage({ layers: [10] }), call);
    const copying = registry.copy(from, { repository: "fedora", reference: digest }, "copies", ["43"], call);
    expect(await failure(copying)).toMatchObject({ code: "corrupt", operation: "POST upload", requestId: "r-17" });
    expect(await registry.find("copies", "43", call)).toBeUndefined();
  });

  test("for which the registry will not mount is sent", async () => {
    // 202 to a mount is the specification's "send it yourself".
    const notMounted: Lie = (request) => {
      request.url = request.url!.replace(/\?.*/, "");
      return false;
    };
    const { registry, host } = await setUp(when("POST", /mount=/, notMounted));
    const from = openRegistry({ url: `http://${host}/from`, insecure: true, settleMs: 0 });
    closing.push(() => from.close());
    const { digest } = await from.push("fedora", containerImage({ layers: [10] }), call);
    await registry.copy(from, { repository: "fedora", reference: digest }, "copies", ["43"], call);
    expect((await registry.find("copies", "43", call))?.digest).toBe(digest);
  });
});

describe("a blob", () => {
  const blob = containerImage({ layers: [1000] }).blobs[1]!;
  const read = async (lie: Lie) => {
    const { registry } = await setUp(when("GET", /blobs/, lie));
    const seen: Uint8Array[] = [];
    for await (const part of registry.blob("fedora", blob, call)) seen.push(part);
  };

  test("that is said to be there with another length is not taken for there", async () => {
    const { registry, simulator } = await setUp(when("HEAD", /blobs/, says(200, { ...ID, "content-length": "7" })));
    const error = await failure(registry.push("fedora", containerImage({ layers: [10] }), call));
    expect(error).toMatchObject({ code: "corrupt", operation: "HEAD blob", requestId: "r-17" });
    expect(simulator.state.repository("fedora").manifests.size).toBe(0);
  });

  test.each([
    { name: "longer than declared", body: "x".repeat(1001), headers: {}, code: "corrupt" },
    { name: "shorter than declared", body: "x".repeat(999), headers: {}, code: "corrupt" },
    { name: "of other bytes", body: "x".repeat(1000), headers: {}, code: "corrupt" },
    { name: "that breaks off", body: "x", headers: { "content-length": "1000" }, code: "unavailable" },
  ])("$name is $code", async ({ body, headers, code }) => {
    const lie: Lie = (request, response) => {
      request.resume();
      response.writeHead(200, { ...ID, ...headers });
      response.write(body);
      if (code === "corrupt") response.end();
      else setImmediate(() => response.destroy());
      return true;
    };
    expect(await failure(read(lie))).toMatchObject({ code, operation: "GET blob" });
  });
});

describe("a token service", () => {
  test.each([
    { name: "a page", body: "<html>hello</html>", code: "unavailable" },
    { name: "no token", body: "{}", code: "unauthenticated" },
    { name: "null", body: "null", code: "unauthenticated" },
    { name: "a token that is no text", body: '{"token":{"a":1}}', code: "unauthenticated" },
    { name: "a token with a line break", body: '{"token":"a\\r\\nx-admin: yes"}', code: "unauthenticated" },
    { name: "a token of 2 MiB", body: JSON.stringify({ token: "x".repeat(2 * MiB) }), code: "unavailable" },
  ])("that gives $name is $code", async ({ body, code }) => {
    const lie = when("GET", /token/, says(200, { "content-type": "application/json" }, body));
    const { registry } = await setUp(lie, { credentials, tokenAuth: true });
    const error = await failure(registry.find("fedora", "43", call));
    expect(error).toMatchObject({ code, operation: "GET token" });
    expect(error.next).toBeTruthy();
    expect(error.message).not.toContain(credentials.password);
  });

  test("that gives a token nobody takes ends the call, without asking for ever", async () => {
    const lie = when("GET", /token/, says(200, {}, '{"token":"of-no-use","expires_in":1e308}'));
    const { registry, seen } = await setUp(lie, { credentials, tokenAuth: true });
    expect((await failure(registry.find("fedora", "43", call))).code).toBe("unauthenticated");
    expect(seen.filter((line) => line.includes("token"))).toHaveLength(1);
  });

  test("that sends on to another host is not followed there", async () => {
    const asked: string[] = [];
    const elsewhere = await listen((request, response) => {
      asked.push(request.headers.authorization ?? "");
      response.end('{"token":"x"}');
    });
    const lie = when("GET", /token/, says(307, { location: `http://${elsewhere}/token` }));
    const { registry } = await setUp(lie, { credentials, tokenAuth: true });
    expect(await failure(registry.find("fedora", "43", call))).toMatchObject({ code: "unknown", status: 307 });
    expect(asked).toEqual([]);
  });
});

describe("an index", () => {
  test.each([
    { name: "a page", type: "text/html", body: "<html>", code: "invalid" },
    { name: "no JSON", type: "application/vnd.oci.image.index.v1+json", body: "<html>", code: "invalid" },
    { name: "no list", type: "application/vnd.oci.image.index.v1+json", body: '{"manifests":7}', code: "invalid" },
  ])("that reads as $name is not written over: who knows what it lists", async ({ type, body, code }) => {
    const { registry, seen } = await setUp(when("GET", /manifests\/43$/, says(200, { "content-type": type }, body)));
    const entry = entryOf(await registry.push("fedora", containerImage({ layers: [10] }), call));
    const joining = registry.joinIndex("fedora", [entry], ["43"], { keepOthers: true }, call);
    await expect(joining).rejects.toMatchObject({ code });
    expect(seen.filter((line) => line === "PUT /v2/fedora/manifests/43")).toEqual([]);
  });
});
