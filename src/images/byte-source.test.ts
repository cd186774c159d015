import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { codeOf, SlipwayError } from "../lib/errors.ts";
import { type ByteSource, type ByteSourceOptions, openBytes } from "./byte-source.ts";
import { isPrivateAddress, judgeRedirect } from "./redirects.ts";

const file = Buffer.alloc(300_000);
for (let at = 0; at < file.length; at++) file[at] = (at * 7 + (at >> 8)) & 0xff;
const call = quietCall();

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

let server: Server;
let base: string;
let answer: Answer;
let seen: IncomingMessage[] = [];
const opened: ByteSource[] = [];

beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
afterEach(async () => {
  seen = [];
  await Promise.all(opened.splice(0).map((source) => source.close()));
});

function open(path = "/disk.raw.xz", options: ByteSourceOptions = {}): ByteSource {
  const source = openBytes(base + path, { backoffMs: 1, ...options });
  opened.push(source);
  return source;
}

async function all(source: ByteSource, offset = 0, end?: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source.stream(offset, call, end)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function failure(work: Promise<unknown>): Promise<SlipwayError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(SlipwayError);
  return error as SlipwayError;
}

/** A server that does ranges; `cutAfter` closes the connection after so many bytes of a body. */
function ranges(options: { etag?: () => string; cutAfter?: number; bytes?: Buffer } = {}): Answer {
  return (request, response) => {
    const body = options.bytes ?? file;
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const from = Number(range?.[1] ?? 0);
    const to = Math.min(body.length, range?.[2] ? Number(range[2]) + 1 : body.length);
    if (from >= body.length) {
      response.writeHead(416).end();
      return;
    }
    response.writeHead(206, {
      "content-range": `bytes ${from}-${to - 1}/${body.length}`,
      "content-length": to - from,
      etag: options.etag?.() ?? '"one"',
    });
    const part = body.subarray(from, to);
    if (options.cutAfter === undefined || part.length <= options.cutAfter) response.end(part);
    else response.write(part.subarray(0, options.cutAfter), () => response.destroy());
  };
}

describe("a file served with ranges", () => {
  test("has a size, parts and a stream", async () => {
    answer = ranges();
    const source = open();
    expect(await source.stat(call)).toEqual({ bytes: file.length, ranged: true });
    expect((await source.read(1000, 5000, call)).equals(file.subarray(1000, 6000))).toBe(true);
    expect((await all(source)).equals(file)).toBe(true);
    expect((await all(source, 299_000)).equals(file.subarray(299_000))).toBe(true);
    expect(seen.every(({ headers }) => headers.accept === "*/*" && headers.authorization === undefined)).toBe(true);
  });

  test("is taken up again where a connection broke, and every byte is fetched once", async () => {
    answer = ranges({ cutAfter: 70_000 });
    expect((await all(open())).equals(file)).toBe(true);
    expect(seen.map(({ headers }) => headers.range)).toEqual([
      "bytes=0-",
      "bytes=70000-",
      "bytes=140000-",
      "bytes=210000-",
      "bytes=280000-",
    ]);
  });

  test("is given up after bounded tries, with the byte it stopped at", async () => {
    answer = (_, response) => response.destroy();
    const error = await failure(all(open("/x", { attempts: 3 })));
    expect(error).toMatchObject({ code: "unavailable", tried: "3 attempts in a row at byte 0" });
    expect(seen).toHaveLength(3);
  });

  test("that changes half-way is refused", async () => {
    let n = 0;
    answer = ranges({ cutAfter: 70_000, etag: () => `"${n++}"` });
    expect((await failure(all(open()))).code).toBe("corrupt");
  });

  test("that shrinks half-way is refused", async () => {
    answer = ranges();
    const source = open();
    await source.stat(call);
    answer = ranges({ bytes: file.subarray(0, 100_000) });
    expect((await failure(all(source, 0))).code).toBe("corrupt");
    expect((await failure(all(source, 200_000))).code).toBe("corrupt");
  });

  test("that says nothing is left after its deadline", async () => {
    answer = () => {};
    const error = await failure(all(open("/silent", { attempts: 1, deadlines: { firstByte: 20 } })));
    expect(error.code).toBe("unavailable");
  });

  test("stops when the call is aborted", async () => {
    answer = (_, response) => {
      response.writeHead(206, { "content-range": `bytes 0-299999/300000`, "content-length": 300_000 });
      response.write(file.subarray(0, 1000));
    };
    const stop = new AbortController();
    const reading = (async () => {
      for await (const _ of open().stream(0, quietCall(stop.signal))) stop.abort();
    })();
    expect((await failure(reading)).code).toBe("cancelled");
  });
});

test("a server without ranges is read from the start, and resumed by dropping what is known", async () => {
  let cut = true;
  answer = (_, response) => {
    response.writeHead(200, { "content-length": file.length });
    if (cut) response.write(file.subarray(0, 100_000), () => response.destroy());
    else response.end(file);
    cut = false;
  };
  const source = open();
  expect((await all(source)).equals(file)).toBe(true);
  expect((await source.stat(call)).ranged).toBe(false);
});

test.each([
  [404, "not-found"],
  [401, "unauthenticated"],
  [403, "forbidden"],
  [429, "throttled"],
  [503, "unavailable"],
] as const)("status %i is %s", async (status, code) => {
  answer = (_, response) => response.writeHead(status).end();
  expect((await failure(open("/x", { attempts: 2 }).stat(call))).code).toBe(code);
});

describe("URLs", () => {
  test("with credentials or of other schemes are refused without repeating the secret", () => {
    for (const url of ["https://user:secret@example.org/x", "ftp://example.org/x"]) {
      try {
        openBytes(url);
        expect.unreachable();
      } catch (error) {
        expect(codeOf(error)).toBe("invalid");
        expect(JSON.stringify(error) + String(error)).not.toContain("secret");
      }
    }
  });

  test("are named in errors without their query", async () => {
    answer = (_, response) => response.writeHead(404).end();
    expect((await failure(open("/x?sig=secret").stat(call))).subject).toBe(`${base}/x`);
  });
});

describe("redirects", () => {
  const rules = {
    url: "https://mirror.example.org/x",
    allowPrivate: ["inner.example.org"],
    lookup: async (host: string) => (host.startsWith("inner") ? ["10.0.0.7"] : ["203.0.112.9"]),
  };
  const from = new URL(rules.url);

  test.each([
    ["/y", "https://mirror.example.org/y"],
    ["https://other.example.org/y", "https://other.example.org/y"],
    ["https://inner.example.org/y", "https://inner.example.org/y"],
    ["https://name:secret@other.example.org/y", "https://other.example.org/y"],
  ])("to %s are followed", async (location, expected) => {
    expect(String(await judgeRedirect(from, from, location, rules))).toBe(expected);
  });

  test.each([
    [undefined],
    ["http://other.example.org/y"],
    ["file:///etc/passwd"],
    ["https://169.254.169.254/latest"],
    ["https://[::1]/y"],
    ["https://[::ffff:10.1.2.3]/y"],
    ["https://localhost/y"],
    ["https://inner2.example.org/y"],
  ])("to %s are refused", async (location) => {
    expect((await failure(judgeRedirect(from, from, location, rules))).code).toBe("invalid");
  });

  test("a private source may redirect to a private address", async () => {
    const origin = new URL("https://10.0.0.1/x");
    expect(String(await judgeRedirect(origin, origin, "https://10.0.0.2/x", rules))).toBe("https://10.0.0.2/x");
  });

  test("are followed on the wire, and not for ever", async () => {
    const found = ranges();
    answer = (request, response) => {
      if (request.url === "/loop") response.writeHead(302, { location: "/loop" }).end();
      else if (request.url === "/old") response.writeHead(302, { location: "/new" }).end();
      else found(request, response);
    };
    expect((await all(open("/old"))).equals(file)).toBe(true);
    expect((await failure(all(open("/loop")))).code).toBe("invalid");
  });

  test.each([
    ["127.0.0.1", true],
    ["172.20.1.1", true],
    ["172.32.1.1", false],
    ["fe80::1", true],
    ["::ffff:192.168.1.1", true],
    ["2600:1f18::1", false],
  ])("%s is private: %s", (address, expected) => expect(isPrivateAddress(address)).toBe(expected));
});

describe("a local file", () => {
  const folder = mkdtempSync(join(tmpdir(), "slipway-bytes-"));
  const path = join(folder, "disk.raw");
  afterAll(() => rmSync(folder, { recursive: true }));

  test("is read by path and by URL", async () => {
    writeFileSync(path, file);
    for (const url of [path, `file://${path}`]) {
      const source = openBytes(url);
      expect(await source.stat(call)).toEqual({ bytes: file.length, ranged: true });
      const digest = createHash("sha256")
        .update(await all(source))
        .digest("hex");
      expect(digest).toBe(createHash("sha256").update(file).digest("hex"));
      expect((await source.read(10, 20, call)).equals(file.subarray(10, 30))).toBe(true);
      expect((await failure(source.read(299_990, 20, call))).code).toBe("corrupt");
      await source.close();
    }
  });

  test("that changes while it is read is refused", async () => {
    writeFileSync(path, file);
    const source = openBytes(path);
    const reading = (async () => {
      for await (const _ of source.stream(0, call)) writeFileSync(path, file.subarray(0, 10_000));
    })();
    expect((await failure(reading)).code).toBe("corrupt");
    await source.close();
  });

  test("that is missing or a directory is named", async () => {
    expect(await failure(openBytes(join(folder, "none")).stat(call))).toMatchObject({ code: "not-found" });
    expect(await failure(openBytes(folder).stat(call))).toMatchObject({ code: "invalid" });
  });
});
