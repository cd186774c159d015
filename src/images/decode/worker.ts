/** A worker thread of the disk reader: takes tasks and chunks, decodes, cuts, tests for zeros, hashes. See `reader.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import { codeOf, SlipwayError } from "../../lib/errors.ts";
import { type Codec, openCodec } from "./codecs.ts";
import { BUSY, CHUNK_BYTES, type ToWorker, type WorkerSetup } from "./protocol.ts";
import { blockSink, countSink, type Post, type Sink, Stopped, slotsOf, type Task } from "./sink.ts";
import { TarDisk } from "./tar.ts";

const port = parentPort!;
const setup = workerData as WorkerSetup;
const control = new Int32Array(setup.memory.control);
const slots = slotsOf(setup.memory);
const post: Post = (message) => port.postMessage(message);

let sink: Sink;
let codec: Codec;
let tar: TarDisk | undefined;

async function handle(message: ToWorker): Promise<void> {
  switch (message.type) {
    case "task":
      sink =
        setup.mode === "count"
          ? countSink(message, slots, post)
          : blockSink(message, setup.geometry, setup.memory, slots, post);
      codec = await openCodec(setup.codec, message, setup.tar ? throughTar(sink, message) : sink);
      return;
    case "chunk":
      await codec.write(Buffer.from(setup.memory.inputs, message.chunk * CHUNK_BYTES, message.bytes));
      post({ type: "eaten", chunk: message.chunk, bytes: message.bytes });
      return;
    case "end":
      await codec.end();
      tar?.end();
      sink.finish();
      codec.close();
      post({ type: "done", decoded: sink.decoded });
  }
}

/** Lets decoded bytes pass through the archive; its holes become zeros. */
function throughTar(disk: Sink, task: Task): Sink {
  const archive = new TarDisk({
    begin(bytes) {
      if (bytes === task.to) return;
      throw new SlipwayError("corrupt", "The tar archive's header changed since it was first read.");
    },
    write: (data) => disk.write(data),
    skip: (bytes) => disk.skip(bytes),
  });
  tar = archive;
  const scratch = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  return {
    space: () => scratch,
    commit: (bytes) => archive.push(scratch.subarray(0, bytes)),
    write: (data) => archive.push(Buffer.from(data.buffer, data.byteOffset, data.length)),
    skip() {},
    finish() {},
    decoded: 0,
  };
}

// One message after the other: a handler may wait for zlib in the middle.
let chain: Promise<void> = Promise.resolve();
let failed = false;
port.on("message", (message: ToWorker) => {
  chain = chain.then(async () => {
    if (failed) return;
    Atomics.add(control, BUSY, 1);
    try {
      slots.check();
      await handle(message);
    } catch (error) {
      failed = true;
      if (error instanceof Stopped) return;
      const next = (error as { next?: unknown }).next;
      post({
        type: "error",
        code: codeOf(error),
        message: error instanceof Error ? error.message : String(error),
        ...(typeof next === "string" ? { next } : {}),
      });
    } finally {
      Atomics.sub(control, BUSY, 1);
      Atomics.notify(control, BUSY);
    }
  });
});
