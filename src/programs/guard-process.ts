/**
 * The process that outlives a worker: when the worker is gone, however it went, it kills what the worker's programs are.
 *
 * On standard input one line a change: `+DIRECTORY` when a place is made, `-DIRECTORY` when it was removed. The end of
 * the input is the end of the worker. @see guard.ts
 */
import { createInterface } from "node:readline";
import { abandonPlace } from "./private-place.ts";

const places = new Set<string>();
for await (const line of createInterface({ input: process.stdin })) {
  if (line.startsWith("+")) places.add(line.slice(1));
  else places.delete(line.slice(1));
}
await Promise.all([...places].map(abandonPlace));
