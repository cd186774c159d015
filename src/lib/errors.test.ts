import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ERROR_CODES, errorFrom, isTransient, reportOf, SlipwayError } from "./errors.ts";

test("the documented codes are the codes there are, and the table says truly which are tried again", () => {
  const page = readFileSync(new URL("../../docs/errors.md", import.meta.url), "utf8");
  const rows = [...page.matchAll(/^\| `([a-z-]+)` \|[^|]*\| (yes|no) \|/gm)].map(([, code, again]) => [code, again]);
  expect(rows).toEqual(ERROR_CODES.map((code) => [code, isTransient(new SlipwayError(code, "")) ? "yes" : "no"]));
});

test("an error comes back from storage with everything it said", () => {
  const error = Object.assign(new SlipwayError("quota", "full", { subject: "ami", next: "retire some" }), {
    cloud: "aws",
    region: "us-east-1",
    requestId: "r-1",
  });
  expect(reportOf(errorFrom(JSON.parse(JSON.stringify(reportOf(error)))))).toEqual(reportOf(error));
});

test("what is not ours is unknown, and an abort is a cancellation", () => {
  expect(reportOf(new TypeError("x is not a function")).code).toBe("unknown");
  expect(reportOf(new DOMException("stop", "AbortError")).code).toBe("cancelled");
});
