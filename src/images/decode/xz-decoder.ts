/**
 * liblzma, one call at a time: the native build where it loads, WebAssembly elsewhere. Both take concatenated streams.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { SlipwayError } from "../../lib/errors.ts";

export interface XzDecoder {
  /** Decodes from `input[at…]` into `output`. `finish` says that no input follows. */
  code(input: Buffer, at: number, output: Buffer, finish: boolean): XzStep;
  close(): void;
}

export interface XzStep {
  readonly read: number;
  readonly written: number;
  /** `starved`: nothing more can be done without more input. */
  readonly state: "more" | "starved" | "end";
}

// liblzma's own numbers (lzma/base.h): lzma_action, lzma_ret, decoder flags.
const RUN = 0;
const FINISH = 3;
const OK = 0;
const STREAM_END = 1;
const NO_CHECK = 2;
const UNSUPPORTED_CHECK = 3;
const GET_CHECK = 4;
const MEMORY = 5;
const MEMORY_LIMIT = 6;
const OPTIONS = 8;
const STARVED = 10;
const CONCATENATED = 8;

function stateOf(code: number): XzStep["state"] {
  switch (code) {
    case OK:
    case NO_CHECK:
    case GET_CHECK:
      return "more";
    case STREAM_END:
      return "end";
    case STARVED:
      return "starved";
    case UNSUPPORTED_CHECK:
    case OPTIONS:
    case MEMORY_LIMIT:
      throw new SlipwayError("unsupported", "The xz file uses a filter or an option that cannot be decoded here.");
    case MEMORY:
      throw new SlipwayError("unavailable", "There is not enough memory to decode the xz file.");
    default:
      throw new SlipwayError("corrupt", "The xz data is damaged.");
  }
}

let loaded: Promise<() => XzDecoder> | undefined;

/** Loads liblzma once a thread. `only` is for tests. */
export function loadXz(only?: "native" | "wasm"): Promise<() => XzDecoder> {
  if (only === "native") return loadNative();
  if (only === "wasm") return loadWasm();
  loaded ??= loadNative().catch(loadWasm);
  return loaded;
}

/** The native object of node-liblzma, which its stream class keeps to itself. */
interface Engine {
  codeSync(
    action: number,
    input: Buffer,
    at: number,
    available: number,
    output: Buffer,
    outputAt: number,
  ): [code: number, inputLeft: number, outputLeft: number];
  close(): void;
}

async function loadNative(): Promise<() => XzDecoder> {
  const { Unxz } = await import("node-liblzma");
  return () => {
    // The stream is not used as one: what we want is the engine inside, which can be called at once.
    const engine = Reflect.get(new Unxz(), "lzma") as Engine;
    return {
      code(input, at, output, finish) {
        const available = input.length - at;
        const [code, inputLeft, outputLeft] = engine.codeSync(finish ? FINISH : RUN, input, at, available, output, 0);
        return { read: available - inputLeft, written: output.length - outputLeft, state: stateOf(code) };
      },
      close: () => engine.close(),
    };
  };
}

/** What of the emscripten module is used. The published type of `_lzma_stream_decoder` is not what the build takes. */
interface Wasm {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _free(pointer: number): void;
  setValue(pointer: number, value: number, type: "i32"): void;
  getValue(pointer: number, type: "i32"): number;
  _lzma_stream_decoder(stream: number, limitLow: number, limitHigh: number, flags: number): number;
  _lzma_code(stream: number, action: number): number;
  _lzma_end(stream: number): void;
}

const WASM_BUFFER = 512 * 1024;
const STREAM_BYTES = 96;
// Offsets of lzma_stream's fields on wasm32.
const NEXT_IN = 0;
const AVAIL_IN = 4;
const NEXT_OUT = 16;
const AVAIL_OUT = 20;

async function loadWasm(): Promise<() => XzDecoder> {
  // The package's own loader fetches the file by URL, which Node refuses for file: URLs.
  const wasmBinary = await readFile(createRequire(import.meta.url).resolve("node-liblzma/wasm/liblzma.wasm"));
  const { default: create } = await import("node-liblzma/wasm/liblzma.js");
  const wasm = (await create({ wasmBinary })) as unknown as Wasm;
  return () => {
    const stream = wasm._malloc(STREAM_BYTES);
    const input = wasm._malloc(WASM_BUFFER);
    const output = wasm._malloc(WASM_BUFFER);
    wasm.HEAPU8.fill(0, stream, stream + STREAM_BYTES);
    wasm._lzma_stream_decoder(stream, 0x7fff_ffff, 0, CONCATENATED);
    return {
      code(from, at, to, finish) {
        const available = Math.min(from.length - at, WASM_BUFFER);
        const room = Math.min(to.length, WASM_BUFFER);
        wasm.HEAPU8.set(from.subarray(at, at + available), input);
        wasm.setValue(stream + NEXT_IN, input, "i32");
        wasm.setValue(stream + AVAIL_IN, available, "i32");
        wasm.setValue(stream + NEXT_OUT, output, "i32");
        wasm.setValue(stream + AVAIL_OUT, room, "i32");
        const last = finish && at + available === from.length;
        const state = stateOf(wasm._lzma_code(stream, last ? FINISH : RUN));
        const written = room - wasm.getValue(stream + AVAIL_OUT, "i32");
        to.set(wasm.HEAPU8.subarray(output, output + written));
        return { read: available - wasm.getValue(stream + AVAIL_IN, "i32"), written, state };
      },
      close() {
        wasm._lzma_end(stream);
        for (const pointer of [stream, input, output]) wasm._free(pointer);
      },
    };
  };
}
