/**
 * The messages that say an image was promoted or rolled back after its release. Topics of our own beside
 * `published.v1`, with the same words in the same places, so that who binds `#.fedora_image_uploader.#` and reads
 * `compose_id` understands them. Body: docs/promotion.md. Fields are added, never renamed. Pure.
 */
import type { Json } from "../model.ts";
import { messageId, type OutgoingMessage } from "./outbox.ts";
import { APP, headersOf, topicWord } from "./published.ts";

export type OfferEvent = "promoted" | "rolled_back";

interface About {
  readonly event: OfferEvent;
  /** The run that did it: each run says it once. */
  readonly runId: string;
  readonly composeId: string;
  readonly kind: string;
  readonly release: number;
  readonly sentAt: Date;
}

/** One message per cloud, architecture and target. */
export function imageOffer(
  about: About & {
    readonly cloud: string;
    readonly target: string;
    readonly subvariant: string;
    readonly architecture: string;
    readonly imageName: string;
    readonly state: string;
    /** Region → id of what was changed. */
    readonly regions: Readonly<Record<string, string>>;
    /** Regions where it could not be done: there it is as it was. */
    readonly unchanged: readonly string[];
    /** Seconds in which some of the batch were offered and others not. */
    readonly offerSeconds?: number | undefined;
  },
): OutgoingMessage {
  const { event, cloud, composeId, imageName, regions } = about;
  const verb = event === "promoted" ? "promoted" : "rolled back";
  return {
    id: messageId(event, about.runId, about.target, imageName, about.architecture),
    topic: [baseOf(event), cloud, about.kind, topicWord(about.subvariant), topicWord(about.architecture)].join("."),
    headers: headersOf(`${baseOf(event)}.${cloud}`, about.sentAt),
    body: {
      architecture: about.architecture,
      compose_id: composeId,
      image_name: imageName,
      regions: { ...regions },
      unchanged_regions: [...about.unchanged],
      release: about.release,
      state: about.state,
      subvariant: about.subvariant,
      ...(about.offerSeconds === undefined ? {} : { offer_seconds: about.offerSeconds }),
    },
    summary: `${APP} ${verb} ${imageName} from compose ${composeId} in ${Object.keys(regions).length} regions`,
  };
}

/** One message per repository and registry. */
export function containerOffer(
  about: About & {
    readonly target: string;
    readonly registry: string;
    readonly repository: string;
    readonly digest: string;
    readonly architectures: readonly string[];
    readonly state: string;
    /** Floating tag → digest it points at now; null: it is gone. */
    readonly tags: Readonly<Record<string, string | null>>;
  },
): OutgoingMessage {
  const { event, composeId, registry, repository } = about;
  const verb = event === "promoted" ? "promoted" : "rolled back";
  const tags: Record<string, Json> = { ...about.tags };
  return {
    id: messageId(event, about.runId, about.target, repository),
    topic: [baseOf(event), "container", about.kind, topicWord(repository)].join("."),
    headers: headersOf(`${baseOf(event)}.container`, about.sentAt),
    body: {
      architectures: [...about.architectures],
      compose_id: composeId,
      digest: about.digest,
      registry,
      release: about.release,
      repository,
      state: about.state,
      tags,
    },
    summary: `${APP} ${verb} ${registry}/${repository} from compose ${composeId}`,
  };
}

function baseOf(event: OfferEvent): string {
  return `fedora_image_uploader.${event}.v1`;
}
