import type http from "node:http";
import { afterEach, describe, expect, test } from "vitest";
import { serve } from "../../rehearsal/src/tls.ts";
import { quietCall } from "../lib/call.ts";
import { openRegistry } from "./index.ts";

const DEADLINE_MS = 150;

/** Peers that take every connection and request, and then go quiet or say next to nothing. */
const QUIET: Record<string, http.RequestListener> = {
  "answers nothing": () => {},
  "answers headers and stops": (_request, response) => {
    response.writeHead(200, { "content-type": "application/vnd.oci.image.index.v1+json", "content-length": "1000" });
    response.write("{");
  },
  "says a byte now and then": (_request, response) => {
    response.writeHead(200, { "content-type": "application/vnd.oci.image.index.v1+json" });
    const dripping = setInterval(() => response.write(" "), DEADLINE_MS / 5);
    response.on("close", () => clearInterval(dripping));
  },
};

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

describe.each(Object.keys(QUIET))("a registry that %s", (how) => {
  test("is unavailable after the deadline", async () => {
    const peer = await serve(QUIET[how]!);
    const registry = openRegistry({
      ...{ url: `${new URL(peer.url).host}/fedora`, insecure: true, retryDelaysMs: [1] },
      patience: { firstByteMs: DEADLINE_MS, idleMs: DEADLINE_MS, wholeMs: DEADLINE_MS },
    });
    closing.push(
      () => registry.close(),
      () => peer.close(),
    );
    for (const ask of [
      () => registry.find("fedora", "latest", quietCall()),
      () => registry.tags("fedora", quietCall()),
      () => registry.referrers("fedora", `sha256:${"a".repeat(64)}`, undefined, quietCall()),
    ]) {
      await expect(ask()).rejects.toMatchObject({ code: "unavailable" });
    }
  });
});
