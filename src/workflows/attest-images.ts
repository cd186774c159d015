/** Statements about what was released before: where a key came later, changed, or could not be used at the time. */
import { defineWorkflow, type Engine, type Flow } from "../durable/index.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import type { ErrorLike } from "../model.ts";
import type { Choice } from "./chosen.ts";
import type { Services } from "./services.ts";
import { type StartedOnce, startOnce } from "./start-once.ts";
import { attestReleaseStep } from "./steps/attest-release.ts";

export interface AttestOutcome {
  readonly result: "done" | "partial" | "failed" | "nothing";
  /** Statements that are new. */
  readonly attested: number;
  /** Those that said the same before. */
  readonly unchanged: number;
  /** Ids of versions and containers. */
  readonly failed: readonly { readonly id: string; readonly error: ErrorLike }[];
}

export const attestImages = defineWorkflow({
  name: "attest-images",
  async run(flow: Flow<Services>, choice: Choice): Promise<AttestOutcome> {
    const versions = [...new Set(choice.images.map(({ versionId }) => versionId))];
    const subjects = [
      ...versions.map((id) => ({ id, versions: [id], containers: [] })),
      ...choice.containers.map((id) => ({ id, versions: [], containers: [id] })),
    ];
    const outcomes = await flow.settle(
      subjects.map(
        ({ id, ...input }) =>
          () =>
            flow.step(attestReleaseStep, input, { key: `attest ${id}` }),
      ),
    );
    const sum = (what: "attested" | "unchanged") =>
      outcomes.reduce((total, outcome) => total + (outcome.ok ? outcome.value[what] : 0), 0);
    const failed = outcomes.flatMap((outcome, position) =>
      outcome.ok ? [] : [{ id: subjects[position]!.id, error: reportOf(outcome.error) }],
    );
    const [attested, unchanged] = [sum("attested"), sum("unchanged")];
    const worked = attested + unchanged > 0;
    const result = failed.length > 0 ? (worked ? "partial" : "failed") : attested > 0 ? "done" : "nothing";
    return { result, attested, unchanged, failed };
  },
});

/**
 * A run of the same choice that is under way is joined.
 * @throws SlipwayError `invalid` if no key is configured, and what opening it throws
 */
export async function startAttest(
  engine: Engine<Services>,
  services: Services,
  choice: Choice,
  title: string,
): Promise<StartedOnce<AttestOutcome>> {
  if ((await services.attester.signer()) === undefined) {
    throw new SlipwayError("invalid", "there is no key to sign with", {
      subject: "attestations.key",
      next: "Set it to {file: PATH} or {env: NAME} of a private key; docs/attestation.md says how to make one.",
    });
  }
  return startOnce(engine, attestImages, choice, { verb: "attest", thing: choice, title: `attest ${title}` });
}
