/**
 * The EBS direct APIs: a snapshot written and read block by block over one undici pool per region, signed by hand.
 *
 * One attempt per block; whether it is worth another is for `send-blocks.ts` and `read-back.ts` to say. The few other
 * calls are asked again while they are throttled.
 * @see https://docs.aws.amazon.com/ebs/latest/APIReference/API_Operations.html
 */
import { createHash } from "node:crypto";
import { BLOCK_BYTES } from "../../images/block-source.ts";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { Region } from "../../model.ts";
import type { Connection } from "./connection.ts";
import { AwsAnswer, translate } from "./errors.ts";
import { queryString, requestSigner } from "./signature.ts";

export interface EbsDirect {
  /** The same token gives the same snapshot, for as long as AWS remembers it. */
  startSnapshot(input: StartSnapshot, call: CallContext): Promise<{ id: string; status: string }>;
  /** Overwrites. `data` is 512 KiB and `sha256` its digest. */
  putBlock(snapshotId: string, index: number, data: Uint8Array, sha256: Uint8Array, signal: AbortSignal): Promise<void>;
  /** @param checksum SHA-256 over the digests of the written blocks, in the order of their index */
  completeSnapshot(snapshotId: string, blocks: number, checksum: Uint8Array, call: CallContext): Promise<void>;
  /** Blocks that are there, with the tokens to read them. Page by page. */
  listBlocks(snapshotId: string, call: CallContext): AsyncIterable<readonly ListedBlock[]>;
  /** @throws SlipwayError `corrupt` if the bytes are not those of the checksum that came with them */
  getBlock(snapshotId: string, block: ListedBlock, call: CallContext): Promise<{ data: Buffer; sha256: Buffer }>;
}

export interface StartSnapshot {
  readonly clientToken: string;
  readonly volumeGiB: number;
  readonly description: string;
  readonly tags: Readonly<Record<string, string>>;
  /** For a call that is meant to fail: nothing is made of a parent that does not exist. */
  readonly parentId?: string;
}

export interface ListedBlock {
  readonly index: number;
  readonly token: string;
}

/** Minutes a snapshot may lie without a block before AWS gives it up; the most AWS allows, so that runs can resume. */
const TIMEOUT_MINUTES = 4320;
const EMPTY_SHA256 = createHash("sha256").digest("hex");
/** Answers but blocks are short: a page of 1000 tokens is about 100 KiB. */
const ANSWER_BYTES = 4 * 1024 * 1024;

export function ebsDirect(connection: Connection, region: Region): EbsDirect {
  const sign = requestSigner(region, "ebs");
  const { origin, dispatcher } = connection.ebs(region);
  const { blockAnswerMs } = connection;
  const base = origin.pathname.replace(/\/$/, "");

  interface Asked {
    readonly operation: string;
    readonly subject?: string;
    readonly method: "GET" | "PUT" | "POST";
    readonly path: string;
    readonly query?: Record<string, string>;
    readonly headers?: Record<string, string>;
    readonly body?: Uint8Array;
    readonly payloadSha256?: string;
    readonly signal: AbortSignal;
  }

  async function request(asked: Asked) {
    const { operation, signal, subject } = asked;
    try {
      const path = base + asked.path;
      const headers = sign(
        {
          method: asked.method,
          path,
          ...(asked.query ? { query: asked.query } : {}),
          headers: { host: origin.host, ...asked.headers },
          payloadSha256: asked.payloadSha256 ?? EMPTY_SHA256,
        },
        await connection.credentials(),
        new Date(),
      );
      const query = asked.query ? `?${queryString(asked.query)}` : "";
      const answer = await dispatcher.request({
        origin: origin.origin,
        path: path + query,
        method: asked.method,
        headers,
        body: asked.body ?? null,
        signal,
      });
      if (answer.statusCode < 300) return answer;
      throw answerOf(answer.statusCode, answer.headers, await bounded(answer.body, blockAnswerMs));
    } catch (error) {
      throw translate(error, { service: "ebs", operation, region, subject, signal });
    }
  }

  async function json(asked: Asked): Promise<Record<string, unknown>> {
    const { body } = await connection.paced(asked.signal, () => request(asked));
    try {
      return JSON.parse((await bounded(body, blockAnswerMs)).toString("utf8") || "{}") as Record<string, unknown>;
    } catch (error) {
      throw translate(error, { service: "ebs", region, ...asked });
    }
  }

  return {
    async startSnapshot(input, { signal }) {
      const body = Buffer.from(
        JSON.stringify({
          VolumeSize: input.volumeGiB,
          Description: input.description,
          ClientToken: input.clientToken,
          Timeout: TIMEOUT_MINUTES,
          Tags: Object.entries(input.tags).map(([Key, Value]) => ({ Key, Value })),
          ...(input.parentId ? { ParentSnapshotId: input.parentId } : {}),
        }),
      );
      const answer = await json({
        operation: "StartSnapshot",
        method: "POST",
        path: "/snapshots",
        headers: { "content-type": "application/json" },
        body,
        payloadSha256: createHash("sha256").update(body).digest("hex"),
        signal,
      });
      return { id: String(answer.SnapshotId), status: String(answer.Status) };
    },

    async putBlock(snapshotId, index, data, sha256, signal) {
      const digest = Buffer.from(sha256.buffer, sha256.byteOffset, sha256.byteLength);
      const asked = { operation: "PutSnapshotBlock", subject: `${snapshotId} block ${index}`, signal };
      const put: Asked = {
        ...asked,
        method: "PUT",
        path: `/snapshots/${snapshotId}/blocks/${index}`,
        headers: {
          "content-type": "application/octet-stream",
          "x-amz-checksum": digest.toString("base64"),
          "x-amz-checksum-algorithm": "SHA256",
          "x-amz-data-length": String(BLOCK_BYTES),
        },
        body: data,
        // The digest AWS checks the block by is the one that is signed: one hash for both, made by the decoder.
        payloadSha256: digest.toString("hex"),
      };
      const answer = await connection.authentic(() => request(put));
      try {
        await bounded(answer.body, blockAnswerMs);
      } catch (error) {
        throw translate(error, { service: "ebs", region, ...asked });
      }
    },

    async completeSnapshot(snapshotId, blocks, checksum, { signal }) {
      await json({
        operation: "CompleteSnapshot",
        subject: snapshotId,
        method: "POST",
        path: `/snapshots/completion/${snapshotId}`,
        headers: {
          "x-amz-changedblockscount": String(blocks),
          "x-amz-checksum": Buffer.from(checksum).toString("base64"),
          "x-amz-checksum-aggregation-method": "LINEAR",
          "x-amz-checksum-algorithm": "SHA256",
        },
        signal,
      });
    },

    async *listBlocks(snapshotId, { signal }) {
      let pageToken: string | undefined;
      do {
        const page = await json({
          operation: "ListSnapshotBlocks",
          subject: snapshotId,
          method: "GET",
          path: `/snapshots/${snapshotId}/blocks`,
          query: { maxResults: "1000", ...(pageToken ? { pageToken } : {}) },
          signal,
        });
        const blocks = (page.Blocks ?? []) as { BlockIndex: number; BlockToken: string }[];
        yield blocks.map(({ BlockIndex, BlockToken }) => ({ index: BlockIndex, token: BlockToken }));
        pageToken = page.NextToken as string | undefined;
      } while (pageToken);
    },

    async getBlock(snapshotId, block, { signal }) {
      const subject = `${snapshotId} block ${block.index}`;
      const asked = { operation: "GetSnapshotBlock", subject, signal };
      const get: Asked = {
        ...asked,
        method: "GET",
        path: `/snapshots/${snapshotId}/blocks/${block.index}`,
        query: { blockToken: block.token },
      };
      const answer = await connection.authentic(() => request(get));
      let data: Buffer;
      try {
        data = await bounded(answer.body, blockAnswerMs);
      } catch (error) {
        throw translate(error, { service: "ebs", region, ...asked });
      }
      const sha256 = createHash("sha256").update(data).digest();
      if (data.length !== BLOCK_BYTES || answer.headers["x-amz-checksum"] !== sha256.toString("base64")) {
        throw new SlipwayError("corrupt", `EBS sent other bytes for ${subject} than its own checksum says.`, {
          subject,
        });
      }
      return { data, sha256 };
    },
  };
}

/** Silence ends at the pool's limit; this ends what is said too slowly or never ends. */
async function bounded(body: AsyncIterable<Uint8Array>, ms: number): Promise<Buffer> {
  const deadline = performance.now() + ms;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES) throw new Error(`The answer is longer than ${ANSWER_BYTES} bytes.`);
    if (performance.now() > deadline)
      throw Object.assign(new Error(`not all of it within ${ms / 1000} s`), { code: "ETIMEDOUT" });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

function answerOf(status: number, headers: Record<string, string | string[] | undefined>, body: Buffer): AwsAnswer {
  let fields: Record<string, unknown> = {};
  try {
    fields = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
  } catch {
    // A proxy or a load balancer answered; its status says enough.
  }
  const header = headers["x-amzn-errortype"] ?? fields.__type ?? fields.code ?? "";
  const code = String(header).replace(/^.*#/, "").replace(/:.*$/, "");
  const reason = typeof fields.Reason === "string" ? ` (${fields.Reason})` : "";
  const message = String(fields.message ?? fields.Message ?? `HTTP status ${status}`);
  return new AwsAnswer({
    code,
    message: message + reason,
    status,
    requestId: [headers["x-amzn-requestid"]].flat()[0],
  });
}
