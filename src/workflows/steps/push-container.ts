import { defineStep } from "../../durable/index.ts";
import { openContainer } from "../../images/archives/open-container.ts";
import { isTransient, reportOf } from "../../lib/errors.ts";
import { hours } from "../../lib/units.ts";
import type { Artifact, ErrorLike } from "../../model.ts";
import type { IndexEntry } from "../../registries/registry.ts";
import { cloudRetry } from "../policies.ts";
import type { Ctx } from "../services.ts";

export type Pushed =
  | { readonly target: string; readonly entry: IndexEntry; readonly sentBytes: number }
  | { readonly target: string; readonly error: ErrorLike };

/**
 * Pushes one architecture's image by digest to every registry of its group; no tag is touched. Safe to repeat: what a
 * registry has is not sent. One registry's failure is an outcome, repeated while it may recover.
 */
export const pushContainerStep = defineStep({
  name: "push-container",
  retry: cloudRetry,
  timeoutMs: hours(1),
  async run(
    ctx: Ctx,
    input: { artifact: Artifact; repository: string; targets: readonly string[] },
  ): Promise<Pushed[]> {
    const { artifact, repository, targets } = input;
    const image = await openContainer(artifact, { source: ctx.services.sources }, ctx);
    try {
      const failures: unknown[] = [];
      const pushed: Pushed[] = [];
      // One after the other: a compressed archive is decoded anew for each, and two decoders would need twice the memory.
      for (const target of targets) {
        try {
          const registry = await ctx.services.targets.registry(target, ctx);
          const { sentBytes, ...entry } = await registry.push(repository, image, {
            signal: ctx.signal,
            log: ctx.log,
            onProgress: ctx.progress,
          });
          ctx.log.info("pushed", { target, repository, arch: artifact.arch, digest: entry.digest, sentBytes });
          pushed.push({ target, entry, sentBytes });
        } catch (error) {
          ctx.signal.throwIfAborted();
          failures.push(error);
          pushed.push({ target, error: reportOf(error) });
        }
      }
      const again = failures.find(isTransient);
      if (again !== undefined && !ctx.last) throw again;
      return pushed;
    } finally {
      await image.close();
    }
  },
});
