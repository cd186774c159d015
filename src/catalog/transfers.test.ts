import { createHash } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Database } from "../database/index.ts";
import { testDatabase } from "../database/testing/postgres.ts";
import { CATALOG_MIGRATIONS, type CatalogTables } from "./schema.ts";
import { forgetTransfer, openTransferJournal } from "./transfers.ts";

let database: Database;

beforeAll(async () => {
  database = await testDatabase();
  await database.migrate("catalog", CATALOG_MIGRATIONS);
});
afterAll(() => database?.close());

const db = () => database.kysely<CatalogTables>();
const digest = (name: string | number) => createHash("sha256").update(String(name)).digest();
const hex = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : Buffer.from(bytes).toString("hex"));

test("a new journal knows nothing", async () => {
  await using journal = await openTransferJournal(db(), "new");
  expect([journal.staged, journal.ackedCount, journal.acked(0), journal.digestOf(0)]).toEqual([
    undefined,
    0,
    false,
    undefined,
  ]);
});

test("opened again it knows the staged disk, every acknowledged block and every unit", async () => {
  {
    await using journal = await openTransferJournal(db(), "again");
    await journal.begin({ snapshot: "snap-1", token: null });
    for (const index of [0, 7, 2 ** 32 - 1]) journal.ack(index, digest(index));
    journal.unit(3, digest("unit"));
  }
  await using journal = await openTransferJournal(db(), "again");
  expect(journal.staged).toEqual({ snapshot: "snap-1", token: null });
  expect(journal.ackedCount).toBe(3);
  expect(journal.acked(1)).toBe(false);
  expect([0, 7, 2 ** 32 - 1].map((index) => hex(journal.digestOf(index)))).toEqual(
    [0, 7, 2 ** 32 - 1].map((index) => hex(digest(index))),
  );
  expect([...journal.knownUnits].map(([index, sha256]) => [index, hex(sha256)])).toEqual([[3, hex(digest("unit"))]]);
});

test("what was flushed is there for another process while the first goes on", async () => {
  await using journal = await openTransferJournal(db(), "two");
  await journal.begin("staged");
  journal.ack(1, digest(1));
  await journal.flush();
  journal.ack(2, digest(2));
  await using other = await openTransferJournal(db(), "two");
  expect([other.acked(1), other.acked(2)]).toEqual([true, false]);
});

test("a digest is copied: the writer's buffer is used again", async () => {
  await using journal = await openTransferJournal(db(), "copy");
  await journal.begin("staged");
  const buffer = Buffer.from(digest(1));
  journal.ack(1, buffer);
  buffer.fill(0);
  expect(hex(journal.digestOf(1))).toBe(hex(digest(1)));
});

test("begin starts over: nothing of the staged disk before is believed, not even what was not flushed yet", async () => {
  await using journal = await openTransferJournal(db(), "over");
  await journal.begin("first");
  journal.ack(1, digest(1));
  journal.unit(1, digest(1));
  await journal.begin("second");
  expect([journal.staged, journal.ackedCount, journal.knownUnits.size]).toEqual(["second", 0, 0]);
  journal.ack(2, digest(2));
  await journal.flush();
  await using again = await openTransferJournal(db(), "over");
  expect([again.staged, again.acked(1), again.acked(2), again.knownUnits.size]).toEqual(["second", false, true, 0]);
});

test("an acknowledgement that cannot be written surfaces: at the flush, and at every later one", async () => {
  const journal = await openTransferJournal(db(), "lost");
  await journal.begin("staged");
  journal.ack(1, digest(1));
  // The row goes away under it, as when a second run tidies up.
  await forgetTransfer(db(), "lost");
  await expect(journal.flush()).rejects.toThrow();
  await expect(journal.flush()).rejects.toThrow();
  await expect(journal[Symbol.asyncDispose]()).rejects.toThrow();
});

test("a forgotten transfer begins anew, and forgetting twice is nothing", async () => {
  {
    await using journal = await openTransferJournal(db(), "forgotten");
    await journal.begin("staged");
    journal.ack(1, digest(1));
  }
  await forgetTransfer(db(), "forgotten");
  await forgetTransfer(db(), "forgotten");
  await using journal = await openTransferJournal(db(), "forgotten");
  expect([journal.staged, journal.ackedCount]).toEqual([undefined, 0]);
});

test("whatever is noted, in whatever portions, is what is read", async () => {
  let count = 0;
  const entry = fc.tuple(fc.integer({ min: 0, max: 2 ** 32 - 1 }), fc.uint8Array({ minLength: 32, maxLength: 32 }));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(entry, { maxLength: 400 }), { maxLength: 3 }), async (portions) => {
      const id = `property ${count++}`;
      const expected = new Map<number, string | undefined>();
      {
        await using journal = await openTransferJournal(db(), id);
        await journal.begin(null);
        for (const portion of portions) {
          for (const [index, sha256] of portion) {
            journal.ack(index, sha256);
            expected.set(index, hex(sha256));
          }
          await journal.flush();
        }
      }
      await using journal = await openTransferJournal(db(), id);
      expect(journal.ackedCount).toBe(expected.size);
      for (const [index, sha256] of expected) expect(hex(journal.digestOf(index))).toBe(sha256);
    }),
    { numRuns: 15 },
  );
});
