import { defineStep } from "../../durable/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage } from "../../model.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export interface Testimony {
  /** Images that a witness was asked about. */
  readonly asked: number;
  /** Those it saw and should not, or should see and did not. */
  readonly wrong: readonly { readonly target: string; readonly region: string; readonly id: string }[];
}

/**
 * Asks a second identity without rights in the account what it sees: before the offer nothing, after it everything.
 * Targets without a witness, or whose images are not for everybody, are not asked. What is not seen yet is looked for
 * again while attempts are left.
 */
export const witnessImagesStep = defineStep({
  name: "witness-images",
  retry: cloudRetry,
  timeoutMs: minutes(10),
  async run(
    ctx: Ctx,
    input: {
      images: readonly { readonly target: string; readonly images: readonly CloudImage[] }[];
      wanted: "visible" | "hidden";
    },
  ): Promise<Testimony> {
    let asked = 0;
    const wrong: { target: string; region: string; id: string }[] = [];
    for (const { target, images } of input.images) {
      const { audience } = ctx.services.targets.facts(target);
      const cloud = await ctx.services.targets.cloud(target, ctx);
      if (cloud.witness === undefined || audience.to !== "public" || images.length === 0) continue;
      const seen = await cloud.witness(images, ctx);
      asked += images.length;
      images.forEach(({ region, id }, position) => {
        if (seen[position] !== (input.wanted === "visible")) wrong.push({ target, region, id });
      });
    }
    const [first] = wrong;
    // Permissions take a while to arrive everywhere; that they leave is not waited for.
    if (first !== undefined && !ctx.last) {
      throw new SlipwayError("unavailable", `the witness ${input.wanted === "visible" ? "does not see" : "sees"} it`, {
        subject: `${first.region} ${first.id}`,
      });
    }
    return { asked, wrong };
  },
});
