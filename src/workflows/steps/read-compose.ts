import { readCompose, type Selection, selectImages } from "../../compose/index.ts";
import { defineStep } from "../../durable/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import { fetchComposeFiles } from "../compose-files.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface ReadComposeOutput extends Selection {
  readonly label?: string;
}

/** Fetches the metadata and decides what goes where. No image is touched. */
export const readComposeStep = defineStep({
  name: "read-compose",
  retry: cloudRetry,
  timeoutMs: minutes(5),
  async run(ctx: Ctx, input: { location: string; system: string }): Promise<ReadComposeOutput> {
    const { services } = ctx;
    const system = services.systems.find((candidate) => candidate.name === input.system);
    if (system === undefined) {
      throw new SlipwayError("not-found", `no system is called ${input.system}`, {
        subject: "systems",
        next: `the configuration has: ${services.systems.map((known) => known.name).join(", ")}`,
      });
    }
    const compose = readCompose(await fetchComposeFiles(input.location, services.sources, ctx));
    const selection = selectImages(compose, system, services.releases, services.targets.plan);
    ctx.log.info("compose read", {
      compose: compose.id,
      artifacts: compose.artifacts.length,
      groups: selection.groups.length,
      skipped: selection.skipped.length,
    });
    return { ...selection, ...(compose.label === undefined ? {} : { label: compose.label.text }) };
  },
});
