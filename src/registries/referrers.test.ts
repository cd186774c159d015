import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { createRegistrySimulator, type RegistrySimulatorOptions } from "../../rehearsal/src/registry/index.ts";
import { quietCall } from "../lib/call.ts";
import { openRegistry } from "./distribution.ts";
import type { RegistryError } from "./errors.ts";
import { digestOf, OCI_INDEX } from "./manifests.ts";
import { containerImage } from "./testing/image.ts";
import { describeReferrers } from "./testing/referrers-contract.ts";

const call = quietCall();
const credentials = { username: "robot", password: "secret" };
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function listen(handler: RequestListener) {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return { host: `127.0.0.1:${(server.address() as AddressInfo).port}`, close };
}

for (const [name, options] of [
  ["simulator with the API", { credentials, tokenAuth: true }],
  ["simulator without", { credentials, tokenAuth: true, referrers: false }],
] as const) {
  describeReferrers(name, async () => {
    const server = await listen(createRegistrySimulator(options).handler);
    const common = { credentials, insecure: true, retryDelaysMs: [1, 1], settleMs: 2 };
    return {
      open: () => openRegistry({ url: `${server.host}/fedora`, ...common }),
      neighbour: () => openRegistry({ url: `${server.host}/elsewhere`, ...common }),
      close: server.close,
    };
  });
}

/** Stands before the simulator: true = it has answered itself. */
type Fault = (...args: Parameters<RequestListener>) => boolean;

async function setUp(options: RegistrySimulatorOptions = {}, fault: Fault = () => false) {
  const simulator = createRegistrySimulator(options);
  const server = await listen((request, response) => {
    if (!fault(request, response)) simulator.handler(request, response);
  });
  const registry = openRegistry({ url: server.host, insecure: true, retryDelaysMs: [1], settleMs: 0 });
  closing.push(server.close, () => registry.close());
  const { digest } = await registry.push("fedora", containerImage({ layers: [1] }), call);
  return { registry, state: simulator.state.repository("fedora"), subject: digest };
}

async function failure(promise: Promise<unknown>): Promise<RegistryError> {
  return promise.then(
    () => expect.fail("it did not fail"),
    (error) => error as RegistryError,
  );
}

const signature = { artifactType: "application/vnd.example.signature", blobs: [] };
const tagOf = (digest: string) => digest.replace(":", "-");

describe("with the API", () => {
  test("no fallback tag is made", async () => {
    const { registry, state, subject } = await setUp();
    await registry.attach("fedora", subject, signature, call);
    expect(state.tags.size).toBe(0);
  });

  test("a registry that notes another subject is corrupt", async () => {
    const { registry, subject } = await setUp({}, (request, response) => {
      if (request.method === "PUT" && request.url?.includes("/manifests/")) {
        response.setHeader("OCI-Subject", `sha256:${"e".repeat(64)}`);
        const write = response.writeHead.bind(response);
        response.writeHead = ((status: number, headers: Record<string, string>) => {
          const { "OCI-Subject": _, ...rest } = headers;
          return write(status, rest);
        }) as typeof response.writeHead;
      }
      return false;
    });
    expect(await failure(registry.attach("fedora", subject, signature, call))).toMatchObject({
      ...{ code: "corrupt", operation: "PUT manifest", registry: expect.any(String), next: expect.any(String) },
    });
  });

  test("pages are followed, and an entry that stands on two is listed once", async () => {
    const entry = (char: string) => ({ mediaType: OCI_INDEX, digest: `sha256:${char.repeat(64)}`, size: 1 });
    const pages = [
      [entry("a"), entry("b")],
      [entry("b"), entry("c")],
    ];
    const { registry, subject } = await setUp({}, (request, response) => {
      if (!request.url?.includes("/referrers/")) return false;
      const page = Number(new URL(request.url, "http://x").searchParams.get("page") ?? 0);
      const next = `<${request.url.split("?")[0]}?page=${page + 1}>; rel="next"`;
      response.writeHead(200, { "content-type": OCI_INDEX, ...(page === 0 ? { link: next } : {}) });
      response.end(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: pages[page] }));
      return true;
    });
    const found = await registry.referrers("fedora", subject, undefined, call);
    expect(found.map(({ digest }) => digest[7])).toEqual(["a", "b", "c"]);
  });

  test("a list that is none is invalid, and one without end is not read to its end", async () => {
    for (const body of ["not JSON", '{"schemaVersion":2}', '{"manifests":[{"digest":"x"}]}', "x".repeat(5_000_000)]) {
      const { registry, subject } = await setUp({}, (request, response) => {
        if (!request.url?.includes("/referrers/")) return false;
        response.writeHead(200, { "content-type": OCI_INDEX }).end(body);
        return true;
      });
      expect((await failure(registry.referrers("fedora", subject, undefined, call))).code).toBe("invalid");
    }
  });
});

describe("the fallback tag", () => {
  test("keeps what other writers put there, unknown fields and all", async () => {
    const { registry, state, subject } = await setUp({ referrers: false });
    const theirs = { ...signature, annotations: { by: "them" } };
    const first = await registry.attach("fedora", subject, theirs, call);
    const index = JSON.parse(state.manifests.get(state.tags.get(tagOf(subject))!)!.bytes.toString());
    index.annotations = { "example.writer": "another program" };
    index.manifests[0].platform = { architecture: "unknown", os: "unknown" };
    index.manifests[0].data = "e30=";
    const bytes = Buffer.from(JSON.stringify(index));
    state.manifests.set(digestOf(bytes), { bytes, mediaType: OCI_INDEX });
    state.tags.set(tagOf(subject), digestOf(bytes));

    const second = await registry.attach("fedora", subject, signature, call);
    const now = JSON.parse(state.manifests.get(state.tags.get(tagOf(subject))!)!.bytes.toString());
    expect(now.annotations).toEqual(index.annotations);
    expect(now.manifests[0]).toEqual(index.manifests[0]);
    expect(now.manifests[1]).toMatchObject({ digest: second.digest, artifactType: signature.artifactType });
    expect((await registry.referrers("fedora", subject, undefined, call)).map(({ digest }) => digest)).toEqual([
      first.digest,
      second.digest,
    ]);
  });

  test("that another writer overwrites right after us is merged again", async () => {
    const { registry, state, subject } = await setUp({ referrers: false });
    const theirs = await registry.attach("fedora", subject, { ...signature, annotations: { by: "them" } }, call);
    const strangers = state.tags.get(tagOf(subject))!;
    const put = state.tags.set.bind(state.tags);
    let intruded = 0;
    state.tags.set = (tag, digest) => {
      put(tag, digest);
      if (tag === tagOf(subject) && intruded++ < 2) put(tag, strangers);
      return state.tags;
    };
    const ours = await registry.attach("fedora", subject, signature, call);
    expect(intruded).toBe(3);
    const found = await registry.referrers("fedora", subject, undefined, call);
    expect(found.map(({ digest }) => digest)).toEqual([theirs.digest, ours.digest]);
  });

  test("that never stays is a conflict; that is an image is left alone", async () => {
    const { registry, state, subject } = await setUp({ referrers: false });
    const put = state.tags.set.bind(state.tags);
    state.tags.set = () => state.tags;
    const error = await failure(registry.attach("fedora", subject, signature, call));
    expect(error).toMatchObject({
      ...{ code: "conflict", operation: "PUT manifest" },
      ...{ tried: expect.stringContaining("6 rounds"), next: expect.any(String) },
    });

    put(tagOf(subject), subject);
    state.tags.set = put;
    const refused = await failure(registry.attach("fedora", subject, signature, call));
    expect(refused).toMatchObject({ code: "already-exists", next: expect.any(String) });
    expect(state.tags.get(tagOf(subject))).toBe(subject);
    expect(await registry.referrers("fedora", subject, undefined, call)).toEqual([]);
  });

  test("that lists what is gone does not stop a copy", async () => {
    const { registry, state, subject } = await setUp({ referrers: false });
    const gone = await registry.attach("fedora", subject, { ...signature, annotations: { will: "go" } }, call);
    const there = await registry.attach("fedora", subject, signature, call);
    state.manifests.delete(gone.digest);
    await registry.copy(registry, { repository: "fedora", reference: subject }, "copied", ["1"], call);
    const found = await registry.referrers("copied", subject, undefined, call);
    expect(found.map(({ digest }) => digest)).toEqual([there.digest]);
  });
});
