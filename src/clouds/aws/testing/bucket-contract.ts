/** What the way through a bucket asks of S3, in sentences that run against every S3 there is. */
import { createHash, randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { quietCall } from "../../../lib/call.ts";
import { MiB } from "../../../lib/units.ts";
import type { ImportBucket } from "../import/bucket.ts";

export interface BucketHarness {
  readonly bucket: ImportBucket;
  /** An object's bytes, read past the driver. */
  read(key: string): Promise<Uint8Array>;
  /** Somebody else puts an object. */
  put(key: string, data: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

const PART = 8 * MiB;

/** @param gaps clauses an emulator cannot keep, with the reason: skipped by name */
export function describeBucket(
  name: string,
  open: () => Promise<BucketHarness>,
  gaps: Readonly<Record<string, string>> = {},
): void {
  const unknown = new Set(Object.keys(gaps));
  function promise(title: string, body: () => Promise<void>): void {
    unknown.delete(title);
    if (gaps[title]) test.skip(`${title} (${gaps[title]})`, () => {});
    else test(title, body);
  }

  describe(`bucket: ${name}`, () => {
    const call = quietCall();
    let harness: BucketHarness;
    let bucket: ImportBucket;
    beforeEach(async () => {
      harness = await open();
      bucket = harness.bucket;
    });
    afterEach(async () => {
      await harness?.close();
    });
    const send = (disk: string, upload: string, number: number, data: Uint8Array) =>
      bucket.sendPart(disk, upload, number, data, createHash("sha256").update(data).digest("base64"), call);

    promise("parts that were sent and parts of zeros that were copied make the disk, in any order", async () => {
      const [first, last] = [randomBytes(PART), randomBytes(1000)];
      const bytes = 2 * PART + last.length;
      expect(await bucket.has("disk", bytes, call)).toBe(false);
      const upload = await bucket.begin("disk", bytes, call);
      const three = await send("disk", upload, 3, last);
      const two = await bucket.copyZeros("disk", upload, 2, PART, call);
      const one = await send("disk", upload, 1, first);
      await bucket.complete("disk", upload, [one, two, three], call);
      expect(await bucket.has("disk", bytes, call)).toBe(true);
      const made = Buffer.from(await harness.read(bucket.keyOf("disk")));
      expect(made.equals(Buffer.concat([first, Buffer.alloc(PART), last]))).toBe(true);
    });

    promise("what was sent is found again, page by page, and an upload that is gone is none", async () => {
      const upload = await bucket.begin("disk", 3 * PART, call);
      const one = await send("disk", upload, 1, randomBytes(PART));
      const two = await bucket.copyZeros("disk", upload, 2, PART, call);
      const found = (await bucket.parts("disk", upload, call)) ?? [];
      expect([...found].map(([number, { etag }]) => [number, etag])).toEqual([
        [1, one.etag],
        [2, two.etag],
      ]);
      expect(await bucket.uploads("disk", call)).toMatchObject([{ disk: "disk", upload }]);
      await bucket.abort("disk", upload, call);
      await bucket.abort("disk", upload, call);
      expect(await bucket.parts("disk", upload, call)).toBe(undefined);
      expect(await bucket.uploads(undefined, call)).toEqual([]);
    });

    promise("every part is listed with its checksum, which the end of the upload has to name", async () => {
      const upload = await bucket.begin("disk", 2 * PART, call);
      const sent = [
        await send("disk", upload, 1, randomBytes(PART)),
        await bucket.copyZeros("disk", upload, 2, PART, call),
      ];
      const found = await bucket.parts("disk", upload, call);
      expect([...(found?.values() ?? [])]).toEqual(sent);
      expect(sent.every(({ sha256 }) => sha256.length === 44)).toBe(true);
      const without = sent.map((part) => ({ ...part, sha256: "" }));
      await expect(bucket.complete("disk", upload, without, call)).rejects.toMatchObject({ code: "invalid" });
      await bucket.complete("disk", upload, [...found!.values()], call);
    });

    promise("a part that arrives damaged is refused", async () => {
      const upload = await bucket.begin("disk", PART, call);
      const wrong = createHash("sha256").update("something else").digest("base64");
      const sent = bucket.sendPart("disk", upload, 1, randomBytes(PART), wrong, call);
      await expect(sent).rejects.toMatchObject({ code: "unavailable" });
      expect(await bucket.parts("disk", upload, call)).toEqual(new Map());
    });

    promise("an object of the disk's name that is not the disk is somebody else's", async () => {
      await harness.put(bucket.keyOf("disk"), Buffer.from("mine"));
      await expect(bucket.has("disk", 4, call)).rejects.toMatchObject({ code: "already-exists" });
    });

    promise("whole disks are listed and removed, twice too", async () => {
      const upload = await bucket.begin("disk", 5, call);
      await bucket.complete("disk", upload, [await send("disk", upload, 1, Buffer.from("whole"))], call);
      await harness.put("elsewhere/other.raw", Buffer.from("not ours"));
      const listed: string[] = [];
      for await (const { disk, bytes } of bucket.objects(call)) listed.push(`${disk} ${bytes}`);
      expect(listed).toEqual(["disk 5"]);
      await bucket.remove("disk", call);
      await bucket.remove("disk", call);
      expect(await bucket.has("disk", 5, call)).toBe(false);
    });

    promise("a bucket that is there is found", async () => {
      await expect(bucket.look(call)).resolves.toBe(undefined);
    });

    test("every gap named is a clause", () => {
      expect([...unknown]).toEqual([]);
    });
  });
}
