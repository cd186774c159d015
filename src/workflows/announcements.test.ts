import { expect, test } from "vitest";
import { announcement, containerAnnouncement } from "./announcements.ts";
import type { Prepared, ReleaseFacts } from "./groups.ts";
import { imageSpec } from "./specs.ts";
import { plannedImage } from "./testing/planned.ts";

const facts: ReleaseFacts = { composeId: "Fedora-43-20251021.0", system: "cloud", kind: "rc", releaseNumber: 43 };
const sentAt = new Date("2025-10-21T12:00:00Z");
const item = plannedImage();

function prepared(regions: Record<string, string>): Prepared {
  return {
    target: "aws",
    spec: imageSpec(item),
    images: Object.entries(regions).map(([region, id]) => ({ key: "k", region, id, name: "n", state: "candidate" })),
    missing: [],
    sentBytes: 0,
  };
}

const two = { "us-east-1": "ami-1", "eu-west-1": "ami-2" };

test("an AMI is announced with its region map and the compose's facts", () => {
  const [message] = announcement(facts, item, prepared(two), "active", sentAt);
  expect(message).toMatchObject({
    topic: "fedora_image_uploader.published.v1.aws.rc.Cloud_Base.x86_64",
    body: { compose_id: facts.composeId, image_name: "Fedora-Cloud-43", regions: two, release: 43 },
  });
});

test("the same map is the same message, a map that has grown is another", () => {
  const idOf = (regions: Record<string, string>) =>
    announcement(facts, item, prepared(regions), "active", sentAt)[0]?.id;
  expect(idOf(two)).toBe(idOf(two));
  expect(idOf({ ...two, "ap-south-1": "ami-3" })).not.toBe(idOf(two));
});

test("an AMI that nobody can start is not announced; an Azure version is, because testers reach it", () => {
  expect(announcement(facts, item, prepared(two), "candidate", sentAt)).toEqual([]);
  const azure = plannedImage({ cloud: "azure", definition: "Fedora-Cloud-43-x64", version: "43.20251021.0" });
  const [message] = announcement(facts, azure, prepared({ eastus: "/id", westeurope: "/id" }), "candidate", sentAt);
  expect(message).toMatchObject({
    topic: "fedora_image_uploader.published.v1.azure.rc.Cloud_Base.x86_64",
    body: {
      image_definition_name: "Fedora-Cloud-43-x64",
      image_version_name: "43.20251021.0",
      image_resource_id: "/id",
      regions: ["eastus", "westeurope"],
    },
  });
});

test("the topic is as the installation wants it, and what is empty has no word", () => {
  const style = { topic: "images.{release}.{kind}.{cloud}.{arch}.{subvariant}", fedimg: false };
  expect(announcement(facts, item, prepared(two), "active", sentAt, style)[0]).toMatchObject({
    topic: "images.43.rc.aws.x86_64.Cloud_Base",
    headers: { fedora_messaging_schema: "fedora_image_uploader.published.v1.aws" },
  });
  const container = { repository: "fedora", architectures: ["x86_64"], registries: [], tags: ["43"] };
  expect(containerAnnouncement(facts, container, sentAt, style).topic).toBe("images.43.rc.container.fedora");
});

test("readers that know fedimg's messages get one for each region, where they are wanted", () => {
  const style = { topic: "x.{cloud}", fedimg: true };
  const [, ...older] = announcement(facts, { ...item, volumeType: "gp2" }, prepared(two), "active", sentAt, style);
  expect(older.map(({ topic, body }) => [topic, body])).toEqual([
    [
      "fedimg.image.publish",
      {
        ...{ architecture: "x86_64", compose: facts.composeId, destination: "us-east-1", service: "EC2" },
        ...{ image_name: "Fedora-Cloud-43", image_url: null },
        extra: { id: "ami-1", virt_type: "hvm", vol_type: "gp2" },
      },
    ],
    ["fedimg.image.publish", expect.objectContaining({ destination: "eu-west-1" })],
  ]);
  expect(new Set(older.map(({ id }) => id)).size).toBe(2);
  expect(announcement(facts, item, prepared(two), "candidate", sentAt, style)).toEqual([]);
});

test("a directory on this host is nobody's news", () => {
  expect(announcement(facts, plannedImage({ cloud: "local" }), prepared(two), "active", sentAt)).toEqual([]);
});

test("a repository is one message for all registries; one that came later makes it another", () => {
  const one = { address: "quay.io/fedora", digest: "sha256:1" };
  const container = { repository: "fedora", architectures: ["x86_64"], registries: [one], tags: ["43"] };
  const first = containerAnnouncement(facts, container, sentAt);
  expect(first.body).toMatchObject({ registries: ["quay.io/fedora"], repository: "fedora", tags: ["43"] });
  expect(containerAnnouncement(facts, container, new Date()).id).toBe(first.id);
  const both = [one, { address: "registry.example", digest: "sha256:1" }];
  expect(containerAnnouncement(facts, { ...container, registries: both }, sentAt).id).not.toBe(first.id);
});
