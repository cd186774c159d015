/**
 * The messages that announce a published image, as readers of `fedora_image_uploader.published.v1.*` know them
 * (websites' get-amis, test consumers, mirrors of AMI lists). Topic, header, body and summary are an API: fields are
 * added only when every listed reader tolerates them. Pure.
 */
import type { Json } from "../model.ts";
import { messageId, type OutgoingMessage } from "./outbox.ts";

/** Facts common to the messages of one image. `release` is an integer even for Rawhide. */
interface Published {
  readonly composeId: string;
  /** rc, nightly, rawhide, eln, branched: a word of the topic. */
  readonly kind: string;
  readonly release: number;
  readonly subvariant: string;
  /** x86_64, aarch64: the compose's word, not the cloud's. */
  readonly architecture: string;
  /** Distinguishes a second message for the same image, sent when late regions are there. */
  readonly edition: string;
  /** Default: `USUAL_STYLE`. */
  readonly style?: MessageStyle | undefined;
}

export const APP = "fedora-image-uploader";
/** Begins every topic, behind the broker's prefix, and every schema's name. */
export const BASE = "fedora_image_uploader.published.v1";

/** How an installation wants its announcements. */
export interface MessageStyle {
  /** With `{cloud}`, `{kind}`, `{subvariant}`, `{arch}`, `{release}`; a container's repository is its subvariant. */
  readonly topic: string;
  /** The older `fedimg.image.publish` as well, one for each region. */
  readonly fedimg: boolean;
}

export const USUAL_STYLE: MessageStyle = { topic: `${BASE}.{cloud}.{kind}.{subvariant}.{arch}`, fedimg: false };

export function awsPublished(
  image: Published & { imageName: string; regions: Readonly<Record<string, string>>; sentAt: Date },
): OutgoingMessage {
  const body = {
    architecture: image.architecture,
    compose_id: image.composeId,
    image_name: image.imageName,
    regions: { ...image.regions },
    release: image.release,
    subvariant: image.subvariant,
  };
  const count = Object.keys(image.regions).length;
  return message(image, "aws", body, image.imageName, {
    summary: `${APP} published AWS images from compose ${image.composeId} as ${image.imageName} in ${count} regions`,
  });
}

export function azurePublished(
  image: Published & {
    definition: string;
    version: string;
    resourceId: string;
    regions: readonly string[];
    sentAt: Date;
  },
): OutgoingMessage {
  const body = {
    architecture: image.architecture,
    compose_id: image.composeId,
    image_definition_name: image.definition,
    image_version_name: image.version,
    image_resource_id: image.resourceId,
    regions: [...image.regions],
    release: image.release,
    subvariant: image.subvariant,
  };
  return message(image, "azure", body, `${image.definition}/${image.version}`, {
    summary: `${APP} published Azure image from compose ${image.composeId} as version ${image.version} to ${image.definition}`,
  });
}

export function gcpPublished(
  image: Published & {
    imageName: string;
    family: string;
    imageUrl: string;
    storageLocations: readonly string[];
    sentAt: Date;
  },
): OutgoingMessage {
  const body = {
    architecture: image.architecture,
    compose_id: image.composeId,
    family: image.family,
    image_name: image.imageName,
    image_url: image.imageUrl,
    release: image.release,
    storage_locations: [...image.storageLocations],
    subvariant: image.subvariant,
  };
  return message(image, "gcp", body, image.imageName, {
    summary: `${APP} published the ${image.architecture} image from compose ${image.composeId} to the ${image.family} family in Google Cloud Platform`,
  });
}

export function containerPublished(image: {
  composeId: string;
  kind: string;
  release: number;
  architectures: readonly string[];
  registries: readonly string[];
  repository: string;
  tags: readonly string[];
  edition: string;
  sentAt: Date;
  style?: MessageStyle | undefined;
}): OutgoingMessage {
  const containers = image.registries.flatMap((registry) =>
    image.tags.map((tag) => `${registry}/${image.repository}:${tag}`),
  );
  return {
    id: messageId("container", image.composeId, image.repository, image.edition),
    topic: topicFrom(image.style, { ...image, cloud: "container", subvariant: image.repository, arch: "" }),
    headers: {
      ...headers("container", image.sentAt),
      ...Object.fromEntries(containers.map((name) => [`fedora_messaging_container_${name}`, true])),
    },
    body: {
      architectures: [...image.architectures],
      compose_id: image.composeId,
      registries: [...image.registries],
      release: image.release,
      repository: image.repository,
      tags: [...image.tags],
    },
    summary: `${APP} published container manifest from compose ${image.composeId} to ${image.registries.join(", ")}.`,
  };
}

function message(
  image: Published & { sentAt: Date },
  cloud: "aws" | "azure" | "gcp",
  body: Record<string, Json>,
  subject: string,
  { summary }: { summary: string },
): OutgoingMessage {
  return {
    id: messageId(cloud, image.composeId, image.subvariant, image.architecture, subject, image.edition),
    topic: topicFrom(image.style, { ...image, cloud, arch: image.architecture }),
    headers: headers(cloud, image.sentAt),
    body,
    summary,
  };
}

function topicFrom(
  style: MessageStyle = USUAL_STYLE,
  values: { cloud: string; kind: string; subvariant: string; arch: string; release: number },
): string {
  const filled = style.topic.replace(/\{(\w+)\}/g, (_, name: string) =>
    Object.hasOwn(values, name) ? topicWord(String(values[name as keyof typeof values])) : "",
  );
  // What has no architecture has no word for it.
  return filled
    .split(".")
    .filter((word) => word !== "")
    .join(".");
}

/**
 * What fedimg told when an image was public in a region: one message each, for readers that know nothing else (the
 * previous website's list, release engineering's statistics, testers).
 */
export function fedimgPublished(
  image: Published & { imageName: string; volumeType: string; region: string; amiId: string; sentAt: Date },
): OutgoingMessage {
  const { imageName, region, amiId, composeId, architecture, volumeType } = image;
  return {
    id: messageId("fedimg", composeId, image.subvariant, architecture, imageName, region, amiId),
    topic: "fedimg.image.publish",
    headers: headersOf("base.message", image.sentAt),
    body: {
      architecture,
      compose: composeId,
      destination: region,
      extra: { id: amiId, virt_type: "hvm", vol_type: volumeType },
      image_name: imageName,
      image_url: null,
      service: "EC2",
    },
    summary: `${APP} published ${imageName} as ${amiId} in ${region}`,
  };
}

function headers(cloud: string, sentAt: Date): Record<string, Json> {
  return headersOf(`${BASE}.${cloud}`, sentAt);
}

export function headersOf(schema: string, sentAt: Date): Record<string, Json> {
  return {
    fedora_messaging_schema: schema,
    fedora_messaging_severity: 20,
    priority: 0,
    // The original writes seconds and a numeric offset.
    "sent-at": `${sentAt.toISOString().slice(0, 19)}+00:00`,
  };
}

/** A dot would make two words of it, and `*` or `#` a pattern. */
export function topicWord(text: string): string {
  return text.replace(/[.*#\s]/g, "-");
}
