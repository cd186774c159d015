/**
 * Decompressors as a worker needs them: bytes in, decoded bytes into a sink, nothing kept in between but the
 * decoder's own window. xz decodes straight into the sink's memory; gzip and zstd are zlib's streams.
 */
import type { Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { SlipwayError } from "../../lib/errors.ts";
import { BLOCK_BYTES } from "../block-source.ts";
import type { CodecName } from "./protocol.ts";
import type { Sink, Task } from "./sink.ts";
import { loadXz, type XzDecoder } from "./xz-decoder.ts";

export interface Codec {
  /** Takes all of `input`; the memory may be used again when this is done. */
  write(input: Buffer): void | Promise<void>;
  /** No more input. @throws SlipwayError `corrupt` if the input ended too early */
  end(): void | Promise<void>;
  close(): void;
}

export async function openCodec(name: CodecName, task: Task, sink: Sink): Promise<Codec> {
  switch (name) {
    case "none":
      return { write: (input) => sink.write(input), end() {}, close() {} };
    case "xz":
      return xzCodec(task, sink, (await loadXz())());
    case "gzip":
      return zlibCodec(createGunzip({ chunkSize: BLOCK_BYTES }), sink);
    case "zstd":
      return zlibCodec(createZstdDecompress({ chunkSize: BLOCK_BYTES }), sink);
  }
}

/** Decoding memory grows with the dictionary; presets stop at 64 MiB, what wants much more is an attack. */
const MAX_DICTIONARY_BYTES = 96 * 1024 * 1024;
const LZMA2 = 0x21;

function xzCodec(task: Task, sink: Sink, decoder: XzDecoder): Codec {
  const guard = dictionaryGuard(task.blockStarts ?? []);
  const run = (input: Buffer, finish: boolean) => {
    let at = 0;
    for (;;) {
      const room = sink.space();
      const step = decoder.code(input, at, room, finish);
      at += step.read;
      sink.commit(step.written);
      if (step.state === "end") {
        if (at === input.length) return;
        throw new SlipwayError("corrupt", "There are bytes after the end of the xz stream.");
      }
      if (step.state === "starved" || (!finish && at === input.length && step.written < room.length)) {
        if (finish) throw new SlipwayError("corrupt", "The xz stream ends too early.");
        return;
      }
    }
  };
  if (task.prefix) run(Buffer.from(task.prefix), false);
  return {
    write(input) {
      guard(input);
      run(input, false);
    },
    end: () => run(Buffer.from(task.suffix ?? []), true),
    close: () => decoder.close(),
  };
}

/**
 * Reads the block headers that pass by and refuses a dictionary that would cost too much memory. Runs ahead of the
 * decoder by less than a header, so nothing is allocated before it was judged.
 */
function dictionaryGuard(starts: readonly number[]): (input: Buffer) => void {
  let next = 0;
  let seen = 0;
  let header: number[] = [];
  return (input) => {
    for (let at = Math.max(0, (starts[next] ?? Number.POSITIVE_INFINITY) + header.length - seen); at < input.length; ) {
      header.push(input[at++]!);
      if (header.length < (header[0]! + 1) * 4) continue;
      judgeHeader(header);
      header = [];
      next++;
      at = Math.max(at, (starts[next] ?? Number.POSITIVE_INFINITY) - seen);
    }
    seen += input.length;
  };
}

function judgeHeader(header: readonly number[]): void {
  let at = 2;
  const skipNumber = () => {
    while (at < header.length && header[at]! >= 0x80) at++;
    at++;
  };
  const flags = header[1] ?? 0;
  if (flags & 0x40) skipNumber();
  if (flags & 0x80) skipNumber();
  for (let filter = 0; filter <= (flags & 3); filter++) {
    const id = header[at];
    skipNumber();
    const propertyBytes = header[at] ?? 0;
    skipNumber();
    const bits = header[at] ?? 0;
    const dictionary = bits >= 40 ? 2 ** 32 : (2 | (bits & 1)) * 2 ** (Math.floor(bits / 2) + 11);
    if (id === LZMA2 && propertyBytes === 1 && dictionary > MAX_DICTIONARY_BYTES) {
      throw new SlipwayError(
        "unsupported",
        `The xz file wants a dictionary of ${dictionary} bytes; ${MAX_DICTIONARY_BYTES} are allowed.`,
      );
    }
    at += propertyBytes;
  }
}

/**
 * zlib's streams call back late, or never when they believe to be at the end while there is more input: whichever of
 * callback, end, error and close comes first settles a write.
 */
function zlibCodec(stream: Transform, sink: Sink): Codec {
  let failure: unknown;
  let ended = false;
  let wake = () => {};
  const fail = (error: unknown) => {
    failure ??= error;
    wake();
    stream.destroy();
  };
  stream.on("data", (data: Buffer) => {
    if (failure !== undefined) return;
    try {
      sink.write(data);
    } catch (error) {
      fail(error);
    }
  });
  stream.on("error", (error: NodeJS.ErrnoException) => {
    fail(new SlipwayError("corrupt", `It cannot be decompressed: ${error.message}.`, { cause: error }));
  });
  stream.on("end", () => {
    ended = true;
    wake();
  });
  const settle = async (start: (done: () => void) => void) => {
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (failure !== undefined || ended) resolve();
      else start(resolve);
    });
    if (failure !== undefined) throw failure;
  };
  return {
    async write(input) {
      await settle((done) => stream.write(input, () => done()));
      if (ended) throw new SlipwayError("corrupt", "There are bytes after the end of the compressed data.");
    },
    async end() {
      await settle(() => stream.end());
      if (!ended) throw new SlipwayError("corrupt", "The compressed data ends too early.");
    },
    close: () => stream.destroy(),
  };
}
