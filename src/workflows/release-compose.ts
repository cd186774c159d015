/**
 * The story of a compose in one system: read the metadata, start a run for every group, wait for all. Groups never wait
 * for each other, and one that fails takes no other with it.
 */
import { createHash } from "node:crypto";
import { defineWorkflow, type Flow } from "../durable/index.ts";
import { reportOf, SlipwayError } from "../lib/errors.ts";
import type { DiskGroup, GroupOutcome, ReleaseFacts, ReleaseOutcome } from "./groups.ts";
import { releaseContainer } from "./release-container.ts";
import { releaseDisk } from "./release-disk.ts";
import type { Services } from "./services.ts";
import { readComposeStep } from "./steps/read-compose.ts";

export interface ReleaseInput {
  /** The `compose/` directory as a URL. */
  readonly location: string;
  readonly system: string;
  /** What the caller saw there: a directory whose content was exchanged meanwhile is not released. */
  readonly composeId: string;
  /** Stop before the offer, whatever the system's rules say. */
  readonly as?: "candidate";
}

/** Names of the durable queues: one per cloud, so that one that is slow or down holds up no other. */
export const QUEUES = [
  "releases",
  "aws",
  "azure",
  "gcp",
  "local",
  "registry",
  "mixed",
  "offers",
  "events",
  "playbooks",
] as const;

export const releaseCompose = defineWorkflow({
  name: "release-compose",
  async run(flow: Flow<Services>, input: ReleaseInput): Promise<ReleaseOutcome> {
    const { location, system, composeId, as } = input;
    const selection = await flow.step(readComposeStep, { location, system }, { key: "read compose" });
    if (selection.compose !== composeId) {
      throw new SlipwayError("conflict", `the compose there is ${selection.compose}, not ${composeId}`, {
        subject: location,
        next: "Start the release again to take what is there now.",
      });
    }
    const facts: ReleaseFacts = {
      composeId,
      system,
      kind: selection.kind,
      ...(selection.label === undefined ? {} : { label: selection.label }),
      releaseNumber: selection.releaseNumber,
    };
    const outcomes = await flow.settle(
      selection.groups.map((planned) => async () => {
        const group: DiskGroup = {
          facts,
          id: planned.id,
          items: planned.items,
          offerWhen: planned.offerWhen,
          releaseAs: as ?? planned.releaseAs,
        };
        const workflow = planned.kind === "container" ? releaseContainer : releaseDisk;
        const handle = await flow.start(workflow, group, {
          runId: `${flow.runId}.${shortHash(planned.id)}`,
          queue: queueOf(planned.items.map((item) => item.cloud)),
          title: titleOf(group, planned.kind),
          labels: { compose: composeId, system, group: planned.id },
        });
        return handle.result();
      }),
    );
    const groups = outcomes.map((outcome, position): GroupOutcome => {
      if (outcome.ok) return outcome.value;
      const planned = selection.groups[position]!;
      const error = reportOf(outcome.error);
      return {
        id: planned.id,
        targets: planned.items.map((item) => ({
          target: item.target,
          cloud: item.cloud,
          arch: item.arch,
          name: item.name,
          state: "failed",
          regions: {},
          missing: [],
          sentBytes: 0,
          error,
        })),
      };
    });
    return { composeId, system, result: resultOf(groups), groups, skipped: selection.skipped };
  },
});

/** Pure. A target that lacks a region is not done, even if the quorum let it be offered; nor is what lacks its signature. */
export function resultOf(groups: readonly GroupOutcome[]): ReleaseOutcome["result"] {
  const targets = groups.flatMap((group) => group.targets);
  if (targets.length === 0) return "nothing";
  const failed = targets.filter((target) => target.state === "failed");
  if (failed.length === targets.length) return "failed";
  if (failed.length > 0 || targets.some((target) => target.missing.length > 0)) return "partial";
  return groups.some((group) => group.unattested !== undefined) ? "partial" : "done";
}

function queueOf(clouds: readonly string[]): string {
  const [first, ...others] = [...new Set(clouds)];
  return first !== undefined && others.length === 0 ? first : "mixed";
}

function titleOf(group: DiskGroup, kind: "disk" | "container"): string {
  const first = group.items[0]!;
  const targets = [...new Set(group.items.map((item) => item.target))].join(", ");
  return kind === "container" ? `${first.repository ?? first.name} → ${targets}` : `${first.name} → ${targets}`;
}

function shortHash(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 10);
}
