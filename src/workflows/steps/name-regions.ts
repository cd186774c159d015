import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import type { Region } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import { allRegions } from "../regions.ts";
import type { Ctx } from "../services.ts";

/**
 * Which regions `all` means, asked once and kept: a run that goes on tomorrow means the same ones.
 * @throws CloudError `unsupported` for a cloud that cannot be asked
 */
export const nameRegionsStep = defineStep({
  name: "name-regions",
  retry: cloudRetry,
  timeoutMs: minutes(5),
  run: (ctx: Ctx, input: { target: string; home: Region }): Promise<readonly Region[]> =>
    allRegions(ctx.services, input.target, input.home, ctx),
});
