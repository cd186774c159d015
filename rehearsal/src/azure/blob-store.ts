/** What the blob service keeps: containers, page blobs, their properties, and a record of every page write. */
import { createPageData, type PageData } from "./page-data.ts";

export interface Lease {
  readonly id: string;
  /** Milliseconds since 1970, or Infinity. */
  readonly until: number;
  /** Seconds; -1 = without end. */
  readonly seconds: number;
  /** Ended by a break, not by time. */
  readonly broken?: boolean;
}

export interface BlobHttpHeaders {
  contentType?: string;
  contentMd5?: string;
  contentEncoding?: string;
  contentLanguage?: string;
  contentDisposition?: string;
  cacheControl?: string;
}

export interface Blob {
  readonly name: string;
  readonly data: PageData;
  readonly created: number;
  modified: number;
  etag: string;
  sequence: number;
  /** Names as the client wrote them, in order. */
  metadata: [string, string][];
  http: BlobHttpHeaders;
  tags: [string, string][];
  lease: Lease | undefined;
}

export interface Container {
  readonly name: string;
  readonly blobs: Map<string, Blob>;
  modified: number;
  etag: string;
  metadata: [string, string][];
}

/** One accepted Put Page. */
export interface PageWrite {
  readonly container: string;
  readonly blob: string;
  readonly kind: "update" | "clear";
  readonly offset: number;
  readonly bytes: number;
}

/** Far beyond any test; a rehearsal that is left on for days must not grow without end. */
const MOST_WRITES_KEPT = 200_000;

export class BlobStore {
  readonly containers = new Map<string, Container>();
  /** Oldest first, those to deleted blobs included. */
  readonly writes: PageWrite[] = [];
  readonly #directory: string | undefined;
  #etags = 0;

  constructor(directory: string | undefined) {
    this.#directory = directory;
  }

  /** Unique and never seen before, in the service's form. */
  nextEtag(): string {
    this.#etags++;
    return `"0x8DE${this.#etags.toString(16).toUpperCase().padStart(12, "0")}"`;
  }

  find(container: string, blob: string): Blob | undefined {
    return this.containers.get(container)?.blobs.get(blob);
  }

  createContainer(name: string, metadata: [string, string][], now: number): Container {
    const container: Container = { name, metadata, modified: now, etag: this.nextEtag(), blobs: new Map() };
    this.containers.set(name, container);
    return container;
  }

  /** Room for the bytes of a blob to come. */
  emptyData(bytes: number): Promise<PageData> {
    return createPageData(bytes, this.#directory);
  }

  /** Puts an empty page blob in the place of the one of that name. */
  createBlob(container: Container, name: string, data: PageData, now: number): Blob {
    const old = container.blobs.get(name);
    const blob: Blob = {
      name,
      data,
      created: now,
      modified: now,
      etag: this.nextEtag(),
      sequence: 0,
      metadata: [],
      http: {},
      tags: [],
      lease: old?.lease,
    };
    container.blobs.set(name, blob);
    void old?.data.release();
    return blob;
  }

  async deleteBlob(container: Container, blob: Blob): Promise<void> {
    container.blobs.delete(blob.name);
    await blob.data.release();
  }

  touch(blob: Blob, now: number): void {
    blob.modified = now;
    blob.etag = this.nextEtag();
  }

  record(write: PageWrite): void {
    this.writes.push(write);
    if (this.writes.length > MOST_WRITES_KEPT) this.writes.splice(0, MOST_WRITES_KEPT / 2);
  }

  clear(): void {
    for (const container of this.containers.values()) {
      for (const blob of container.blobs.values()) void blob.data.release();
    }
    this.containers.clear();
    this.writes.length = 0;
  }
}
