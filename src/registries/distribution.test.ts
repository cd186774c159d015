import { X509Certificate } from "node:crypto";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { TLSSocket } from "node:tls";
import { afterEach, describe, expect, test } from "vitest";
import {
  createRegistrySimulator,
  type RegistrySimulator,
  type RegistrySimulatorOptions,
} from "../../rehearsal/src/registry/index.ts";
import { createAuthority, serve } from "../../rehearsal/src/tls.ts";
import { quietCall } from "../lib/call.ts";
import { codeOf } from "../lib/errors.ts";
import { MiB } from "../lib/units.ts";
import { openRegistry, type RegistryOptions } from "./distribution.ts";
import { RegistryError } from "./errors.ts";
import type { Registry } from "./registry.ts";
import { describeRegistry, entryOf } from "./testing/contract.ts";
import { containerImage } from "./testing/image.ts";

const call = quietCall();
const credentials = { username: "robot+slipway", password: "s3cret-of-the-robot" };
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

for (const [name, options] of [
  ["simulator", {}],
  ["simulator with Basic", { credentials }],
  ["simulator with tokens", { credentials, tokenAuth: true }],
] as const) {
  describeRegistry(name, async () => {
    const simulator = createRegistrySimulator(options);
    const server = await listen(simulator.handler);
    const common = { credentials, insecure: true, retryDelaysMs: [1, 1], settleMs: 2 };
    return {
      open: () => openRegistry({ url: `${server.host}/fedora`, ...common }),
      neighbour: () => openRegistry({ url: `${server.host}/elsewhere`, ...common }),
      close: server.close,
    };
  });
}

/** Stands before the simulator: true = it has answered itself. */
type Fault = (request: IncomingMessage, response: Parameters<RequestListener>[1]) => boolean | Promise<boolean>;

async function listen(handler: RequestListener) {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

async function setUp(
  options: RegistrySimulatorOptions & { fault?: Fault; client?: Partial<RegistryOptions> } = {},
): Promise<{ registry: Registry; simulator: RegistrySimulator; seen: string[]; host: string }> {
  const simulator = createRegistrySimulator(options);
  const seen: string[] = [];
  const server = await listen(async (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.authorization ?? ""}`.trim());
    if (await options.fault?.(request, response)) return;
    simulator.handler(request, response);
  });
  const registry = openRegistry({
    ...{ url: `http://${server.host}`, insecure: true, retryDelaysMs: [1, 1, 1], settleMs: 0 },
    ...options.client,
  });
  closing.push(server.close, () => registry.close());
  return { registry, simulator, seen, host: server.host };
}

/** A fault for the n-th request that matches, and no other. */
function nth(n: number, method: string, path: RegExp, fault: Fault): Fault {
  let count = 0;
  return (request, response) =>
    request.method === method && path.test(request.url ?? "") && ++count === n ? fault(request, response) : false;
}

const answer =
  (status: number, headers: Record<string, string> = {}): Fault =>
  (request, response) => {
    request.resume();
    request.on("end", () => response.writeHead(status, headers).end());
    return true;
  };

describe("faults while a blob is sent", () => {
  const large = () => containerImage({ layers: [20 * MiB] });

  test("502 in the middle: goes on where it stopped, other chunks are not sent twice", async () => {
    const { registry, simulator, seen } = await setUp({ fault: nth(2, "PATCH", /uploads/, answer(502)) });
    const image = large();
    const pushed = await registry.push("fedora", image, call);
    expect(simulator.state.blobs.get(image.blobs[1]!.digest)?.length).toBe(20 * MiB);
    expect(seen.filter((line) => line.startsWith("PATCH"))).toHaveLength(4);
    expect(pushed.sentBytes).toBe(image.blobs.reduce((sum, blob) => sum + blob.bytes, image.manifest.length) + 8 * MiB);
  });

  test("a connection that breaks while a chunk is on its way", async () => {
    const fault = nth(1, "PATCH", /uploads/, (request) => {
      request.once("data", () => request.socket.destroy());
      return true;
    });
    const { registry, simulator } = await setUp({ fault });
    const image = large();
    await registry.push("fedora", image, call);
    expect(simulator.state.blobs.has(image.blobs[1]!.digest)).toBe(true);
  });

  test("a chunk whose answer was lost is not appended twice", async () => {
    const { registry, simulator } = await setUp({ fault: losing("PATCH", /uploads/) });
    const image = large();
    await registry.push("fedora", image, call);
    expect(simulator.state.blobs.has(image.blobs[1]!.digest)).toBe(true);
  });

  test("an upload the registry has forgotten starts again", async () => {
    const simulator = { current: undefined as RegistrySimulator | undefined };
    const fault = nth(2, "PATCH", /uploads/, (request, response) => {
      simulator.current!.state.repository("fedora").uploads.clear();
      return answer(503)(request, response);
    });
    const set = await setUp({ fault });
    simulator.current = set.simulator;
    const image = large();
    await set.registry.push("fedora", image, call);
    expect(set.simulator.state.blobs.has(image.blobs[1]!.digest)).toBe(true);
  });

  test("a blob whose closing answer was lost is found, not sent again", async () => {
    const { registry, seen } = await setUp({ fault: losing("PUT", /uploads/) });
    const image = containerImage({ layers: [1000] });
    await registry.push("fedora", image, call);
    expect(seen.filter((line) => line.startsWith("PUT") && line.includes("uploads"))).toHaveLength(2);
  });

  test("stopped while an upload is begun: its answer is waited for, and the upload cancelled", async () => {
    const stopping = new AbortController();
    const fault = nth(1, "POST", /uploads/, () => {
      stopping.abort();
      return false;
    });
    const { registry, simulator, seen } = await setUp({ fault });
    const error = await failure(registry.push("fedora", containerImage({ layers: [10] }), quietCall(stopping.signal)));
    expect(error.code).toBe("cancelled");
    expect(seen.filter((line) => line.startsWith("DELETE")).length).toBeGreaterThan(0);
    expect(simulator.state.repository("fedora").uploads.size).toBe(0);
  });

  test("a registry that stays down is unavailable, with what was tried", async () => {
    const fault: Fault = (request, response) =>
      request.method === "PUT" ? answer(503, { "retry-after": "0", "x-request-id": "r-17" })(request, response) : false;
    const { registry, simulator } = await setUp({ fault });
    const error = await failure(registry.push("fedora", containerImage({ layers: [10] }), call));
    expect(error).toMatchObject({ code: "unavailable", operation: "PUT blob", status: 503, requestId: "r-17" });
    expect(error.tried).toContain("4 attempts");
    expect(error.tried).toContain("Retry-After 0");
    expect(simulator.state.repository("fedora").uploads.size).toBe(0);
  });

  test("202 instead of 201 is not taken for done", async () => {
    const fault: Fault = (request, response) =>
      request.method === "PUT" && request.url!.includes("uploads") ? answer(202)(request, response) : false;
    const { registry, simulator } = await setUp({ fault });
    const error = await failure(registry.push("fedora", containerImage({ layers: [10] }), call));
    expect(error).toMatchObject({ code: "unknown", status: 202 });
    expect(simulator.state.repository("fedora").manifests.size).toBe(0);
  });

  test("a wrong digest in the answer is corrupt", async () => {
    const wrong = { "docker-content-digest": `sha256:${"e".repeat(64)}` };
    const { registry } = await setUp({ fault: nth(1, "PUT", /uploads/, answer(201, wrong)) });
    expect(await failure(registry.push("fedora", containerImage({ layers: [10] }), call))).toMatchObject({
      code: "corrupt",
      operation: "PUT blob",
    });
  });

  test("a source that breaks leaves no upload behind", async () => {
    const { registry, simulator } = await setUp();
    const image = large();
    const broken = {
      ...image,
      open: async function* () {
        yield Buffer.alloc(9 * MiB);
        throw new RegistryError("corrupt", "bad archive", { registry: "x", operation: "x" });
      },
    };
    expect((await failure(registry.push("fedora", broken, call))).code).toBe("corrupt");
    expect(simulator.state.repository("fedora").uploads.size).toBe(0);
  });

  test("cancelled between two chunks: ends at once, the upload taken back", async () => {
    const stop = new AbortController();
    const { registry, simulator } = await setUp({
      fault: nth(2, "PATCH", /uploads/, () => {
        stop.abort();
        return true;
      }),
    });
    expect(codeOf(await failure(registry.push("fedora", large(), quietCall(stop.signal))))).toBe("cancelled");
    expect(simulator.state.repository("fedora").uploads.size).toBe(0);
  });
});

describe("faults at a manifest", () => {
  test("a lost answer to PUT: the repeated push finds it and sends nothing", async () => {
    const { registry } = await setUp({ fault: losing("PUT", /manifests/) });
    const image = containerImage({ layers: [10] });
    expect((await failure(registry.push("fedora", image, call))).code).toBe("unavailable");
    expect((await registry.push("fedora", image, call)).sentBytes).toBe(0);
  });

  test("202 instead of 201, and a wrong digest", async () => {
    const wrong = { "docker-content-digest": `sha256:${"e".repeat(64)}` };
    for (const [fault, code] of [
      [answer(202), "unknown"],
      [answer(201, wrong), "corrupt"],
    ] as const) {
      const { registry } = await setUp({ fault: nth(1, "PUT", /manifests/, fault) });
      expect((await failure(registry.push("fedora", containerImage({ layers: [10] }), call))).code).toBe(code);
    }
  });

  test("bytes that are not what the tag's digest says are corrupt", async () => {
    const body = "{}";
    const fault: Fault = (_request, response) => {
      response.writeHead(200, { "docker-content-digest": `sha256:${"e".repeat(64)}` }).end(body);
      return true;
    };
    const { registry } = await setUp({ fault });
    expect((await failure(registry.find("fedora", "43", call))).code).toBe("corrupt");
    expect((await failure(registry.find("fedora", `sha256:${"a".repeat(64)}`, call))).code).toBe("corrupt");
  });

  test("a manifest without end is not read to its end", async () => {
    const fault: Fault = (_request, response) => {
      response.writeHead(200, { "content-type": "application/vnd.oci.image.index.v1+json" });
      const more = () => void (response.write(Buffer.alloc(MiB)) ? setImmediate(more) : response.once("drain", more));
      more();
      return true;
    };
    const { registry } = await setUp({ fault });
    expect((await failure(registry.find("fedora", "43", call))).code).toBe("invalid");
  });
});

describe("writers elsewhere", () => {
  test("a tag that moves right after the write is merged again", async () => {
    const writer = await setUp();
    const amd64 = entryOf(await writer.registry.push("fedora", containerImage({ layers: [1] }), call));
    const arm64 = entryOf(
      await writer.registry.push("fedora", containerImage({ layers: [1], architecture: "arm64" }), call),
    );
    const s390x = entryOf(
      await writer.registry.push("fedora", containerImage({ layers: [1], architecture: "s390x" }), call),
    );
    const keep = { keepOthers: true };
    await writer.registry.joinIndex("fedora", [s390x], ["43"], keep, call);
    // A stranger who looked before we wrote, and writes after: arm64 and s390x, without our amd64.
    await writer.registry.joinIndex("fedora", [arm64], ["stranger"], keep, call);
    const state = writer.simulator.state.repository("fedora");
    const strangers = state.tags.get("stranger")!;
    let intruded = 0;
    const put = state.tags.set.bind(state.tags);
    state.tags.set = (tag, digest) => {
      put(tag, digest);
      if (tag === "43" && intruded++ < 2) put(tag, strangers);
      return state.tags;
    };
    await writer.registry.joinIndex("fedora", [amd64], ["43", "latest"], keep, call);
    for (const tag of ["43", "latest"]) {
      const found = await writer.registry.find("fedora", tag, call);
      expect(found?.entries?.map((entry) => entry.platform.architecture)).toEqual(["amd64", "arm64"]);
    }
  });

  test("a tag that never stays is a conflict", async () => {
    const { registry, simulator } = await setUp();
    const amd64 = entryOf(await registry.push("fedora", containerImage({ layers: [1] }), call));
    const state = simulator.state.repository("fedora");
    const put = state.tags.set.bind(state.tags);
    state.tags.set = (tag) => put(tag, amd64.digest);
    const error = await failure(registry.joinIndex("fedora", [amd64], ["43"], { keepOthers: true }, call));
    expect(error).toMatchObject({ code: "conflict", subject: "fedora:43" });
  });
});

describe("credentials", () => {
  test("wrong ones are unauthenticated, in check and elsewhere, and are told to nobody", async () => {
    for (const tokenAuth of [false, true]) {
      const client = { credentials: { ...credentials, password: "wrong-and-s3cret" } };
      const { registry } = await setUp({ credentials, tokenAuth, client });
      const error = await failure(registry.push("fedora", containerImage({ layers: [1] }), call));
      expect(error.code).toBe("unauthenticated");
      expect(JSON.stringify([error, error.message, error.next])).not.toContain("s3cret");
      expect(await registry.check(["fedora"], call)).toMatchObject([{ severity: "error", code: "unauthenticated" }]);
    }
  });

  test("a missing permission is named before a byte is sent", async () => {
    for (const tokenAuth of [false, true]) {
      const allows = (repository: string, action: string) => repository !== "eln" || action === "pull";
      const { registry } = await setUp({ credentials, tokenAuth, allows, client: { credentials } });
      const findings = await registry.check(["fedora", "eln"], call);
      expect(findings).toMatchObject([
        { severity: "error", code: "forbidden", subject: expect.stringMatching(/eln$/) },
      ]);
    }
  });

  test("a token is asked for once per scope, and again when it is refused", async () => {
    const { registry, seen, simulator } = await setUp({ credentials, tokenAuth: true, client: { credentials } });
    await registry.push("fedora", containerImage({ layers: [1, 2, 3] }), call);
    expect(seen.filter((line) => line.startsWith("GET /token"))).toHaveLength(2);
    expect(seen.filter((line) => line.includes("Basic")).every((line) => line.includes("/token"))).toBe(true);
    expect(simulator.state.repository("fedora").manifests.size).toBe(1);
  });

  test("a client certificate is shown to the registry", async () => {
    const authority = await createAuthority();
    const seen: string[] = [];
    const settings = { key: authority.key, cert: authority.cert, requestCert: true, rejectUnauthorized: false };
    const server = createTlsServer(settings, (request, response) => {
      seen.push((request.socket as TLSSocket).getPeerX509Certificate()?.fingerprint256 ?? "none");
      response.writeHead(404).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const clientCert = { cert: authority.cert, key: authority.key };
    const registry = openRegistry({ url, ca: authority.ca, clientCert });
    await registry.find("fedora", "43", call);
    await registry.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    expect(seen).toEqual([new X509Certificate(authority.cert).fingerprint256]);
  });

  test("a token that ended on the way is replaced", async () => {
    const stale = nth(1, "PUT", /manifests/, (request) => {
      request.headers.authorization = "Bearer stale";
      return false;
    });
    const { registry, simulator } = await setUp({
      credentials,
      tokenAuth: true,
      client: { credentials },
      fault: stale,
    });
    await registry.push("fedora", containerImage({ layers: [1] }), call);
    expect(simulator.state.repository("fedora").manifests.size).toBe(1);
  });

  test("over TLS: a private authority is trusted when it is given, and only then", async () => {
    const authority = await createAuthority();
    const simulator = createRegistrySimulator({ credentials, tokenAuth: true });
    const server = await serve(simulator.handler, { tls: authority });
    closing.push(() => server.close());
    const trusting = openRegistry({ url: server.url, credentials, ca: authority.ca, settleMs: 0 });
    const wary = openRegistry({ url: server.url, credentials });
    closing.push(
      () => trusting.close(),
      () => wary.close(),
    );
    expect((await trusting.push("fedora", containerImage({ layers: [1] }), call)).sentBytes).toBeGreaterThan(0);
    const error = await failure(wary.find("fedora", "43", call));
    expect(error).toMatchObject({ code: "invalid", next: expect.stringContaining("`ca`") });
  });

  test("are not sent to a token service over http on another host", async () => {
    const challenge = { "www-authenticate": 'Bearer realm="http://tokens.example.test/token",service="x"' };
    const { registry } = await setUp({ fault: answer(401, challenge), client: { credentials } });
    const error = await failure(registry.find("fedora", "43", call));
    expect(error).toMatchObject({ code: "unauthenticated", operation: "GET token" });
    expect(error.message).toContain("not https");
  });

  test("are not sent along a redirect", async () => {
    const headers: (string | undefined)[] = [];
    const elsewhere = await listen((request, response) => {
      headers.push(request.headers.authorization);
      response.end("abc");
    });
    closing.push(elsewhere.close);
    const to = { location: `http://${elsewhere.host}/blob` };
    const { registry } = await setUp({
      credentials,
      client: { credentials },
      fault: (request, response) => (request.headers.authorization ? answer(307, to)(request, response) : false),
    });
    const blob = {
      digest: "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      bytes: 3,
      mediaType: "x/y",
    } as const;
    const parts = [];
    for await (const part of registry.blob("fedora", blob, call)) parts.push(part);
    expect(Buffer.concat(parts).toString()).toBe("abc");
    expect(headers).toEqual([undefined]);
  });

  test("an upload is not continued in clear elsewhere", async () => {
    const to = { location: "http://elsewhere.example.test/upload" };
    const { registry } = await setUp({ fault: nth(1, "POST", /uploads/, answer(202, to)) });
    const error = await failure(registry.push("fedora", containerImage({ layers: [1] }), call));
    expect(error.code).toBe("invalid");
  });
});

test("a writer that gives up waiting lets the next one wait for the one before it", async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const { registry, simulator } = await setUp({
    fault: nth(1, "PUT", /manifests\/43/, async () => {
      await held;
      return false;
    }),
  });
  const push = async (architecture: string) =>
    entryOf(await registry.push("fedora", containerImage({ layers: [1], architecture }), call));
  const [first, second, third] = [await push("amd64"), await push("arm64"), await push("s390x")];
  const keep = { keepOthers: true };
  const stop = new AbortController();
  const writers = [
    registry.joinIndex("fedora", [first], ["43"], keep, call),
    failure(registry.joinIndex("fedora", [second], ["43"], keep, quietCall(stop.signal))),
    registry.joinIndex("fedora", [third], ["43"], keep, call),
  ];
  stop.abort();
  await writers[1];
  expect(simulator.state.repository("fedora").tags.size).toBe(0);
  release();
  await Promise.all(writers);
  expect((await registry.find("fedora", "43", call))?.entries).toHaveLength(2);
});

describe("addresses", () => {
  const cases = [
    { url: "quay.io/fedora", display: "quay.io/fedora" },
    { url: "https://registry.example.test:5000/", display: "registry.example.test:5000" },
    { url: "http://localhost:5000", insecure: true, display: "localhost:5000" },
    { url: "http://localhost:5000", code: "invalid" },
    { url: "http://registry.example.test", insecure: true, code: "invalid" },
    { url: "https://user:secret@quay.io", code: "invalid" },
    { url: "https://quay.io/Fedora", code: "invalid" },
    { url: "ftp://quay.io", code: "invalid" },
    { url: "https://quay.io/fedora?x=1", code: "invalid" },
  ];
  for (const { url, insecure = false, display, code } of cases) {
    test(`${url}${insecure ? " (insecure)" : ""} ${code ?? "is read"}`, async () => {
      try {
        const registry = openRegistry({ url, insecure });
        expect(registry.url).toBe(display);
        await registry.close();
      } catch (error) {
        expect(codeOf(error)).toBe(code);
        expect(String(error)).not.toContain("secret");
      }
    });
  }
});

describe("answers that say no", () => {
  for (const { status, code, headers = {} } of [
    { status: 403, code: "forbidden" },
    { status: 429, code: "throttled", headers: { "retry-after": "30" } },
    { status: 500, code: "unavailable" },
    { status: 504, code: "unavailable" },
    { status: 418, code: "invalid" },
  ]) {
    test(`${status} is ${code}`, async () => {
      const { registry } = await setUp({ fault: answer(status, headers) });
      const error = await failure(registry.find("fedora", "43", call));
      expect(error).toMatchObject({ code, status, operation: "GET manifest", subject: "fedora:43" });
      if (status === 429) expect(error.tried).toContain("30");
    });
  }

  test("a registry that does not delete is unsupported, with the setting to change", async () => {
    const { registry } = await setUp({ deletion: false });
    const pushed = await registry.push("fedora", containerImage({ layers: [1] }), call);
    const error = await failure(registry.remove("fedora", pushed.digest, call));
    expect(error).toMatchObject({ code: "unsupported", next: expect.stringContaining("storage.delete.enabled") });
  });

  test("nobody there is unavailable", async () => {
    const registry = openRegistry({ url: "http://127.0.0.1:1", insecure: true });
    closing.push(() => registry.close());
    expect((await failure(registry.find("fedora", "43", call))).code).toBe("unavailable");
  });
});

/** The call succeeds there, and its answer never comes: once. */
function losing(method: string, path: RegExp): Fault {
  return nth(1, method, path, (request, response) => {
    response.end = () => {
      request.socket.destroy();
      return response;
    };
    return false;
  });
}

async function failure(promise: Promise<unknown>): Promise<RegistryError> {
  return promise.then(
    () => expect.fail("it did not fail"),
    (error) => error as RegistryError,
  );
}
