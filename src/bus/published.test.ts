import { expect, test } from "vitest";
import { awsPublished, azurePublished, containerPublished, gcpPublished } from "./published.ts";

/** What was sent for Fedora 41's first AMIs: readers parse messages of this very shape. */
const aws = {
  composeId: "Fedora-41-20240911.0",
  kind: "branched",
  release: 41,
  subvariant: "Cloud_Base",
  architecture: "x86_64",
  edition: "1",
  imageName: "Fedora-Cloud-Base-AmazonEC2.x86_64-41-Prerelease-1.2",
  regions: { "us-east-1": "ami-0a1a3731a749a16db", "eu-west-1": "ami-0d4b7ae5a2a0d1d20" },
  sentAt: new Date("2024-09-12T01:55:05.789Z"),
};

const azure = {
  composeId: "Fedora-Cloud-43-20251021.0",
  kind: "nightly",
  release: 43,
  subvariant: "Cloud_Base",
  architecture: "aarch64",
  edition: "1",
  definition: "Fedora-Cloud-43-Arm64",
  version: "43.20251021.0",
  resourceId: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/Fedora",
  regions: ["eastus", "westeurope"],
  sentAt: new Date("2025-10-21T12:00:00Z"),
};

const container = {
  composeId: "Fedora-Container-43-20251021.0",
  kind: "nightly",
  release: 43,
  architectures: ["aarch64", "x86_64"],
  registries: ["quay.io/fedora", "registry.fedoraproject.org"],
  repository: "fedora-minimal",
  tags: ["43.20251021.0", "43"],
  edition: "1",
  sentAt: new Date("2025-10-21T12:00:00Z"),
};

test("AMIs are announced in one message with the whole region map", () => {
  const { id, ...message } = awsPublished(aws);
  expect(message).toEqual({
    topic: "fedora_image_uploader.published.v1.aws.branched.Cloud_Base.x86_64",
    headers: {
      fedora_messaging_schema: "fedora_image_uploader.published.v1.aws",
      fedora_messaging_severity: 20,
      priority: 0,
      "sent-at": "2024-09-12T01:55:05+00:00",
    },
    body: {
      architecture: "x86_64",
      compose_id: "Fedora-41-20240911.0",
      image_name: "Fedora-Cloud-Base-AmazonEC2.x86_64-41-Prerelease-1.2",
      regions: { "us-east-1": "ami-0a1a3731a749a16db", "eu-west-1": "ami-0d4b7ae5a2a0d1d20" },
      release: 41,
      subvariant: "Cloud_Base",
    },
    summary:
      "fedora-image-uploader published AWS images from compose Fedora-41-20240911.0 as Fedora-Cloud-Base-AmazonEC2.x86_64-41-Prerelease-1.2 in 2 regions",
  });
});

test("an Azure version is announced with its definition and resource id", () => {
  const { id, ...message } = azurePublished(azure);
  expect(message).toEqual({
    topic: "fedora_image_uploader.published.v1.azure.nightly.Cloud_Base.aarch64",
    headers: {
      fedora_messaging_schema: "fedora_image_uploader.published.v1.azure",
      fedora_messaging_severity: 20,
      priority: 0,
      "sent-at": "2025-10-21T12:00:00+00:00",
    },
    body: {
      architecture: "aarch64",
      compose_id: "Fedora-Cloud-43-20251021.0",
      image_definition_name: "Fedora-Cloud-43-Arm64",
      image_version_name: "43.20251021.0",
      image_resource_id: azure.resourceId,
      regions: ["eastus", "westeurope"],
      release: 43,
      subvariant: "Cloud_Base",
    },
    summary:
      "fedora-image-uploader published Azure image from compose Fedora-Cloud-43-20251021.0 as version 43.20251021.0 to Fedora-Cloud-43-Arm64",
  });
});

test("a container repository is announced once, with every registry, and each name it can be pulled by", () => {
  const { id, ...message } = containerPublished(container);
  expect(message).toEqual({
    topic: "fedora_image_uploader.published.v1.container.nightly.fedora-minimal",
    headers: {
      fedora_messaging_schema: "fedora_image_uploader.published.v1.container",
      fedora_messaging_severity: 20,
      priority: 0,
      "sent-at": "2025-10-21T12:00:00+00:00",
      "fedora_messaging_container_quay.io/fedora/fedora-minimal:43.20251021.0": true,
      "fedora_messaging_container_quay.io/fedora/fedora-minimal:43": true,
      "fedora_messaging_container_registry.fedoraproject.org/fedora-minimal:43.20251021.0": true,
      "fedora_messaging_container_registry.fedoraproject.org/fedora-minimal:43": true,
    },
    body: {
      architectures: ["aarch64", "x86_64"],
      compose_id: "Fedora-Container-43-20251021.0",
      registries: ["quay.io/fedora", "registry.fedoraproject.org"],
      release: 43,
      repository: "fedora-minimal",
      tags: ["43.20251021.0", "43"],
    },
    summary:
      "fedora-image-uploader published container manifest from compose Fedora-Container-43-20251021.0 to quay.io/fedora, registry.fedoraproject.org.",
  });
});

test("an id looks like a UUID and is the same whenever the same fact is told, at whatever time", () => {
  const later = new Date("2031-01-01");
  for (const [first, second] of [
    [awsPublished(aws), awsPublished({ ...aws, sentAt: later })],
    [azurePublished(azure), azurePublished({ ...azure, sentAt: later })],
    [containerPublished(container), containerPublished({ ...container, sentAt: later })],
  ] as const) {
    expect(first.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(second.id).toBe(first.id);
  }
});

test("another image, architecture or edition is another message", () => {
  const ids = [
    awsPublished(aws),
    awsPublished({ ...aws, edition: "2" }),
    awsPublished({ ...aws, architecture: "aarch64" }),
    awsPublished({ ...aws, imageName: "other" }),
    awsPublished({ ...aws, composeId: "Fedora-41-20240912.0" }),
    azurePublished(azure),
    azurePublished({ ...azure, version: "43.20251022.0" }),
    containerPublished(container),
    containerPublished({ ...container, repository: "fedora" }),
  ].map((message) => message.id);
  expect(new Set(ids).size).toBe(ids.length);
});

test.each(["a.b", "a#b", "a*b", "a b", "a\nb"])("%j is one word of a topic, and no pattern", (hostile) => {
  const topics = [
    awsPublished({ ...aws, subvariant: hostile }),
    awsPublished({ ...aws, architecture: hostile }),
    containerPublished({ ...container, repository: hostile }),
  ].map((message) => message.topic);
  expect(topics).toEqual([
    "fedora_image_uploader.published.v1.aws.branched.a-b.x86_64",
    "fedora_image_uploader.published.v1.aws.branched.Cloud_Base.a-b",
    "fedora_image_uploader.published.v1.container.nightly.a-b",
  ]);
});

test("the body tells a hostile name as it is: only the topic has rules", () => {
  expect(awsPublished({ ...aws, subvariant: "a.b" }).body.subvariant).toBe("a.b");
});

test("a GCP message has all the fields its schema requires, and tells of the family", () => {
  const sent = gcpPublished({
    ...aws,
    kind: "rc",
    imageName: "fedora-cloud-40-1-14-x86-64",
    family: "fedora-cloud-40",
    imageUrl: "https://www.googleapis.com/compute/v1/projects/fedora-cloud/global/images/fedora-cloud-40-1-14-x86-64",
    storageLocations: ["us"],
  });
  expect(sent.topic).toBe("fedora_image_uploader.published.v1.gcp.rc.Cloud_Base.x86_64");
  expect(sent.headers).toMatchObject({ fedora_messaging_schema: "fedora_image_uploader.published.v1.gcp" });
  expect(sent.body).toEqual({
    architecture: "x86_64",
    compose_id: "Fedora-41-20240911.0",
    family: "fedora-cloud-40",
    image_name: "fedora-cloud-40-1-14-x86-64",
    image_url: expect.stringMatching(/^https:.*fedora-cloud-40-1-14-x86-64$/),
    release: 41,
    storage_locations: ["us"],
    subvariant: "Cloud_Base",
  });
  expect(sent.summary).toBe(
    "fedora-image-uploader published the x86_64 image from compose Fedora-41-20240911.0 to the fedora-cloud-40 family in Google Cloud Platform",
  );
});
