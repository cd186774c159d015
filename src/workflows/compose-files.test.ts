import { mkdir, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
import { quietCall } from "../lib/call.ts";
import { MiB } from "../lib/units.ts";
import { composeLocation, fetchComposeFiles } from "./compose-files.ts";

const call = quietCall();
const options = { attempts: 1, backoffMs: 1 };
let root: string;
const closing: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "slipway-compose-"));
  await mkdir(join(root, "compose/metadata"), { recursive: true });
  await put("composeinfo.json", '{"what":"composeinfo – é"}');
  await put("images.json", '{"what":"images"}');
  await writeFile(join(root, "STATUS"), "FINISHED\n");
});
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
  await rm(root, { recursive: true, force: true });
});

const put = (name: string, data: string | Uint8Array) => writeFile(join(root, "compose/metadata", name), data);
const files = { composeinfo: '{"what":"composeinfo – é"}', images: '{"what":"images"}', status: "FINISHED" };

async function serve(handler: RequestListener): Promise<string> {
  const server = createServer(handler);
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  closing.push(() => {
    server.closeAllConnections();
    return new Promise((closed) => server.close(closed));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function serveText(answers: Record<string, string | number>): Promise<string> {
  return serve((request, response) => {
    const answer = answers[request.url ?? ""] ?? 404;
    if (typeof answer === "number") return void response.writeHead(answer).end();
    response.writeHead(200, { "content-length": Buffer.byteLength(answer), etag: '"1"' });
    response.end(request.method === "HEAD" ? undefined : answer);
  });
}

test.each([
  ["https://example.org/compose/", "https://example.org/compose"],
  ["HTTP://example.org/compose", "HTTP://example.org/compose"],
  ["file:///srv/compose//", "file:///srv/compose"],
  ["/srv/a compose", "file:///srv/a%20compose"],
  ["some/where", pathToFileURL(resolve("some/where")).href],
])("%j is at %s", (given, location) => {
  expect(composeLocation(given)).toBe(location);
});

test("a directory is read with its status", async () => {
  const location = composeLocation(join(root, "compose"));
  expect(await fetchComposeFiles(location, options, call)).toEqual({ ...files, location });
});

test("the directory that holds compose/ will do", async () => {
  const location = composeLocation(root);
  expect(await fetchComposeFiles(location, options, call)).toEqual({ ...files, location: `${location}/compose` });
});

test("a status that is missing, or far too long to be one, is no obstacle", async () => {
  const location = composeLocation(root);
  await writeFile(join(root, "STATUS"), "x".repeat(5000));
  expect(await fetchComposeFiles(location, options, call)).not.toHaveProperty("status");
  await rm(join(root, "STATUS"));
  expect(await fetchComposeFiles(location, options, call)).not.toHaveProperty("status");
});

test("a URL is read, with its status", async () => {
  const url = await serveText({
    "/c/compose/metadata/composeinfo.json": "{}",
    "/c/compose/metadata/images.json": "[]",
    "/c/STATUS": "DOOMED\n",
  });
  const expected = { composeinfo: "{}", images: "[]", status: "DOOMED", location: `${url}/c/compose` };
  expect(await fetchComposeFiles(`${url}/c/compose`, options, call)).toEqual(expected);
  expect(await fetchComposeFiles(`${url}/c`, options, call)).toEqual(expected);
});

test("where nothing is, both places that were tried are named", async () => {
  const url = await serveText({});
  await expect(fetchComposeFiles(`${url}/gone`, options, call)).rejects.toMatchObject({
    code: "not-found",
    subject: `${url}/gone`,
    tried: `${url}/gone/metadata/composeinfo.json, ${url}/gone/compose/metadata/composeinfo.json`,
    next: expect.stringContaining("deleted after some weeks"),
  });
  await rm(join(root, "compose/metadata/images.json"));
  await expect(fetchComposeFiles(composeLocation(root), options, call)).rejects.toMatchObject({ code: "not-found" });
});

test("a server that is down is not a compose that is gone", async () => {
  const url = await serveText({ "/compose/metadata/composeinfo.json": 503, "/compose/metadata/images.json": "{}" });
  await expect(fetchComposeFiles(`${url}/compose`, options, call)).rejects.toMatchObject({ code: "unavailable" });
});

test("metadata far larger than any is refused before it is read", async () => {
  await truncate(join(root, "compose/metadata/images.json"), 16 * MiB + 1);
  await expect(fetchComposeFiles(composeLocation(root), options, call)).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringContaining("limit"),
    subject: expect.stringMatching(/images\.json$/),
  });
});

test("bytes that are not UTF-8 are refused, not repaired", async () => {
  await put("images.json", Uint8Array.of(0x7b, 0xff, 0xfe, 0x7d));
  await expect(fetchComposeFiles(composeLocation(root), options, call)).rejects.toMatchObject({
    code: "invalid",
    message: "is not UTF-8 text",
    subject: expect.stringMatching(/images\.json$/),
  });
});

test("a call that was stopped fetches nothing", async () => {
  const stopped = quietCall(AbortSignal.abort());
  await expect(fetchComposeFiles(composeLocation(root), options, stopped)).rejects.toMatchObject({ code: "cancelled" });
});
