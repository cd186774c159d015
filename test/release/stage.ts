/**
 * A stage for whole releases: simulated clouds and a web server with a compose in this process, Slipway in processes of
 * its own that can be killed, and questions about what the clouds hold afterwards.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, normalize } from "node:path";
import { type Rehearsal, type RehearsalOptions, startRehearsal } from "@slipway/rehearsal";
import { makeSampleCompose, makeSampleDisk } from "@slipway/rehearsal/sample";
import { writeRehearsalConfig } from "../../src/cli/rehearsal.ts";

export interface Stage extends AsyncDisposable {
  readonly rehearsal: Rehearsal;
  readonly directory: string;
  readonly config: string;
  /** URL of the compose/ directory. */
  readonly compose: string;
  /** Bytes of images that were fetched so far. */
  imageBytes(): number;
  /** Runs a command to its end. */
  slipway(args: readonly string[], settings?: Settings): Promise<Finished>;
  /** Starts a command; to be killed by the test. */
  start(args: readonly string[], settings?: Settings): Running;
}

export interface Settings {
  readonly crash?: { readonly at: "begin" | "done" | "kept"; readonly nth: number };
  readonly leaseMs?: number;
  /** Waits between attempts are a hundredth of what they are in production. */
  readonly hurry?: boolean;
}

export interface Running {
  readonly process: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Resolves when stderr has said this. */
  said(text: string): Promise<void>;
}

export interface Finished {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const MiB = 1024 * 1024;
const COMMAND = join(import.meta.dirname, "command.ts");

export interface StageOptions {
  /** Virtual size of the sample disk, a quarter of which is data. */
  readonly diskBytes?: number;
  readonly arches?: readonly string[];
  readonly rehearsal?: RehearsalOptions;
  /** A compose that is there already, instead of the sample: `directory` holds `id`/compose/. */
  readonly compose?: { readonly directory: string; readonly id: string };
  /** Changes the configuration before anybody reads it. */
  // biome-ignore lint/suspicious/noExplicitAny: whatever stands in slipway.yaml
  readonly configure?: (config: any) => void;
}

export async function setStage(options: StageOptions = {}): Promise<Stage> {
  const directory = await mkdtemp(join(tmpdir(), "slipway-stage-"));
  // The embedded server runs as a user of its own when this is root: it has to get in.
  await chmod(directory, 0o755);
  const { directory: composes, id } = options.compose ?? (await makeSample(directory, options));
  const web = await serveDirectory(composes);
  const rehearsal = await startRehearsal(options.rehearsal);
  const config = await writeRehearsalConfig(rehearsal, directory);
  if (options.configure !== undefined) {
    const written = JSON.parse(await readFile(config, "utf8"));
    options.configure(written);
    await writeFile(config, JSON.stringify(written));
  }
  const running = new Set<ChildProcess>();

  function start(args: readonly string[], settings: Settings = {}): Running {
    const child = spawn(process.execPath, [COMMAND, JSON.stringify(settings), ...args, "--config", config], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
    });
    running.add(child);
    const output = { stdout: "", stderr: "" };
    const waiting: { text: string; done: () => void }[] = [];
    for (const name of ["stdout", "stderr"] as const) {
      child[name]!.setEncoding("utf8").on("data", (text: string) => {
        output[name] += text;
        for (const one of waiting) if (output.stderr.includes(one.text)) one.done();
      });
    }
    const finished = new Promise<Finished>((resolve) => {
      child.on("close", (code, signal) => {
        running.delete(child);
        for (const one of waiting) one.done();
        resolve({ code, signal, ...output });
      });
    });
    const said = (text: string) =>
      new Promise<void>((done) => (output.stderr.includes(text) ? done() : waiting.push({ text, done })));
    return { process: child, finished, said };
  }

  return {
    rehearsal,
    directory,
    config,
    compose: `${web.url}/${id}/compose`,
    imageBytes: web.imageBytes,
    start,
    slipway: (args, settings) => start(args, settings).finished,
    async [Symbol.asyncDispose]() {
      for (const child of running) child.kill("SIGKILL");
      await stopDatabase(start);
      await rehearsal.close();
      await web.close();
      await rm(directory, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function makeSample(directory: string, { diskBytes = 32 * MiB, arches }: StageOptions) {
  const disk = join(directory, "disk.raw");
  await makeSampleDisk(disk, diskBytes, diskBytes / 4, "stage");
  const out = join(directory, "composes");
  const { id } = await makeSampleCompose({ disk, out, ...(arches ? { arches } : {}) });
  return { directory: out, id };
}

/** The embedded server outlives a killed process; the next one that ends in order takes it along. */
async function stopDatabase(start: (args: readonly string[]) => Running): Promise<void> {
  await start(["runs", "list"]).finished;
}

async function serveDirectory(root: string) {
  let imageBytes = 0;
  const server = createServer(async (request, response) => {
    const path = join(root, normalize(decodeURIComponent(new URL(request.url ?? "/", "http://x").pathname)));
    try {
      const { size, mtime } = await stat(path);
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const from = range ? Number(range[1]) : 0;
      const to = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
      response.writeHead(range ? 206 : 200, {
        "content-length": Math.max(0, to - from + 1),
        "accept-ranges": "bytes",
        "last-modified": mtime.toUTCString(),
        ...(range ? { "content-range": `bytes ${from}-${to}/${size}` } : {}),
      });
      if (request.method === "HEAD" || size === 0) return response.end();
      if (path.includes("/images/")) imageBytes += to - from + 1;
      createReadStream(path, { start: from, end: to }).pipe(response);
    } catch {
      response.writeHead(404).end();
    }
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    imageBytes: () => imageBytes,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
