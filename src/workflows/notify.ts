import type { Notice } from "../clouds/cloud.ts";
import type { Flow } from "../durable/index.ts";
import { reportOf } from "../lib/errors.ts";
import type { CloudImage, ImageSpec } from "../model.ts";
import type { Services } from "./services.ts";
import { notifySubscribersStep } from "./steps/notify-subscribers.ts";

export interface Changed {
  readonly target: string;
  readonly spec: ImageSpec;
  /** Those that changed; of none nothing is told. */
  readonly images: readonly CloudImage[];
}

/** Comes after the record: what is told is true. A notice that cannot be sent takes nothing from what was done. */
export async function notify(
  flow: Flow<Services>,
  change: Notice["change"],
  changed: readonly Changed[],
): Promise<void> {
  const told = changed.filter(({ images }) => images.length > 0);
  const outcomes = await flow.settle(
    told.map(({ target, spec, images }) => () => {
      const notice = { change, spec, images };
      return flow.step(notifySubscribersStep, { target, notice }, { key: `notify ${target} ${spec.key}` });
    }),
  );
  outcomes.forEach((outcome, position) => {
    if (outcome.ok) return;
    const { target, spec } = told[position]!;
    flow.log.warn("subscribers are not notified", { target, name: spec.name, error: reportOf(outcome.error) });
  });
}
