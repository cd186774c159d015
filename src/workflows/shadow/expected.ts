/**
 * What we would publish of a compose, if we released it. Made by the very functions that announce a release, from what
 * was planned instead of from what a cloud said: the two cannot say different things. Pure.
 */
import type { OutgoingMessage } from "../../bus/outbox.ts";
import type { PlannedGroup, PlannedImage, ReleaseAs, Selection } from "../../compose/index.ts";
import type { Json } from "../../model.ts";
import { announcement, containerAnnouncement, containerTags } from "../announcements.ts";
import type { ReleaseFacts } from "../groups.ts";
import type { TargetFacts } from "../services.ts";

/** One message as we would publish it; plain JSON, kept with the compose. */
export interface ExpectedMessage {
  /** Without the broker's prefix. */
  readonly topic: string;
  readonly schema: string;
  readonly severity: number;
  /** `null` stands for an id, or an address made of one, that only a cloud can give. */
  readonly body: Readonly<Record<string, Json>>;
  /** The target it is about; several where one message tells of all. */
  readonly targets: readonly string[];
  /** The account's other regions would be in it too; which those are was not asked. */
  readonly allRegions: boolean;
}

export interface ExpectOptions {
  /** Of a target of the configuration. Asks no cloud. */
  facts(target: string): Pick<TargetFacts, "audience" | "address">;
  /** The release would stop here, whatever the system's rules say. */
  readonly as?: "candidate" | undefined;
}

/** In the place of every id. No cloud gives such a one, and no name template can. */
const UNKNOWN = "\u0000unknown\u0000";
/** Says nothing: neither ids nor times of ours are compared. */
const NO_TIME = new Date(0);

/** In the order of the selection. What would be announced to nobody gives no message. */
export function expectedMessages(selection: Selection, options: ExpectOptions): ExpectedMessage[] {
  const facts: ReleaseFacts = {
    composeId: selection.compose,
    system: selection.system,
    kind: selection.kind,
    releaseNumber: selection.releaseNumber,
  };
  return selection.groups.flatMap((group) => {
    const releaseAs = options.as ?? group.releaseAs;
    if (group.kind === "container") return [ofContainer(facts, group, releaseAs, options)];
    return group.items.flatMap((item) => ofDisk(facts, item, releaseAs, options));
  });
}

function ofDisk(
  facts: ReleaseFacts,
  item: PlannedImage,
  releaseAs: ReleaseAs,
  { facts: factsOf }: ExpectOptions,
): ExpectedMessage[] {
  // An offer to nobody is none: a release leaves a candidate there.
  const state = factsOf(item.target).audience.to === "nobody" ? "candidate" : releaseAs;
  const images = item.regions.map((region) => ({ key: "", region, id: UNKNOWN, name: item.name, state }));
  const prepared = { target: item.target, images };
  return announcement(facts, item, prepared, state, NO_TIME).map((message) =>
    expected(message, [item.target], item.allRegions),
  );
}

function ofContainer(
  facts: ReleaseFacts,
  { items }: PlannedGroup,
  releaseAs: ReleaseAs,
  { facts: factsOf }: ExpectOptions,
): ExpectedMessage {
  const first = items[0]!;
  const targets = [...new Set(items.map((item) => item.target))];
  const message = containerAnnouncement(
    facts,
    {
      repository: first.repository ?? first.name,
      architectures: [...new Set(items.map((item) => item.arch))],
      registries: targets.map((target) => ({ address: factsOf(target).address, digest: UNKNOWN })),
      tags: containerTags(first, releaseAs),
    },
    NO_TIME,
  );
  return expected(message, targets, false);
}

function expected({ topic, headers, body }: OutgoingMessage, targets: string[], allRegions: boolean): ExpectedMessage {
  return {
    topic,
    schema: String(headers.fedora_messaging_schema),
    severity: Number(headers.fedora_messaging_severity),
    body: withoutIds(body) as Record<string, Json>,
    targets,
    allRegions,
  };
}

function withoutIds(value: Json): Json {
  if (typeof value === "string") return value.includes(UNKNOWN) ? null : value;
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(withoutIds);
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, withoutIds(one)]));
}
