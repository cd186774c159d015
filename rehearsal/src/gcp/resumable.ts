/**
 * Uploads that can be gone on with: a session is started with a POST, its bytes come in any number of PUTs to the
 * session's own address, and what was kept is asked for with an empty one. Bodies are taken as they come; of one that
 * breaks off, whole 256 KiB are kept.
 * @see https://cloud.google.com/storage/docs/performing-resumable-uploads
 */
import { randomUUID } from "node:crypto";
import type http from "node:http";
import { type Answer, type Exchange, type ExchangeHead, header, wholeNumber } from "../azure/exchange.ts";
import { createSums, type Sums } from "./checksums.ts";
import type { ContentWriter } from "./content.ts";
import { GcpFault, json } from "./fault.ts";
import {
  type BucketState,
  checkGeneration,
  checkName,
  checkSums,
  type GivenObject,
  givenObject,
  keep,
  objectView,
} from "./objects.ts";

export interface Sessions {
  /** Answers a POST with `uploadType=resumable`. */
  start(exchange: Exchange): Promise<Answer>;
  /** Answers a PUT or DELETE to a session's address, and reads its body. @throws GcpFault */
  use(head: ExchangeHead, request: http.IncomingMessage): Promise<Answer>;
  clear(): void;
}

interface Session {
  readonly name: string;
  readonly given: GivenObject;
  /** Of the POST: preconditions hold for the end, too. */
  readonly query: URLSearchParams;
  readonly started: number;
  readonly writer: ContentWriter;
  readonly sums: Sums;
  /** Bytes of the whole, as soon as a request has said it. */
  total: number | undefined;
  /** Which request is being answered: a later one ends an earlier one's writing. */
  turn: number;
  /** The write that is under way. */
  writing: Promise<unknown>;
  end: "cancelled" | { readonly answer: Answer } | undefined;
}

/** What is kept of a request that does not end the upload comes in multiples of this. */
const QUANTUM = 256 * 1024;
/** A session ends after a week. */
const SESSION_MS = 7 * 86_400_000;
/** The oldest one gives way; each that is open holds a file. */
const MOST_SESSIONS = 1000;
/** The answer to a cancelled session, as documented; Node has no name for it. */
const CLIENT_CLOSED_REQUEST = 499;

export function createSessions(state: BucketState): Sessions {
  const sessions = new Map<string, Session>();

  function find(head: ExchangeHead): Session {
    const id = head.query.get("upload_id") ?? "";
    const session = sessions.get(id);
    if (session === undefined) throw new GcpFault(404, "notFound", "No such upload session.");
    if (session.end === "cancelled" || head.now - session.started > SESSION_MS) {
      throw new GcpFault(410, "gone", "The upload session is no longer available.");
    }
    return session;
  }

  return {
    async start(exchange) {
      const { query, now, origin } = exchange;
      const { contentType = header(exchange, "x-upload-content-type"), ...given } = givenObject(exchange.body);
      const name = checkName(given.name ?? query.get("name"));
      checkGeneration(state, query, name);
      const total = wholeNumber(header(exchange, "x-upload-content-length"));
      const writer = await state.store.start();
      const session: Session = {
        ...{ name, query, started: now, writer, sums: createSums(), total, turn: 0 },
        given: { ...given, ...(contentType === undefined ? {} : { contentType }) },
        ...{ writing: Promise.resolve(), end: undefined },
      };
      const id = randomUUID();
      sessions.set(id, session);
      const [oldest] = sessions.keys();
      if (sessions.size > MOST_SESSIONS) await give(oldest!);
      const location = `${origin}/upload/storage/v1/b/${state.bucket}/o?uploadType=resumable&upload_id=${id}`;
      return { status: 200, headers: { location, "x-guploader-uploadid": id, "content-length": 0 } };
    },

    async use(head, request) {
      const session = find(head);
      session.turn++;
      await session.writing.catch(() => {});
      if (head.method === "DELETE") {
        request.resume();
        if (session.end === undefined) await abandon(session);
        return { status: CLIENT_CLOSED_REQUEST };
      }
      if (head.method !== "PUT") throw new GcpFault(405, "methodNotAllowed", "A session takes PUT and DELETE.");
      if (session.end !== undefined) {
        request.resume();
        return (session.end as { answer: Answer }).answer;
      }
      return await take(state, session, head, request);
    },

    clear() {
      for (const id of [...sessions.keys()]) void give(id);
    },
  };

  async function give(id: string): Promise<void> {
    const session = sessions.get(id)!;
    sessions.delete(id);
    if (session.end === undefined) await abandon(session);
  }
}

async function abandon(session: Session): Promise<void> {
  session.end = "cancelled";
  session.turn++;
  await session.writer.abandon();
}

/** What a PUT says it brings: from which byte to which, of how many. Without the first two it is a question. */
interface Span {
  readonly first: number | undefined;
  readonly last: number | undefined;
  readonly total: number | undefined;
}

/** A PUT without Content-Range brings everything. */
const WHOLE: Span = { first: 0, last: undefined, total: undefined };

/** @throws GcpFault 400 */
function spanOf(head: ExchangeHead): Span {
  const text = header(head, "content-range");
  if (text === undefined) return WHOLE;
  const parts = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/.exec(text);
  const [first, last, total] = [parts?.[1], parts?.[2], parts?.[3]].map(wholeNumber);
  const wrong = parts === null || (first !== undefined && (last === undefined || last < first));
  if (wrong || (last !== undefined && total !== undefined && last >= total)) {
    throw new GcpFault(400, "badRequest", `Failed to parse Content-Range header: ${text}`);
  }
  return { first, last, total };
}

async function take(
  state: BucketState,
  session: Session,
  head: ExchangeHead,
  request: http.IncomingMessage,
): Promise<Answer> {
  const { writer, turn } = session;
  const span = spanOf(head);
  if (span.total !== undefined && session.total !== undefined && span.total !== session.total) {
    throw new GcpFault(400, "invalid", `The upload has ${session.total} bytes, as was said before, not ${span.total}.`);
  }
  session.total ??= span.total;
  if (span.first === undefined) {
    request.resume();
    // An empty upload, or one whose size was not known before, ends with the word that this was all.
    return writer.bytes === session.total ? await complete(state, session, head) : progress(session);
  }
  if (span.first > writer.bytes) {
    // Not documented; clients report it so: https://github.com/Byron/google-apis-rs/pull/286
    const message = `Invalid request. According to the Content-Range header, the upload offset is ${span.first} byte(s), which exceeds already uploaded size of ${writer.bytes} byte(s).`;
    throw new GcpFault(503, "backendError", message);
  }

  // Of bytes that were kept already the second coming is ignored.
  let skip = writer.bytes - span.first;
  let arrived = 0;
  let rest: Buffer = Buffer.alloc(0);
  const write = async (data: Buffer) => {
    session.writing = writer.append(data).then(() => session.sums.add(data));
    await session.writing;
  };
  const most = span === WHOLE ? Number.POSITIVE_INFINITY : span.last! - span.first + 1;
  // A refusal ends the reading and not the connection, or the client would not hear it.
  for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if (session.turn !== turn) throw new GcpFault(503, "backendError", "Another request goes on with this upload.");
    arrived += piece.length;
    if (arrived > most) throw new GcpFault(400, "badRequest", "The body has more bytes than Content-Range says.");
    const fresh = piece.subarray(Math.min(skip, piece.length));
    skip -= piece.length - fresh.length;
    const data = rest.length > 0 ? Buffer.concat([rest, fresh]) : fresh;
    const whole = data.length - (data.length % QUANTUM);
    rest = data.subarray(whole);
    if (whole > 0) await write(data.subarray(0, whole));
  }
  if (session.turn !== turn) throw new GcpFault(503, "backendError", "Another request goes on with this upload.");
  if (span !== WHOLE && arrived < most) {
    throw new GcpFault(400, "badRequest", "The body has fewer bytes than Content-Range says.");
  }
  const total = span === WHOLE ? arrived : session.total;
  if (total === undefined || writer.bytes + rest.length < total) return progress(session);
  if (writer.bytes + rest.length > total)
    throw new GcpFault(400, "invalid", `The upload has more than ${total} bytes.`);
  if (rest.length > 0) await write(rest);
  return await complete(state, session, head);
}

function progress({ writer: { bytes } }: Session): Answer {
  return { status: 308, headers: { ...(bytes > 0 ? { range: `bytes=0-${bytes - 1}` } : {}), "content-length": 0 } };
}

async function complete(state: BucketState, session: Session, head: ExchangeHead): Promise<Answer> {
  const { name, given, query, writer } = session;
  const sums = session.sums.end();
  try {
    checkSums({ ...given, ...hashesOf(head) }, sums);
    checkGeneration(state, query, name);
  } catch (error) {
    await abandon(session);
    throw error;
  }
  const content = await writer.finish();
  state.uploads.push({ name, bytes: content.bytes });
  const { name: _, ...wanted } = given;
  const object = keep(state, head, { name, contents: [content], ...sums, components: undefined, wanted });
  const answer = json(objectView(state, object, head.origin));
  session.end = { answer };
  return answer;
}

/** `x-goog-hash: crc32c=…,md5=…`: a client that reads its source only once says them with the last bytes. */
function hashesOf(head: ExchangeHead): { md5Hash?: string; crc32c?: string } {
  const text = [head.headers["x-goog-hash"] ?? []].flat().join(",");
  const md5Hash = /(?:^|,)\s*md5=([A-Za-z0-9+/=]+)/.exec(text)?.[1];
  const crc32c = /(?:^|,)\s*crc32c=([A-Za-z0-9+/=]+)/.exec(text)?.[1];
  return { ...(md5Hash === undefined ? {} : { md5Hash }), ...(crc32c === undefined ? {} : { crc32c }) };
}
