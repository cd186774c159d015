import { describe, expect, test } from "vitest";
import { codeOf } from "../../lib/errors.ts";
import { KiB, MiB } from "../../lib/units.ts";
import { makeDisk, makeXz } from "../testing/make.ts";
import { openCodec } from "./codecs.ts";
import type { Sink, Task } from "./sink.ts";
import { loadXz, type XzDecoder } from "./xz-decoder.ts";

const task: Task = { type: "task", from: 0, to: MiB, wanted: new Uint8Array(2) };

describe.each(["native", "wasm"] as const)("%s liblzma", (kind) => {
  const disk = makeDisk(MiB, { zeros: 0.3 });

  test("decodes concatenated streams, whatever the cut of input and output", async () => {
    const file = await makeXz(disk, { streamBytes: 300 * KiB, padding: 8 });
    for (const [inputBytes, outputBytes] of [
      [file.length, 2 * MiB],
      [1000, 7777],
    ] as const) {
      const decoder = (await loadXz(kind))();
      expect(decodeAll(decoder, file, inputBytes, outputBytes).equals(disk)).toBe(true);
      decoder.close();
    }
  });

  test("refuses damage", async () => {
    const file = await makeXz(disk);
    file[file.length >> 1]! ^= 4;
    const decoder = (await loadXz(kind))();
    expect(codeOf(errorOf(() => decodeAll(decoder, file, 4096, 65536)))).toBe("corrupt");
    decoder.close();
  });
});

test("a dictionary that costs too much memory is refused before it is allocated", async () => {
  const file = await makeXz(makeDisk(64 * KiB));
  // Byte 12 begins the block header: size, flags, filter id, property size, dictionary. Cut, so that it comes in two parts.
  file[16] = 37;
  const codec = await openCodec("xz", { ...task, blockStarts: [12] }, nowhere());
  await codec.write(file.subarray(0, 14));
  expect(
    codeOf(
      await Promise.resolve()
        .then(() => codec.write(file.subarray(14)))
        .catch((error: unknown) => error),
    ),
  ).toBe("unsupported");
  codec.close();
});

function decodeAll(decoder: XzDecoder, file: Buffer, inputBytes: number, outputBytes: number): Buffer {
  const out: Buffer[] = [];
  const output = Buffer.alloc(outputBytes);
  for (let at = 0; ; ) {
    const end = Math.min(file.length, at + inputBytes);
    const step = decoder.code(file.subarray(0, end), at, output, end === file.length);
    at += step.read;
    out.push(Buffer.from(output.subarray(0, step.written)));
    if (step.state === "end") return Buffer.concat(out);
  }
}

function errorOf(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

function nowhere(): Sink {
  const scratch = Buffer.alloc(65536);
  return { space: () => scratch, commit() {}, write() {}, skip() {}, finish() {}, decoded: 0 };
}
