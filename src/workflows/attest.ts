import type { Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { ErrorLike } from "../model.ts";
import type { Services } from "./services.ts";
import { type AttestInput, attestReleaseStep } from "./steps/attest-release.ts";

/** What is out is out: a statement that could not be signed is said, and takes nothing back. */
export async function attest(flow: Flow<Services>, input: AttestInput): Promise<ErrorLike | undefined> {
  const [outcome] = await flow.settle([() => flow.step(attestReleaseStep, input, { key: "attest" })]);
  if (outcome === undefined || outcome.ok) return undefined;
  const error = reportOf(outcome.error);
  flow.log.warn("not attested", { error });
  return error;
}
