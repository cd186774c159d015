/** The simulated bucket as HTTP shows it: uploads that break off and go on, ranges, listings, and what is left on disk. */
import { createHash, createSign, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Served, serve } from "../tls.ts";
import { crc32cText, createSums, joinCrc32c } from "./checksums.ts";
import { createGcpSimulator, type GcpSimulator } from "./gcp.ts";

const KIB = 1024;
const QUANTUM = 256 * KIB;

test("checksums of pieces join to that of the whole", () => {
  const sum = (data: Uint8Array) => {
    const sums = createSums();
    sums.add(data);
    return sums.end().crc32c;
  };
  // The check value of CRC-32C, as every catalogue of checksums has it.
  expect(sum(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32cText(sum(Buffer.from("123456789")))).toBe("4waSgw==");
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 3000 }), fc.uint8Array({ maxLength: 3000 }), (a, b) => {
      expect(joinCrc32c(sum(a), sum(b), b.length)).toBe(sum(Buffer.concat([a, b])));
    }),
  );
});

describe.each([{ where: "in memory" }, { where: "on disk" }])("a bucket $where", ({ where }) => {
  let simulator: GcpSimulator;
  let served: Served;
  let token: string;
  let directory: string;

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "gcs-"));
    const disk = where === "on disk" ? { blobDir: directory } : {};
    simulator = createGcpSimulator({ project: "project", bucket: "bucket", ...disk });
    served = await serve(simulator.handler);
    token = await logIn();
  });
  afterEach(async () => {
    await served.close();
    simulator.reset();
    // Whatever happened, nothing is left; what was being read goes when its reader is done.
    await expect.poll(() => readdirSync(directory)).toEqual([]);
    rmSync(directory, { recursive: true });
  });

  async function logIn(): Promise<string> {
    const { client_email: iss, private_key } = simulator.serviceAccount;
    const now = Math.floor(Date.now() / 1000);
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const claims = { iss, scope: "storage", iat: now, exp: now + 600 };
    const signed = `${part({ alg: "RS256" })}.${part(claims)}`;
    const assertion = `${signed}.${createSign("RSA-SHA256").update(signed).sign(private_key, "base64url")}`;
    const body = new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", assertion });
    const answer = await fetch(`${served.url}/token`, { method: "POST", body });
    return ((await answer.json()) as { access_token: string }).access_token;
  }

  const ask = (method: string, path: string, body?: Buffer | string, headers: Record<string, string> = {}) =>
    fetch(path.startsWith("http") ? path : `${served.url}${path}`, {
      ...{ method, redirect: "manual", headers: { authorization: `Bearer ${token}`, ...headers } },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : new Uint8Array(body) }),
    });

  async function startSession(name: string, more = "", metadata: object = {}): Promise<string> {
    const path = `/upload/storage/v1/b/bucket/o?uploadType=resumable&name=${name}${more}`;
    const answer = await ask("POST", path, JSON.stringify(metadata), { "content-type": "application/json" });
    expect(answer.status).toBe(200);
    return answer.headers.get("location")!.replace("https:", "http:");
  }

  /** Without a token: whoever has the address may use it. */
  const put = (session: string, range: string | undefined, body = Buffer.alloc(0)) =>
    fetch(session, {
      ...{ method: "PUT", redirect: "manual", body: new Uint8Array(body) },
      headers: range === undefined ? {} : { "content-range": range },
    });

  async function progressOf(session: string, total: number | "*" = "*"): Promise<[number, string | null]> {
    const answer = await put(session, `bytes */${total}`);
    await answer.arrayBuffer();
    return [answer.status, answer.headers.get("range")];
  }

  async function upload(name: string, data: Buffer): Promise<void> {
    const answer = await ask("POST", `/upload/storage/v1/b/bucket/o?uploadType=media&name=${name}`, data);
    expect(answer.status).toBe(200);
  }

  const read = async (name: string, headers: Record<string, string> = {}) => {
    const answer = await ask("GET", `/storage/v1/b/bucket/o/${name}?alt=media`, undefined, headers);
    return { status: answer.status, data: Buffer.from(await answer.arrayBuffer()), headers: answer.headers };
  };

  test("an upload in pieces says after each what was kept, and ends with the object", async () => {
    const data = randomBytes(2 * QUANTUM + 1000);
    const md5 = createHash("md5").update(data).digest("base64");
    const session = await startSession("disk", "", { contentType: "application/x-disk", metadata: { a: "b" } });
    expect(await progressOf(session)).toEqual([308, null]);
    const first = await put(session, `bytes 0-${QUANTUM - 1}/*`, data.subarray(0, QUANTUM));
    expect([first.status, first.headers.get("range")]).toEqual([308, `bytes=0-${QUANTUM - 1}`]);
    // No whole number of 256 KiB and not the end: the remainder is not kept.
    const second = await put(session, `bytes ${QUANTUM}-${QUANTUM + 4999}/*`, data.subarray(QUANTUM, QUANTUM + 5000));
    expect([second.status, second.headers.get("range")]).toEqual([308, `bytes=0-${QUANTUM - 1}`]);
    // Sent from the start: what was kept is ignored.
    const last = await put(session, `bytes 0-${data.length - 1}/${data.length}`, data);
    expect(last.status).toBe(200);
    const object = await last.json();
    expect(object).toMatchObject({ name: "disk", size: String(data.length), md5Hash: md5, metadata: { a: "b" } });
    expect(object).toMatchObject({ contentType: "application/x-disk" });
    expect((await read("disk")).data.equals(data)).toBe(true);
    // Its answer may have been lost: it is given again.
    const again = await put(session, `bytes */${data.length}`);
    expect([again.status, await again.json()]).toEqual([200, object]);
  });

  test("of a body that breaks off whole 256 KiB are kept, and the rest follows", async () => {
    const data = randomBytes(4 * QUANTUM);
    const session = await startSession("disk");
    await new Promise<void>((done) => {
      const request = http.request(session, {
        method: "PUT",
        headers: { "content-length": data.length, "content-range": `bytes 0-${data.length - 1}/${data.length}` },
      });
      request.on("error", () => done());
      request.write(data.subarray(0, 2 * QUANTUM + 100), () => request.destroy(new Error("cut")));
    });
    // How much had arrived nobody can tell, but it is whole quanta, and none came from nowhere.
    const [status, range] = await progressOf(session, data.length);
    const kept = range === null ? 0 : Number(range.split("-")[1]) + 1;
    expect([status, kept % QUANTUM]).toEqual([308, 0]);
    expect(kept).toBeLessThanOrEqual(2 * QUANTUM);
    const rest = await put(session, `bytes ${kept}-${data.length - 1}/${data.length}`, data.subarray(kept));
    expect(rest.status).toBe(200);
    expect((await read("disk")).data.equals(data)).toBe(true);
  });

  test("an upload without Content-Range is the whole; an empty one and one of unknown size end with a word", async () => {
    expect((await put(await startSession("whole"), undefined, Buffer.from("all of it"))).status).toBe(200);
    expect((await read("whole")).data.toString()).toBe("all of it");
    expect(await progressOf(await startSession("empty"), 0)).toEqual([200, null]);
    expect((await read("empty")).data.length).toBe(0);
    const unknown = await startSession("unknown");
    await put(unknown, `bytes 0-${QUANTUM - 1}/*`, Buffer.alloc(QUANTUM));
    expect(await progressOf(unknown, QUANTUM)).toEqual([200, null]);
  });

  test.each([
    { what: "a gap", range: `bytes ${QUANTUM}-${QUANTUM + 2}/${QUANTUM + 3}`, status: 503 },
    { what: "another size than was said", range: "bytes 0-2/9", status: 400 },
    { what: "fewer bytes than were said", range: "bytes 0-9/10", status: 400 },
    { what: "more bytes than were said", range: "bytes 0-1/10", status: 400 },
    { what: "a range beyond the end", range: "bytes 8-10/10", status: 400 },
    { what: "no range at all", range: "octets 0-2/3", status: 400 },
  ])("$what is refused with $status", async ({ range, status }) => {
    const session = await startSession("disk");
    if (range.endsWith("/9")) await put(session, "bytes */10");
    expect((await put(session, range, Buffer.from("abc"))).status).toBe(status);
    expect(simulator.objects()).toEqual([]);
  });

  test("a session that was cancelled is gone, one that never was is not there", async () => {
    const session = await startSession("disk");
    await put(session, `bytes 0-${QUANTUM - 1}/*`, Buffer.alloc(QUANTUM));
    expect((await fetch(session, { method: "DELETE" })).status).toBe(499);
    expect(await progressOf(session)).toEqual([410, null]);
    expect(await progressOf(`${session}x`)).toEqual([404, null]);
    expect(simulator.objects()).toEqual([]);
  });

  test("checksums and generations are held against what came", async () => {
    const data = Buffer.from("data");
    const wrong = await startSession("disk", "", { md5Hash: createHash("md5").update("other").digest("base64") });
    expect((await put(wrong, undefined, data)).status).toBe(400);
    expect(await progressOf(wrong)).toEqual([410, null]);
    const first = await startSession("disk", "&ifGenerationMatch=0");
    const second = await startSession("disk", "&ifGenerationMatch=0");
    expect((await put(first, undefined, data)).status).toBe(200);
    expect((await put(second, undefined, data)).status).toBe(412);
    const path = "/upload/storage/v1/b/bucket/o?uploadType=resumable&name=disk&ifGenerationMatch=0";
    expect((await ask("POST", path, "")).status).toBe(412);
    expect((await ask("DELETE", "/storage/v1/b/bucket/o/disk?generation=1")).status).toBe(404);
  });

  test("a composed object keeps the bytes of its parts when they are removed, and can be read in ranges", async () => {
    const parts = [randomBytes(1000), randomBytes(700 * KIB), randomBytes(5)];
    for (const [n, part] of parts.entries()) await upload(`part-${n}`, part);
    const sourceObjects = parts.map((_, n) => ({ name: `part-${n}` }));
    const path = "/storage/v1/b/bucket/o/whole/compose";
    const composed = await (await ask("POST", path, JSON.stringify({ sourceObjects }))).json();
    for (const n of parts.keys()) await ask("DELETE", `/storage/v1/b/bucket/o/part-${n}`);
    const data = Buffer.concat(parts);
    const sums = createSums();
    sums.add(data);
    expect(composed).toMatchObject({ componentCount: 3, size: String(data.length) });
    expect(composed).toMatchObject({ crc32c: crc32cText(sums.end().crc32c) });
    expect((await read("whole")).data.equals(data)).toBe(true);
    for (const [range, from, to] of [
      ["bytes=990-1010", 990, 1011],
      [`bytes=${data.length - 7}-`, data.length - 7, data.length],
      ["bytes=-3", data.length - 3, data.length],
    ] as const) {
      const part = await read("whole", { range });
      expect([part.status, part.headers.get("content-range")]).toEqual([206, `bytes ${from}-${to - 1}/${data.length}`]);
      expect(part.data.equals(data.subarray(from, to))).toBe(true);
    }
    expect((await read("whole", { range: `bytes=${data.length}-` })).status).toBe(416);
  });

  test("a listing with a delimiter has folders, page by page", async () => {
    for (const name of ["a", "b%2F1", "b%2F2", "b%2Fc%2F3", "d"]) await upload(name, Buffer.from(name));
    const seen: string[][] = [];
    let page = "";
    do {
      const path = `/storage/v1/b/bucket/o?delimiter=/&maxResults=2${page && `&pageToken=${encodeURIComponent(page)}`}`;
      const {
        items = [],
        prefixes = [],
        nextPageToken = "",
      } = (await (await ask("GET", path)).json()) as {
        items?: { name: string }[];
        prefixes?: string[];
        nextPageToken?: string;
      };
      seen.push([...items.map(({ name }) => name), ...prefixes]);
      page = nextPageToken;
    } while (page !== "");
    expect(seen).toEqual([["a", "b/"], ["d"]]);
    const inner = await (await ask("GET", "/storage/v1/b/bucket/o?delimiter=/&prefix=b/")).json();
    expect(inner).toMatchObject({ items: [{ name: "b/1" }, { name: "b/2" }], prefixes: ["b/c/"] });
  });
});
