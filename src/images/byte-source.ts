/**
 * The bytes of one file, wherever it is: a path, `file:`, `http:` or `https:`. Ranged, resumable, never writing.
 *
 * A broken connection is taken up again where it stopped (Range), a bounded number of times; a file that changes while
 * it is read (ETag, Last-Modified, size, modification time) is refused, because its halves belong to two files. Sends
 * no credentials. Knows no format and checks no digest: whoever reads does that. Start at `openBytes`;
 * redirects are judged in `redirects.ts`.
 */
import { type FileHandle, open } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Agent, type Dispatcher, request } from "undici";
import type { CallContext } from "../lib/call.ts";
import { isTransient, SlipwayError } from "../lib/errors.ts";
import { trusting } from "../lib/trust.ts";
import { KiB, MiB, seconds } from "../lib/units.ts";
import { judgeRedirect, type Lookup, publicLookup } from "./redirects.ts";

export interface ByteSource {
  /** As opened, for errors and logs: no query, which may hold a signature. */
  readonly url: string;
  /** Asks once and remembers. @throws SlipwayError `not-found`, `forbidden`, `unavailable`, `unsupported` (no size told) */
  stat(call: CallContext): Promise<ByteStat>;
  /**
   * Exactly `length` bytes from `offset`.
   * @throws SlipwayError `corrupt` if the file ends before or changed, `unsupported` if the server cannot do ranges.
   */
  read(offset: number, length: number, call: CallContext): Promise<Buffer>;
  /**
   * The bytes [offset, end) in order; `end` defaults to the end of the file. Ends without an error only when every
   * byte came. Chunks are the reader's to keep. Without ranges the bytes before `offset` are fetched and dropped.
   * @throws SlipwayError `corrupt` (changed), `unavailable` (after all attempts), `cancelled`
   */
  stream(offset: number, call: CallContext, end?: number): AsyncIterable<Buffer>;
  /** Frees connections and file handles. Safe to repeat. */
  close(): Promise<void>;
}

export interface ByteStat {
  readonly bytes: number;
  /** False for a server that ignores Range: only reading from the start is cheap. */
  readonly ranged: boolean;
}

export interface ByteSourceOptions {
  /** Carries proxy and certificates (undici's ProxyAgent, for one). Not closed here. Default: direct. */
  readonly dispatcher?: Dispatcher | undefined;
  /** Further certificate authorities, PEM. Not used with `dispatcher`, which has its own. */
  readonly ca?: readonly string[] | undefined;
  /** Host names (or `host:port`) a redirect may lead to although their address is private. */
  readonly allowPrivate?: readonly string[] | undefined;
  /** Tries in a row that bring nothing new. Default 5. */
  readonly attempts?: number | undefined;
  /** First pause between two tries in ms; doubles up to 10 s. Default 250. */
  readonly backoffMs?: number | undefined;
  /** Defaults: connect 10 s, first byte 30 s, idle 60 s. In ms. */
  readonly deadlines?: { connect?: number; firstByte?: number; idle?: number } | undefined;
  /** How host names become addresses when a redirect is judged. For tests. */
  readonly lookup?: Lookup | undefined;
}

/** Nothing is contacted before the first call. @throws SlipwayError `invalid` for a URL that cannot be read from. */
export function openBytes(url: string, options: ByteSourceOptions = {}): ByteSource {
  if (!/^[a-z][a-z0-9+.-]*:/i.test(url)) return fileBytes(url, url);
  const parsed = URL.parse(url);
  if (parsed === null) throw new SlipwayError("invalid", "This is not a URL.", { subject: url.slice(0, 200) });
  if (parsed.protocol === "file:") return fileBytes(fileURLToPath(parsed), url);
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:") {
    throw new SlipwayError("invalid", `Files are read by https, http or file, not ${parsed.protocol}`, {
      subject: shown(parsed),
    });
  }
  if (parsed.username !== "" || parsed.password !== "") {
    throw new SlipwayError("invalid", "The URL carries a user name or password; none is sent.", {
      subject: shown(parsed),
      next: "Take it out of the URL. A source that needs credentials is not supported.",
    });
  }
  return httpBytes(parsed, options);
}

const FILE_CHUNK = MiB;

function fileBytes(path: string, url: string): ByteSource {
  let opened: Promise<{ file: FileHandle; bytes: number; mtimeMs: number }> | undefined;

  async function openFile() {
    try {
      const file = await open(path, "r");
      const stat = await file.stat();
      if (!stat.isFile()) {
        await file.close();
        throw new SlipwayError("invalid", "This is not a regular file.", { subject: url });
      }
      return { file, bytes: stat.size, mtimeMs: stat.mtimeMs };
    } catch (error) {
      opened = undefined;
      throw fileError(error, url);
    }
  }
  const ready = () => {
    opened ??= openFile();
    return opened;
  };

  async function* stream(offset: number, call: CallContext, end?: number): AsyncGenerator<Buffer> {
    const { file, bytes, mtimeMs } = await ready();
    const stop = end ?? bytes;
    for (let at = offset; at < stop; ) {
      throwIfCancelled(call, url);
      const chunk = Buffer.allocUnsafeSlow(Math.min(FILE_CHUNK, stop - at));
      const { bytesRead } = await file.read(chunk, 0, chunk.length, at).catch((error: unknown) => {
        throw fileError(error, url);
      });
      if (bytesRead === 0) throw endsEarly(url, at, stop);
      at += bytesRead;
      yield bytesRead === chunk.length ? chunk : chunk.subarray(0, bytesRead);
    }
    const now = await file.stat();
    if (now.size !== bytes || now.mtimeMs !== mtimeMs) throw changed(url, "its size or modification time");
  }

  return {
    url,
    stat: async () => ({ bytes: (await ready()).bytes, ranged: true }),
    read: (offset, length, call) => collect(stream(offset, call, offset + length), length),
    stream,
    async close() {
      const handle = await opened?.catch(() => undefined);
      opened = undefined;
      await handle?.file.close();
    },
  };
}

/** What the first answer said; every later answer must say the same. */
interface Seen extends ByteStat {
  readonly tag: string | undefined;
  readonly location: URL;
}

const MAX_REDIRECTS = 5;
/** Tries that brought this much are forgiven, so that a long download survives many broken connections. */
const PROGRESS_BYTES = 64 * KiB;
/** Without ranges, a read this close to the start is served from the stream. */
const NEAR_START_BYTES = MiB;

function httpBytes(origin: URL, options: ByteSourceOptions): ByteSource {
  const url = shown(origin);
  const { attempts = 5, backoffMs = 250, deadlines = {} } = options;
  const lookup = options.lookup ?? publicLookup;
  let own: Agent | undefined;
  let seen: Seen | undefined;

  const dispatcher = () => {
    if (options.dispatcher) return options.dispatcher;
    own ??= new Agent({
      connect: {
        timeout: deadlines.connect ?? seconds(10),
        ...trusting(...(options.ca ?? [])),
      },
    });
    return own;
  };

  /** One GET with Range, redirects followed as far as they are allowed. The caller must use up or destroy the body. */
  async function get(offset: number, end: number | undefined, call: CallContext) {
    let location = seen?.location ?? origin;
    for (let hop = 0; ; hop++) {
      const answer = await request(location, {
        dispatcher: dispatcher(),
        signal: call.signal,
        headersTimeout: deadlines.firstByte ?? seconds(30),
        bodyTimeout: deadlines.idle ?? seconds(60),
        headers: {
          accept: "*/*",
          "accept-encoding": "identity",
          range: `bytes=${offset}-${end === undefined ? "" : end - 1}`,
        },
      });
      // Destroying the body emits an error that nobody else listens to.
      answer.body.on("error", () => {});
      if (answer.statusCode < 300 || answer.statusCode > 399) return { answer, location };
      answer.body.destroy();
      if (hop === MAX_REDIRECTS) throw new SlipwayError("invalid", "Too many redirects.", { subject: url });
      location = await judgeRedirect(origin, location, headerOf(answer, "location"), {
        url,
        lookup,
        allowPrivate: options.allowPrivate ?? [],
      });
    }
  }

  /** The body of [offset, end), checked to be that part of the file seen before; `skip` bytes of it come too early. */
  async function part(offset: number, end: number | undefined, call: CallContext) {
    const { answer, location } = await get(offset, end, call);
    try {
      const tag = headerOf(answer, "etag") ?? headerOf(answer, "last-modified");
      let total: number;
      if (answer.statusCode === 206) {
        const range = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(headerOf(answer, "content-range") ?? "");
        if (!range || Number(range[1]) !== offset) {
          throw new SlipwayError("unavailable", "The server answered another range than the one asked for.", {
            subject: url,
          });
        }
        total = Number(range[3]);
      } else if (answer.statusCode === 200) {
        const length = headerOf(answer, "content-length");
        if (length === undefined || !/^\d+$/.test(length)) {
          throw new SlipwayError("unsupported", "The server does not say how long the file is.", {
            subject: url,
            next: "Serve it with Content-Length, better with ranges, or give a local path.",
          });
        }
        total = Number(length);
      } else throw statusError(answer.statusCode, url);
      if (!Number.isSafeInteger(total))
        throw new SlipwayError("invalid", "The file's size is absurd.", { subject: url });
      if (seen && seen.bytes !== total) throw changed(url, `its size, from ${seen.bytes} to ${total} bytes`);
      if (seen?.tag !== undefined && tag !== undefined && seen.tag !== tag) throw changed(url, "its ETag or date");
      if (end !== undefined && end > total) throw endsEarly(url, total, end);
      const ranged = answer.statusCode === 206;
      seen ??= { bytes: total, ranged, tag, location };
      return { body: answer.body, skip: ranged ? 0 : offset, seen };
    } catch (error) {
      answer.body.destroy();
      throw error;
    }
  }

  async function* stream(offset: number, call: CallContext, end?: number): AsyncGenerator<Buffer> {
    let at = offset;
    let failures = 0;
    let fresh = offset;
    for (;;) {
      try {
        const opened = await part(at, end, call);
        const stop = end ?? opened.seen.bytes;
        let skip = opened.skip;
        try {
          for await (const chunk of opened.body as AsyncIterable<Buffer>) {
            const useful = skip >= chunk.length ? undefined : chunk.subarray(skip, skip + stop - at);
            skip = Math.max(0, skip - chunk.length);
            if (!useful?.length) continue;
            at += useful.length;
            yield useful;
            if (at >= stop) return;
          }
        } finally {
          opened.body.destroy();
        }
        if (at >= stop) return;
        throw new SlipwayError("unavailable", `The connection ended at byte ${at} of ${stop}.`, { subject: url });
      } catch (error) {
        throwIfCancelled(call, url);
        const known = netError(error, url);
        if (at - fresh >= PROGRESS_BYTES) {
          failures = 0;
          fresh = at;
        }
        failures++;
        if (!isTransient(known)) throw known;
        if (failures >= attempts) throw givenUp(known, url, attempts, at);
        call.log.debug("a download broke off and is taken up again", { url, at, failures, error: known.message });
        await pause(failures, call);
      }
    }
  }

  async function pause(failures: number, call: CallContext): Promise<void> {
    const ms = Math.min(seconds(10), backoffMs * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    await sleep(ms, undefined, { signal: call.signal }).catch(() => throwIfCancelled(call, url));
  }

  async function stat(call: CallContext): Promise<ByteStat> {
    // One byte is enough to learn the size, and goes through mirrors that answer HEAD wrongly. An empty file has no
    // first byte: some servers answer 416 with the size, and an empty file is of no use to anyone.
    if (!seen) for await (const _ of stream(0, call, 1)) break;
    if (!seen) throw new SlipwayError("corrupt", "The file is empty.", { subject: url });
    return { bytes: seen.bytes, ranged: seen.ranged };
  }

  return {
    url,
    stat,
    async read(offset, length, call) {
      const { bytes, ranged } = await stat(call);
      if (!ranged && offset + length > NEAR_START_BYTES) {
        throw new SlipwayError("unsupported", "The server does not answer ranges.", { subject: url });
      }
      if (offset + length > bytes) throw endsEarly(url, bytes, offset + length);
      return collect(stream(offset, call, offset + length), length);
    },
    stream,
    async close() {
      const agent = own;
      own = undefined;
      await agent?.destroy();
    },
  };
}

async function collect(chunks: AsyncIterable<Buffer>, length: number): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for await (const chunk of chunks) at += chunk.copy(whole, at);
  return whole;
}

function headerOf(answer: Dispatcher.ResponseData, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** A URL as people may see it: the query may hold a signature, the user part a password. */
function shown(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

function throwIfCancelled(call: CallContext, url: string): void {
  if (!call.signal.aborted) return;
  throw new SlipwayError("cancelled", "Reading was stopped.", { subject: url, cause: call.signal.reason });
}

function statusError(status: number, url: string): SlipwayError {
  const subject = url;
  if (status === 404 || status === 410) {
    return new SlipwayError("not-found", `The server has no such file (${status}).`, {
      subject,
      next: "Check the location; a compose may have been removed by its retention.",
    });
  }
  if (status === 401) return new SlipwayError("unauthenticated", "The server wants credentials (401).", { subject });
  if (status === 403)
    return new SlipwayError("forbidden", "The server refuses to hand the file out (403).", { subject });
  if (status === 416) return new SlipwayError("corrupt", "The file is shorter than the part asked for.", { subject });
  if (status === 429) return new SlipwayError("throttled", "The server asks for fewer requests (429).", { subject });
  if (status === 408 || status >= 500) {
    return new SlipwayError("unavailable", `The server answered ${status}.`, { subject });
  }
  return new SlipwayError("unsupported", `The server answered ${status}, which means nothing here.`, { subject });
}

function netError(error: unknown, url: string): SlipwayError {
  if (error instanceof SlipwayError) return error;
  const why = error instanceof Error ? error.message || error.name : String(error);
  return new SlipwayError("unavailable", `The file cannot be fetched: ${why}`, { subject: url, cause: error });
}

function givenUp(error: SlipwayError, url: string, attempts: number, at: number): SlipwayError {
  return new SlipwayError(error.code, error.message, {
    subject: url,
    tried: `${attempts} attempts in a row at byte ${at}`,
    next: "Check that the server is up and reachable from here; what was read is not lost to a resumed upload.",
    cause: error.cause ?? error,
  });
}

function fileError(error: unknown, url: string): SlipwayError {
  if (error instanceof SlipwayError) return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  const details = { subject: url, cause: error };
  if (code === "ENOENT" || code === "ENOTDIR") return new SlipwayError("not-found", "There is no such file.", details);
  if (code === "EACCES" || code === "EPERM") {
    return new SlipwayError("forbidden", "The file may not be read by this user.", details);
  }
  return new SlipwayError("unavailable", `The file cannot be read: ${code ?? String(error)}`, details);
}

function endsEarly(url: string, at: number, wanted: number): SlipwayError {
  return new SlipwayError("corrupt", `The file ends at byte ${at}, before byte ${wanted}.`, { subject: url });
}

function changed(url: string, what: string): SlipwayError {
  return new SlipwayError("corrupt", `The file changed while it was read: ${what}.`, {
    subject: url,
    next: "Nothing was committed. Start again when the file is at rest.",
  });
}
