import { defineStep } from "../../durable/index.ts";
import type { CallContext } from "../../lib/call.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
import { minutes } from "../../lib/units.ts";
import type { CloudImage, ErrorLike, Region } from "../../model.ts";
import { type Choice, type Chosen, type ChosenImage, readChosen } from "../chosen.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx, PlanningServices } from "../services.ts";

/** An image version in one target as the cloud has it now. */
export interface LookedAt extends ChosenImage {
  /** Region → state the catalog has. */
  readonly known: Readonly<Record<Region, CloudImage["state"]>>;
  /** The catalog has an image there, and the cloud has none or would not say. */
  readonly absent: readonly { readonly region: Region; readonly id: string; readonly error?: ErrorLike }[];
}

export interface LookedChosen extends Omit<Chosen, "images"> {
  readonly images: readonly LookedAt[];
}

/** Reads a choice from the catalog and asks the clouds for the state of every image of it. Changes nothing. */
export const lookAtImagesStep = defineStep({
  name: "look-at-images",
  retry: cloudRetry,
  timeoutMs: minutes(15),
  async run(ctx: Ctx, choice: Choice): Promise<LookedChosen> {
    const looked = await lookAtChosen(await readChosen(ctx.services.db, choice), ctx.services, ctx);
    const silent = looked.images.flatMap((image) => image.absent).find(({ error }) => error && isTransient(error));
    if (silent !== undefined && !ctx.last) ctx.log.warn("region does not answer", { region: silent.region });
    return looked;
  },
});

export async function lookAtChosen(
  chosen: Chosen,
  services: PlanningServices,
  call: CallContext,
): Promise<LookedChosen> {
  return { ...chosen, images: await Promise.all(chosen.images.map((image) => look(image, services, call))) };
}

async function look(chosen: ChosenImage, services: PlanningServices, call: CallContext): Promise<LookedAt> {
  const images: CloudImage[] = [];
  const absent: { region: Region; id: string; error?: ErrorLike }[] = [];
  await Promise.all(
    chosen.images.map(async (image) => {
      const { region, id } = image;
      try {
        const cloud = await services.targets.cloud(chosen.target, call);
        const found = await cloud.find(chosen.spec, region, call);
        if (found.image !== undefined) images.push(found.image);
        else absent.push({ region, id });
      } catch (error) {
        call.signal.throwIfAborted();
        absent.push({ region, id, error: reportOf(error) });
      }
    }),
  );
  const order = (region: Region) => chosen.images.findIndex((image) => image.region === region);
  images.sort((a, b) => order(a.region) - order(b.region));
  absent.sort((a, b) => order(a.region) - order(b.region));
  const known = Object.fromEntries(chosen.images.map((image) => [image.region, image.state]));
  return { ...chosen, images, absent, known };
}
