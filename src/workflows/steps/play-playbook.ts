import { relative } from "node:path";
import type { PlaybookAction } from "../../config/index.ts";
import { defineStep } from "../../durable/index.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { namedPlaybook, playbookForTopic } from "../../programs/playbooks/find-playbook.ts";
import type { PlayResult } from "../../programs/playbooks/play.ts";
import { type ActsAs, actsAs } from "../automation-user.ts";
import { receivedEvent } from "../received-event.ts";
import type { Ctx } from "../services.ts";
import { NOT_DONE } from "../shadow/expect-release.ts";

export interface Played {
  readonly playbook: string;
  readonly as: Omit<ActsAs, "privateKeyFile">;
  readonly hosts: PlayResult["hosts"];
  readonly changed: boolean;
  readonly tolerated: PlayResult["tolerated"];
}

export interface PlayInput {
  readonly eventId: string;
  readonly rule: string;
  readonly action: PlaybookAction;
}

/**
 * At least once: a playbook whose machine died is run again from its beginning, or held for a person if the rule says so.
 * What an earlier attempt left on this host is killed first.
 */
export function playPlaybookStep(policy: { attempts: number; backoff: number; timeout: number }) {
  return defineStep({
    name: "play-playbook",
    retry: { attempts: policy.attempts, backoffMs: policy.backoff, factor: 2, maxMs: policy.backoff * 32 },
    // The playbook's own limit comes first, so that its processes are ended in good order.
    timeoutMs: policy.timeout + END_MS,
    async run(ctx: Ctx, { eventId, rule, action }: PlayInput): Promise<Played> {
      const { playbooks, shadow } = ctx.services.automation;
      if (shadow !== undefined) throw new SlipwayError("unsupported", NOT_DONE);
      if (playbooks === undefined) {
        throw new SlipwayError("invalid", "no directory of playbooks is configured", {
          next: "Set automation.playbooks.",
        });
      }
      const event = await receivedEvent(ctx.services.db, eventId);
      const playbook =
        action.name === undefined
          ? await playbookForTopic(playbooks.directory, event.topic, playbooks.layout)
          : await namedPlaybook(playbooks.directory, action.name);
      const path = relative(playbook.directory, playbook.file);
      const { privateKeyFile, ...as } = actsAs(action, path, playbooks);
      await heldAfterCrash(ctx, action, eventId, rule);
      const secrets = await Promise.all(
        Object.entries(action.secrets).map(async ([name, ref]) => [name, await playbooks.secret(ref)] as const),
      );
      ctx.log.info("playbook", {
        playbook: path,
        user: as.user ?? "none",
        limit: as.limit ?? "all",
        attempt: ctx.attempt,
      });
      // Right before it acts: who lost the lease meanwhile does not.
      await ctx.lease.assert();
      const inventory = action.inventory ?? playbooks.inventory;
      const { hosts, changed, tolerated } = await playbooks.runner.play(
        {
          ...{ playbook, event, runId: ctx.run.id, root: playbooks.root, owner: `${ctx.run.id} ${ctx.run.step}` },
          timeoutMs: policy.timeout,
          limits: playbooks.limits,
          environment: {
            ...(playbooks.path === undefined ? {} : { PATH: playbooks.path }),
            ...Object.fromEntries(secrets),
          },
          secrets: secrets.map(([, value]) => value),
          ...(inventory === undefined ? {} : { inventory }),
          ...(playbooks.vaultPasswordFile === undefined ? {} : { vaultPasswordFile: playbooks.vaultPasswordFile }),
          ...(as.remoteUser === undefined ? {} : { remoteUser: as.remoteUser }),
          ...(privateKeyFile === undefined ? {} : { privateKeyFile }),
          ...(as.serviceAccount === undefined ? {} : { serviceAccount: as.serviceAccount }),
          ...(as.become ? { become: true } : {}),
          ...(as.limit === undefined ? {} : { limit: as.limit }),
          ...(action.tags === undefined ? {} : { tags: action.tags }),
          ...(action.check ? { check: true } : {}),
        },
        ctx,
      );
      return { playbook: path, as, hosts, changed, tolerated };
    },
  });
}

/** Asking a tree to end, killing it, and reading its last words. */
const END_MS = 30_000;

/** @throws SlipwayError `conflict` when an earlier attempt was cut off and the rule wants a person to look */
async function heldAfterCrash(ctx: Ctx, action: PlaybookAction, eventId: string, rule: string): Promise<void> {
  if (action.on_takeover === "rerun" || ctx.attempt === 1) return;
  const engine = await ctx.services.automation.engine();
  const steps = await engine.steps(ctx.run.id);
  const earlier = steps.find(({ key }) => key === ctx.run.step)?.attempts ?? [];
  if (!earlier.some(({ state }) => state === "abandoned")) return;
  throw new SlipwayError("conflict", "the playbook was cut off in the middle, and the rule holds it for a person", {
    subject: eventId,
    tried: `attempt ${ctx.attempt - 1} was begun and never ended`,
    next: `Look what it did, then: slipway events replay ${eventId} --rule ${rule}.`,
  });
}
