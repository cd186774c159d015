import { z } from "zod";
import {
  audience,
  awsAudience,
  endpoint,
  isLoopback,
  noRepeats,
  quotedDigits,
  region,
  secret,
  valueOrRef,
} from "./values.ts";

/** Where images go. `cloud` says which kind of target it is; the names in `targets` are free. */

const enabled = z.boolean().default(true).describe("Off: nothing is planned for it, and the plan says so.");

const common = {
  enabled,
  ca_file: z
    .string()
    .min(1)
    .optional()
    .describe("PEM file of a certificate authority to trust beside the public ones."),
};

const offer = audience
  .prefault("nobody")
  .describe('Who may use an image once it is offered: `public`, `{accounts: ["…"]}`, or `nobody`.');

const regionList = z
  .array(region)
  .min(1)
  .superRefine((regions, context) => noRepeats(regions, context, "region"));

const awsCredentials = z.union(
  [
    z.strictObject({ access_key_id: valueOrRef, secret_access_key: secret, session_token: secret.optional() }),
    z.strictObject({ profile: z.string().min(1) }),
  ],
  { error: "expected {access_key_id, secret_access_key} with secrets as {env: NAME} or {file: PATH}, or {profile}" },
);

const aws = z.strictObject({
  cloud: z.literal("aws"),
  ...common,
  account: quotedDigits(/^\d{12}$/, "an account of 12 digits")
    .optional()
    .describe("Account the credentials must belong to; checked before anything is done."),
  home_region: region.default("us-east-1").describe("Where an image is made first."),
  regions: z
    .union([z.literal("all"), regionList], { error: "expected all, or a list of regions" })
    .optional()
    .describe("`all` regions the account has enabled, or a list with the home region in it. Default: the home region."),
  regions_except: regionList.optional().describe("Regions that `regions: all` leaves out."),
  replicate: z
    .enum(["copy", "direct"])
    .default("copy")
    .describe("`copy`: AWS copies from the home region; `direct`: every region is written from the source."),
  import: z
    .strictObject({
      bucket: z
        .string()
        .regex(/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/, "is not the name of a bucket")
        .describe("Bucket in the home region."),
      prefix: z
        .string()
        .regex(/^([A-Za-z0-9_.-]+\/)*$/, "expected folders, each with a slash behind it")
        .default("slipway/")
        .describe("What our objects' names begin with."),
      role: z
        .string()
        .regex(/^[\w+=,.@-]{1,64}$/, "is not the name of a role")
        .default("vmimport")
        .describe("Role that lets AWS read the bucket."),
    })
    .optional()
    .describe("For accounts that may not use EBS direct: disks go through a bucket and are imported from there."),
  offer: awsAudience
    .prefault("nobody")
    .describe(
      'Who may use an image once it is offered: `public`, `{accounts: ["…"], organizations: ["arn:…"]}`, or `nobody`.',
    ),
  snapshots: z
    .enum(["shared", "private"])
    .default("shared")
    .describe("`shared`: whoever may start an image may copy its snapshot too. AWS shares none with organizations."),
  credentials: awsCredentials
    .optional()
    .describe("Default: what the SDK finds (environment, web identity, instance role)."),
  witness: awsCredentials
    .optional()
    .describe(
      "Credentials of another account without rights in this one: before an offer it must not see the images, afterwards it must.",
    ),
  sns_topic: z
    .string()
    .regex(/^arn:aws(-[a-z]+)*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]{1,256}$/, "is not the ARN of an SNS topic")
    .refine((arn) => !arn.endsWith(".fifo"), "a FIFO topic is not supported: nothing of a notice needs an order")
    .optional()
    .describe("ARN of a topic that is told when images are offered, deprecated or withdrawn."),
  endpoints: z
    .strictObject({ ec2: endpoint, ebs: endpoint, s3: endpoint, sts: endpoint, ssm: endpoint, sns: endpoint })
    .partial()
    .optional()
    .describe("Other addresses of the vendor's APIs, for rehearsals and emulators."),
});

/** AWS is three: accounts and credentials of one are unknown in the others, and images are not copied between them. */
function partitionOf(region: string): "aws" | "aws-cn" | "aws-us-gov" {
  if (region.startsWith("cn-")) return "aws-cn";
  return region.startsWith("us-gov-") ? "aws-us-gov" : "aws";
}

const azureRegion = z.union(
  [
    region,
    z.strictObject({
      name: region,
      replicas: z.int().min(1).max(100).optional(),
      storage: z.enum(["Standard_LRS", "Standard_ZRS", "Premium_LRS"]).optional(),
    }),
  ],
  { error: "expected a region's name, or {name, replicas, storage}" },
);

const azure = z.strictObject({
  cloud: z.literal("azure"),
  ...common,
  subscription: valueOrRef.optional().describe("Default: AZURE_SUBSCRIPTION_ID."),
  resource_group: z.string().min(1),
  gallery: z.string().min(1).describe("Compute Gallery that holds the image definitions."),
  public_gallery: z
    .string()
    .min(1)
    .optional()
    .describe("Public name of the community gallery; stands in published messages as users type it."),
  publisher: z.string().min(1).optional().describe("Publisher of new image definitions. Default: the gallery's name."),
  disk_controllers: z
    .array(z.enum(["SCSI", "NVMe"]))
    .min(1)
    .optional()
    .describe("Disk controllers the images have drivers for, for new image definitions. Default: Azure's, SCSI."),
  accelerated_networking: z
    .boolean()
    .optional()
    .describe("Whether new image definitions say that their images can do accelerated networking. Default: nothing."),
  storage_account: z.string().regex(/^[a-z0-9]{3,24}$/, "a storage account has 3 to 24 lower-case letters and digits"),
  container: z
    .string()
    .regex(/^[a-z0-9-]{3,63}$/, "a storage container has 3 to 63 lower-case letters, digits and dashes")
    .default("vhds")
    .describe("Storage container of the page blobs."),
  home_region: region.default("eastus").describe("Region of the gallery and the storage account."),
  regions: z
    .array(azureRegion)
    .min(1)
    .optional()
    .describe("Target regions of a version, as names or `{name, replicas, storage}`. Default: the home region."),
  replicas: z.int().min(1).max(100).default(1).describe("Replicas in a region that does not say."),
  storage: z
    .enum(["Standard_LRS", "Standard_ZRS", "Premium_LRS"])
    .default("Standard_LRS")
    .describe("Storage of the replicas in a region that does not say."),
  offer,
  credentials: z
    .strictObject({ tenant_id: valueOrRef, client_id: valueOrRef, client_secret: secret })
    .optional()
    .describe(
      "Default: AZURE_TENANT, AZURE_CLIENT_ID and AZURE_SECRET or the SDK's own names, else its default chain.",
    ),
  witness: z
    .strictObject({ tenant_id: valueOrRef, client_id: valueOrRef, client_secret: secret, subscription: valueOrRef })
    .optional()
    .describe(
      "A service principal of another tenant, and a subscription of its own: before an offer it must not get the images from the community gallery, afterwards it must.",
    ),
  endpoints: z
    .strictObject({ authority: endpoint, management: endpoint, blob: endpoint })
    .partial()
    .optional()
    .describe("Other addresses of the vendor's APIs, for rehearsals and emulators."),
});

const gcp = z.strictObject({
  cloud: z.literal("gcp"),
  ...common,
  project: z.string().min(1),
  bucket: z.string().min(3).describe("Bucket the disk passes through."),
  storage_locations: z.array(region).length(1).default(["us"]).describe("Where the image's bytes are kept."),
  offer,
  credentials: z
    .strictObject({ service_account: secret })
    .optional()
    .describe(
      "A service account's JSON. Default: the file GOOGLE_APPLICATION_CREDENTIALS names, else the machine's own account.",
    ),
  witness: z
    .strictObject({ service_account: secret })
    .optional()
    .describe(
      "A service account of another project without rights in this one: before an offer it must not see the images, afterwards it must.",
    ),
  endpoints: z
    .strictObject({ storage: endpoint, compute: endpoint, token: endpoint, resource_manager: endpoint })
    .partial()
    .optional()
    .describe("Other addresses of the vendor's APIs, for rehearsals and emulators."),
});

const registry = z
  .strictObject({
    cloud: z.literal("registry"),
    ...common,
    url: z
      .string()
      .regex(/^[A-Za-z0-9.-]+(:\d{1,5})?(\/[a-z0-9._/-]+)?$|^\[[0-9a-f:]+\](:\d{1,5})?(\/[a-z0-9._/-]+)?$/, {
        error: "expected a host and perhaps a path, without https://: quay.io/fedora",
      })
      .describe("Host and path prefix: `quay.io/fedora`."),
    plain_http: z.boolean().default(false).describe("Speak http. Only to a registry on this machine."),
    credentials: z
      .strictObject({ username: valueOrRef, password: secret })
      .optional()
      .describe("Default: anonymous, or the client certificate."),
    client_cert: z
      .strictObject({ cert: z.string().min(1), key: z.string().min(1) })
      .optional()
      .describe("PEM files of a client certificate."),
  })
  .superRefine((target, context) => {
    const host = target.url.replace(/\/.*$/, "").replace(/:\d+$/, "");
    if (target.plain_http && !isLoopback(host)) {
      context.addIssue({
        code: "custom",
        path: ["plain_http"],
        message: `plain http is for this machine only, not ${host}`,
      });
    }
  });

const local = z.strictObject({
  cloud: z.literal("local"),
  enabled,
  directory: z
    .string()
    .min(1)
    .optional()
    .describe("Where disks are put. Default: `local/<name>` in the data directory."),
  offer,
});

export const target = z
  .discriminatedUnion("cloud", [aws, azure, gcp, registry, local])
  .superRefine((given, context) => {
    if (given.cloud !== "aws") return;
    const { home_region: home, regions, regions_except: except, sns_topic: topic } = given;
    const complain = (path: string, message: string) => context.addIssue({ code: "custom", path: [path], message });
    if (except !== undefined && regions !== "all") {
      complain("regions_except", "belongs to `regions: all`; leave them out of the list instead");
    }
    if (except?.includes(home))
      complain("regions_except", `home_region ${home} cannot be left out: images are made there`);
    const partition = partitionOf(home);
    const stranger = Array.isArray(regions) ? regions.find((one) => partitionOf(one) !== partition) : undefined;
    if (stranger !== undefined) {
      complain(
        "regions",
        `${stranger} is in the partition ${partitionOf(stranger)}, the home region in ${partition}: an account is in one of them. Make it a target of its own, with credentials of its own`,
      );
    }
    if (given.import !== undefined && given.replicate === "direct") {
      complain("import", "goes with `replicate: copy`: the other regions are copied from what was imported");
    }
    if (topic !== undefined && topic.split(":")[1] !== partition) {
      complain("sns_topic", `is in another partition than the home region, which is in ${partition}`);
    }
  })
  .superRefine((given, context) => {
    if (given.cloud !== "aws" || given.offer.to !== "accounts" || given.snapshots === "private") return;
    if (given.offer.organizations === undefined) return;
    context.addIssue({
      code: "custom",
      path: ["snapshots"],
      message:
        "AWS shares snapshots with accounts and with everybody, not with organizations: say `snapshots: private` (members may start the images and not copy them), or name the accounts",
    });
  })
  .superRefine((given, context) => {
    if (given.cloud !== "azure" || given.witness === undefined || given.public_gallery !== undefined) return;
    const message = "needs `public_gallery`: of a private gallery nobody outside sees anything, offered or not";
    context.addIssue({ code: "custom", path: ["witness"], message });
  })
  .superRefine((given, context) => {
    if (given.cloud !== "aws" && given.cloud !== "azure") return;
    if (given.regions === undefined || given.regions === "all") return;
    const names = given.regions.map((wanted) => (typeof wanted === "string" ? wanted : wanted.name));
    if (given.cloud === "azure") {
      const repeated = names.findIndex((name, at) => names.indexOf(name) < at);
      if (repeated >= 0) {
        context.addIssue({
          code: "custom",
          path: ["regions", repeated],
          message: `region ${names[repeated]} stands here twice`,
        });
      }
    }
    if (!names.includes(given.home_region)) {
      context.addIssue({
        code: "custom",
        path: ["regions"],
        message: `home_region ${given.home_region} is not among the regions; add it, or make another one the home`,
      });
    }
  });

/** A target as the file gives it. */
export type TargetSettings = z.output<typeof target>;
