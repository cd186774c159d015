/** One push of a container archive, or its bytes without it, in a process of its own. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Agent, request } from "undici";
import { openContainer } from "../../src/images/archives/open-container.ts";
import { quietCall } from "../../src/lib/call.ts";
import { openRegistry } from "../../src/registries/index.ts";
import type { Clouds } from "./server.ts";
import { type BareRequest, sendBare } from "./wire.ts";

export interface RegistryTask {
  readonly what: "push" | "wire";
  readonly clouds: Clouds;
  readonly archive: { readonly path: string; readonly bytes: number; readonly sha256: string };
}

export interface RegistryMeasured {
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly sentBytes: number;
  readonly peakMemoryMiB: number;
}

const task = JSON.parse(process.argv[2]!) as RegistryTask;
const { urls, caPem, credentials } = task.clouds;
const { username, password } = credentials.registry;
const measured = task.what === "push" ? await push() : await wire();
const peakMemoryMiB = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(JSON.stringify({ ...measured, peakMemoryMiB } satisfies RegistryMeasured));

async function push(): Promise<Omit<RegistryMeasured, "peakMemoryMiB">> {
  const call = quietCall();
  const registry = openRegistry({ url: new URL(urls.registry).host, ca: caPem, credentials: { username, password } });
  const started = performance.now();
  const cpu = process.cpuUsage();
  const { path: url, bytes, sha256 } = task.archive;
  const image = await openContainer({ url, bytes, sha256, format: "ociarchive", arch: "x86_64" } as never, {}, call);
  const { sentBytes } = await registry.push("bench", image, call);
  const result = { seconds: (performance.now() - started) / 1000, cpuSeconds: cpuSince(cpu), sentBytes };
  await image.close();
  await registry.close();
  return result;
}

/** The archive as one blob in one request. */
async function wire(): Promise<Omit<RegistryMeasured, "peakMemoryMiB">> {
  const dispatcher = new Agent({ connect: { ca: caPem } });
  const basic = Buffer.from(`${username}:${password}`).toString("base64");
  const asked = await request(`${urls.registry}/token?service=rehearsal&scope=repository:bare:pull,push`, {
    ...{ dispatcher, headers: { authorization: `Basic ${basic}` } },
  });
  const { token } = (await asked.body.json()) as { token: string };
  const authorization = `Bearer ${token}`;
  const begun = await request(`${urls.registry}/v2/bare/blobs/uploads/`, {
    ...{ dispatcher, method: "POST", headers: { authorization, "content-length": "0" } },
  });
  await begun.body.dump();
  const { pathname, search, host } = new URL(String(begun.headers.location), urls.registry);
  await dispatcher.close();
  const { bytes, path } = task.archive;
  const body = await readFile(path);
  const digest = encodeURIComponent(`sha256:${createHash("sha256").update(body).digest("hex")}`);
  const last = `${pathname}${search}${search ? "&" : "?"}digest=${digest}`;
  const requests: BareRequest[] = [{ head: head("PUT", last, body.length, {}), body }];
  const cpu = process.cpuUsage();
  const seconds = await sendBare(new URL(urls.registry), caPem, 1, requests);
  return { seconds, cpuSeconds: cpuSince(cpu), sentBytes: bytes };

  function head(method: string, to: string, length: number, more: Record<string, string>): Buffer {
    const type = { "content-type": "application/octet-stream" };
    const headers = { host, authorization, ...type, ...more, "content-length": String(length) };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.from(`${method} ${to} HTTP/1.1\r\n${lines.join("")}\r\n`);
  }
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}
