/** From what was prepared to the message that readers know. Pure. */
import type { OutgoingMessage } from "../bus/outbox.ts";
import {
  awsPublished,
  azurePublished,
  containerPublished,
  fedimgPublished,
  gcpPublished,
  type MessageStyle,
  USUAL_STYLE,
} from "../bus/published.ts";
import type { PlannedImage, ReleaseAs } from "../compose/index.ts";
import type { ImageSpec } from "../model.ts";
import type { Prepared, ReleaseFacts } from "./groups.ts";

/** What a message says of a planned image. */
export type Announced = Pick<PlannedImage, "cloud" | "arch" | "name" | "definition" | "version" | "family"> & {
  readonly artifact: Pick<PlannedImage["artifact"], "subvariant">;
  /** AWS's; gp3 if absent, as everywhere. */
  readonly volumeType?: string | undefined;
};

/**
 * The message for one image in one target: one per cloud and architecture, with its whole region map.
 *
 * Its id is derived from the map too: the same map is the same message however often it is written, and a map that has
 * grown because late regions healed is a second message. Clouds that no reader listens for give none, and neither does
 * a candidate on AWS or GCP, which nobody can start; on Azure a candidate can, and testers wait to be told.
 */
export function announcement(
  facts: ReleaseFacts,
  item: Announced,
  prepared: Pick<Prepared, "target" | "images">,
  state: "active" | "candidate",
  sentAt: Date,
  style: MessageStyle = USUAL_STYLE,
): OutgoingMessage[] {
  const regions = Object.fromEntries(prepared.images.map((image) => [image.region, image.id]));
  const common = {
    composeId: facts.composeId,
    kind: facts.kind,
    release: facts.releaseNumber,
    subvariant: item.artifact.subvariant,
    architecture: item.arch,
    edition: JSON.stringify([prepared.target, regions]),
    sentAt,
    style,
  };
  switch (item.cloud) {
    case "aws":
      if (state === "candidate") return [];
      return [
        awsPublished({ ...common, imageName: item.name, regions }),
        ...(style.fedimg ? fedimgMessages(item, common, regions) : []),
      ];
    case "azure": {
      const { definition, version } = item;
      if (definition === undefined || version === undefined) return [];
      const resourceId = prepared.images[0]?.id ?? "";
      return [azurePublished({ ...common, definition, version, resourceId, regions: Object.keys(regions) })];
    }
    case "gcp": {
      const { family, name } = item;
      const id = prepared.images[0]?.id;
      // A candidate is open to nobody.
      if (state === "candidate" || family === undefined || id === undefined) return [];
      const imageUrl = `https://www.googleapis.com/compute/v1/${id}`;
      return [gcpPublished({ ...common, imageName: name, family, imageUrl, storageLocations: Object.keys(regions) })];
    }
    default:
      return [];
  }
}

export function withVolume<T extends object>(item: T, spec: ImageSpec): T & { volumeType: string | undefined } {
  return { ...item, volumeType: spec.aws?.volume?.type };
}

/** Its readers know a file's name, and volumes by their type. */
function fedimgMessages(
  item: Announced,
  common: Omit<Parameters<typeof fedimgPublished>[0], "imageName" | "volumeType" | "region" | "amiId">,
  regions: Readonly<Record<string, string>>,
): OutgoingMessage[] {
  const volumeType = item.volumeType ?? "gp3";
  return Object.entries(regions).map(([region, amiId]) =>
    fedimgPublished({ ...common, imageName: item.name, volumeType, region, amiId }),
  );
}

/** The tags a release gives to an index: its own first, then those that move, if it is offered. */
export function containerTags(
  { versionTag, tags: floating = [] }: Pick<PlannedImage, "versionTag" | "tags">,
  releaseAs: ReleaseAs,
): string[] {
  return [...(versionTag === undefined ? [] : [versionTag]), ...(releaseAs === "active" ? floating : [])];
}

export function containerAnnouncement(
  facts: ReleaseFacts,
  container: {
    repository: string;
    architectures: readonly string[];
    registries: readonly { address: string; digest: string }[];
    tags: readonly string[];
  },
  sentAt: Date,
  style: MessageStyle = USUAL_STYLE,
): OutgoingMessage {
  return containerPublished({
    style,
    composeId: facts.composeId,
    kind: facts.kind,
    release: facts.releaseNumber,
    architectures: container.architectures,
    registries: container.registries.map((registry) => registry.address),
    repository: container.repository,
    tags: container.tags,
    edition: JSON.stringify([container.registries, container.tags]),
    sentAt,
  });
}
