import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createPageData } from "./page-data.ts";

const PAGE = 512;
const PAGES = 4096;
const bytes = PAGES * PAGE;

const action = fc.record({
  kind: fc.constantFrom("write", "zeros", "clear"),
  page: fc.nat(PAGES - 1),
  pages: fc.integer({ min: 1, max: 2500 }),
  fill: fc.integer({ min: 1, max: 255 }),
});

describe.each([
  { name: "in memory", onDisk: false },
  { name: "in a sparse file", onDisk: true },
])("page data $name", ({ onDisk }) => {
  it("behaves as an array of pages and a set of written ones, whatever is done to it", async () => {
    const directory = await mkdtemp(join(tmpdir(), "pages-"));
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 12 }), async (actions) => {
        const data = await createPageData(bytes, onDisk ? directory : undefined);
        const expected = Buffer.alloc(bytes);
        const written = new Set<number>();
        for (const { kind, page, pages, fill } of actions) {
          const [start, end] = [page, Math.min(PAGES, page + pages)];
          const content = Buffer.alloc((end - start) * PAGE, kind === "write" ? fill : 0);
          content.copy(expected, start * PAGE);
          if (kind === "clear") await data.clear(start * PAGE, content.length);
          else await data.write(start * PAGE, content);
          for (let at = start; at < end; at++) kind === "clear" ? written.delete(at) : written.add(at);
        }
        expect((await data.read(0, bytes)).equals(expected)).toBe(true);
        const ranges = data.ranges();
        const covered = ranges.flatMap(({ start, end }) =>
          Array.from({ length: (end - start) / PAGE }, (_, at) => start / PAGE + at),
        );
        expect(covered).toEqual([...written].sort((a, b) => a - b));
        expect(ranges.every((range, at) => at === 0 || ranges[at - 1]!.end < range.start)).toBe(true);
        await data.release();
      }),
      { numRuns: 30 },
    );
    expect(await readdir(directory)).toEqual([]);
    await rm(directory, { recursive: true });
  });

  it("keeps what was shared when the first owner writes on or goes away", async () => {
    const directory = await mkdtemp(join(tmpdir(), "pages-"));
    const data = await createPageData(bytes, onDisk ? directory : undefined);
    await data.write(0, Buffer.alloc(PAGE, 1));
    const kept = data.share();
    await Promise.all([data.write(0, Buffer.alloc(PAGE, 2)), data.write(PAGE, Buffer.alloc(PAGE, 3))]);
    expect((await kept.read(0, 2))[0]).toBe(1);
    expect((await kept.read(PAGE, 1))[0]).toBe(0);
    expect((await data.read(0, 1))[0]).toBe(2);
    await data.release();
    expect((await kept.read(0, 1))[0]).toBe(1);
    await kept.release();
    expect(await readdir(directory)).toEqual([]);
    await rm(directory, { recursive: true });
  });
});
