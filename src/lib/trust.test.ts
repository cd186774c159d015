import { rootCertificates } from "node:tls";
import { expect, test } from "vitest";
import { trusting } from "./trust.ts";

test("one context for the same authorities, however often it is asked for", () => {
  const [one, other] = rootCertificates as [string, string];
  expect(trusting(one).secureContext).toBe(trusting(one).secureContext);
  expect(trusting(one).secureContext).not.toBe(trusting(other).secureContext);
  expect(trusting(one, undefined)).toEqual(trusting(one));
});

test("without private authorities Node's own trust is left alone", () => {
  expect(trusting()).toEqual({});
  expect(trusting(undefined)).toEqual({});
});
