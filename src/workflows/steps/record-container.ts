import { enqueueMessages } from "../../bus/outbox.ts";
import { recordContainer } from "../../catalog/catalog.ts";
import { defineStep } from "../../durable/index.ts";
import { minutes } from "../../lib/units.ts";
import { containerAnnouncement } from "../announcements.ts";
import type { ReleaseFacts } from "../groups.ts";
import { databaseRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

/** Records a repository's new index in every registry, with the one message that announces it, in one transaction. */
export const recordContainerStep = defineStep({
  name: "record-container",
  retry: databaseRetry,
  timeoutMs: minutes(2),
  async run(
    ctx: Ctx,
    input: {
      facts: ReleaseFacts;
      repository: string;
      architectures: readonly string[];
      tags: readonly string[];
      state: "candidate" | "active";
      /** Tags that follow when it is offered. */
      floating: readonly string[];
      written: readonly { target: string; digest: string }[];
    },
  ): Promise<null> {
    const { facts, repository, architectures, tags, state, floating, written } = input;
    const { services } = ctx;
    const registries = written.map(({ target, digest }) => ({
      target,
      digest,
      address: services.targets.facts(target).address,
    }));
    const said = { repository, architectures, registries, tags };
    const message = containerAnnouncement(facts, said, services.now(), services.messages);
    await services.db.transaction().execute(async (tx) => {
      for (const { target, address, digest } of registries) {
        await recordContainer(
          tx,
          {
            system: facts.system,
            composeId: facts.composeId,
            kind: facts.kind,
            target,
            registry: address,
            repository,
            digest,
            tags,
            state,
            floating,
            architectures,
            release: facts.releaseNumber,
          },
          ctx.run.id,
        );
      }
      await enqueueMessages(tx, [message], ctx.run.id);
    });
    return null;
  },
});
