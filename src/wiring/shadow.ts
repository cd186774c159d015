/**
 * What a shadow may not do, refused for everybody at once: commands, the console, and runs that were begun before the
 * configuration said that this is one.
 */
import type { Engine } from "../durable/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { handleEvent, type Services } from "../workflows/index.ts";
import type { OpenTargets } from "./targets.ts";

/** The queue of what looks at events. Whatever waits in the others waits until this is no shadow. */
export const SHADOW_QUEUES: readonly string[] = ["events"];

/** The same targets by name, none of which can be opened: no credential is read, no cloud is asked. */
export function withoutDrivers(targets: OpenTargets): OpenTargets {
  const refuse = async (target: string): Promise<never> => {
    throw inShadow(`${target} is not opened`);
  };
  return { ...targets, cloud: refuse, registry: refuse, uploading: ([target]) => refuse(target ?? "a target") };
}

/** Runs of events are started; nothing that they, or a person, could start is. */
export function withoutReleases(engine: Engine<Services>): Engine<Services> {
  return {
    ...engine,
    // Not copied: it changes.
    get working() {
      return engine.working;
    },
    async start(workflow, input, options) {
      if (workflow.name !== handleEvent.name) throw inShadow(`${workflow.name} is not started`);
      return engine.start(workflow, input, options);
    },
    async resume() {
      throw inShadow("nothing is resumed");
    },
  };
}

function inShadow(what: string): SlipwayError {
  return new SlipwayError("unsupported", `${what}: this is a shadow, which only compares`, {
    subject: "shadow",
    next: "Take `shadow:` out of the configuration to release, or use one without it.",
  });
}
