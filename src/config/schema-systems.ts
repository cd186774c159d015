import { z } from "zod";
import { PER_FILE, PLACEHOLDERS } from "../compose/index.ts";
import { duration, noRepeats, ownName, template } from "./values.ts";

/** A distribution's data. Adding one is adding an entry here; nothing of another system is touched. */

const patterns = z.array(z.string().min(1).max(200)).min(1);

const composeFilter = z.strictObject({
  short: patterns.optional().describe("Short names of releases: `Fedora`, `Fedora-Cloud`."),
  version: patterns.optional().describe("Versions: `Rawhide`, `4*`."),
  release: patterns.optional().describe("Release types: `ga`, `updates`."),
  type: z
    .array(z.enum(["production", "nightly", "development", "test", "ci"]))
    .min(1)
    .optional()
    .describe("Compose types. Default: production and nightly."),
  label: patterns.optional().describe("Labels: `RC-*`. A compose without one has the empty label."),
});

const artifactFilter = z
  .strictObject({
    type: patterns.optional().describe("productmd's types: `raw-xz`."),
    format: patterns.optional().describe("productmd's formats: `raw.xz`."),
    subvariant: patterns.optional().describe("`Cloud_Base`."),
    variant: patterns.optional().describe("Variants move about between releases; `subvariant` is steadier."),
    arch: patterns.optional().describe("Default: whatever the compose has."),
  })
  .describe(
    "Which files. Each list is an order of preference where two files would make one image; `*` is a wildcard.",
  );

const targets = z
  .array(ownName)
  .min(1)
  .superRefine((names, context) => noRepeats(names, context, "target"))
  .describe("Names of targets.");

const releaseAs = z
  .enum(["active", "candidate"])
  .default("active")
  .describe("`active`: the release offers it. `candidate`: it is registered and waits for `slipway images promote`.");

const requiredArches = z
  .array(z.string().min(1))
  .default([])
  .describe("If the compose lacks one of these, nothing of the rule is released.");

const condition = z.strictObject({
  kind: z
    .array(z.enum(["rc", "nightly", "rawhide", "eln", "branched"]))
    .min(1)
    .optional(),
  channel: patterns.optional(),
  current: z.boolean().optional().describe("True: the newest stable release only."),
  prerelease: z.boolean().optional().describe("True: before a release only."),
});

/** AWS takes 64 KiB of variables. */
const MAX_UEFI_DATA = 64 * 1024;

const aws = z.strictObject({
  parameter: template()
    .optional()
    .describe(
      "Parameter Store's name for the newest image, written in every region when it is offered: `/fedora/{channel}/{arch}/latest`.",
    ),
  boot_mode: z
    .enum(["legacy-bios", "uefi", "uefi-preferred"])
    .optional()
    .describe("Default: `uefi` for aarch64, else `uefi-preferred`."),
  imds: z
    .enum(["v2.0", "optional"])
    .optional()
    .describe("`v2.0`: instance metadata only with a token. `optional`: the image says nothing. Default: `v2.0`."),
  tpm: z.enum(["v2.0"]).optional().describe("NitroTPM. Needs `boot_mode: uefi`."),
  ena: z.boolean().optional().describe("Whether the image has a driver for ENA. Default: it has."),
  sriov: z
    .boolean()
    .optional()
    .describe("Whether the image has a driver for Intel's 82599 virtual functions. Default: it has."),
  volume: z
    .strictObject({
      type: z.enum(["gp2", "gp3", "io1", "io2", "standard"]).optional().describe("Default: gp3."),
      size_gib: z.int().min(1).max(16384).optional().describe("Default: the disk's size. Never smaller than that."),
      iops: z.int().min(1).optional(),
      throughput: z.int().min(1).optional().describe("MiB/s; gp3 only."),
    })
    .optional()
    .describe("The root volume of instances."),
  uefi_data: z
    .base64("is not base64")
    .max(MAX_UEFI_DATA)
    .optional()
    .describe("The UEFI variable store, base64, with keys for secure boot."),
  protect: z
    .enum(["without-cooldown", "with-cooldown"])
    .optional()
    .describe("What is offered cannot be deregistered until a person lifts it; with a cooldown, 24 hours after that."),
});

const imageRule = z.strictObject({
  when: condition.optional().describe("For which composes. Absent: all the system takes."),
  select: artifactFilter,
  to: targets,
  name: template()
    .optional()
    .describe("AMI name, or GCP image name (made lower case, dots and underscores as dashes)."),
  definition: template().optional().describe("Azure image definition."),
  version: template().default("{number}.{date}.{respin}").describe("Azure image version: three numbers."),
  family: template().optional().describe("GCP image family."),
  aws: aws.optional().describe("What only AWS can be told of an image."),
  description: template().default("{release} {version} {subvariant} {arch}, from compose {compose}"),
  offer_when: z
    .union([z.literal("all"), z.strictObject({ quorum: z.number().gt(0).max(1) })], {
      error: "expected all, or {quorum: 0.9}",
    })
    .default("all")
    .describe("Offer when `all` regions are ready, or a `{quorum: 0.9}` of each target's; the rest is healed later."),
  release_as: releaseAs,
  required_arches: requiredArches,
});

/** One set of tags serves all architectures of a repository. */
const sharedPlaceholders = Object.keys(PLACEHOLDERS).filter((name) => !PER_FILE.some((own) => own === name));

const tagRule = z.strictObject({
  when: condition.optional().describe("All of it must hold. Absent: always."),
  tags: z.array(template(sharedPlaceholders)).min(1).describe("Floating tags, the most exact first."),
});

const repository = z
  .string()
  .regex(
    /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/,
    "is not a repository's name: lower-case letters, digits, and . _ - between them",
  );

const containerRule = z.strictObject({
  when: condition.optional().describe("For which composes. Absent: all the system takes."),
  select: artifactFilter,
  to: targets,
  repositories: z.record(z.string(), repository).describe("Subvariant → repository. Others are skipped."),
  version_tag: template(sharedPlaceholders)
    .optional()
    .describe("Tag of this very version, pushed before the floating ones."),
  tags: z.array(tagRule).min(1).describe("The first entry whose `when` holds gives the tags."),
  release_as: releaseAs,
  required_arches: requiredArches,
});

export const system = z.strictObject({
  enabled: z.boolean().default(true).describe("Off: it takes no compose."),
  composes: composeFilter
    .extend({ channel: patterns.optional().describe("Channels, after `channels` named them.") })
    .prefault({})
    .describe("Which composes are this system's. Every list given must hold the compose's value; `*` is a wildcard."),
  channels: z
    .array(z.strictObject({ channel: ownName, when: composeFilter }))
    .default([])
    .describe("Names channels, the first match wins. Default: rawhide, eln, updates, rc, cloud, branched, nightly."),
  images: z.array(imageRule).default([]).describe("Disks, to clouds."),
  containers: z.array(containerRule).default([]).describe("Containers, to registries."),
  expect: z
    .strictObject({ every: duration.describe("`26h`") })
    .optional()
    .describe("An alarm when nothing arrived for so long."),
});

export type SystemSettings = z.output<typeof system>;
