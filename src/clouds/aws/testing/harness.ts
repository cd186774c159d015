import type http from "node:http";
import { MiB } from "../../../lib/units.ts";
import type { ImageSpec } from "../../../model.ts";
import type { Cloud } from "../../cloud.ts";
import type { CloudHarness } from "../../testing/harness.ts";
import type { Tap } from "../../testing/taps.ts";
import { type AwsOptions, openAws } from "../aws.ts";
import type { Pace } from "../waiting.ts";

/** Nothing takes time at a pretended AWS; what does not come at once is not coming. */
export const HURRIED: Pace = {
  firstMs: 2,
  mostMs: 20,
  visibleMs: 150,
  completeMs: 2000,
  registerMs: 2000,
  copyMs: 2000,
  importMs: 2000,
  throttledMs: 2000,
  answerMs: 20_000,
  blockAnswerMs: 20_000,
};

/** EC2 calls that change something, by the verb of the driver that makes them. */
export const AWS_LOSABLE = {
  upload: ["StartSnapshot", "PutSnapshotBlock", "CompleteSnapshot"],
  register: ["RegisterImage"],
  replicate: ["CopyImage"],
  offer: ["ModifySnapshotAttribute", "ModifyImageAttribute"],
  withdraw: ["ModifySnapshotAttribute", "ModifyImageAttribute"],
  setState: ["EnableImageDeprecation", "CreateTags"],
  remove: ["DeregisterImage", "DeleteSnapshot"],
} as const;

const EBS_CALLS: readonly (readonly [string, RegExp, string])[] = [
  ["POST", /^\/snapshots$/, "StartSnapshot"],
  ["POST", /^\/snapshots\/completion\//, "CompleteSnapshot"],
  ["PUT", /^\/snapshots\/[^/]+\/blocks\/\d+$/, "PutSnapshotBlock"],
];

const S3_CALLS: readonly (readonly [string, RegExp, string])[] = [
  ["POST", /\?uploads\b/, "CreateMultipartUpload"],
  ["POST", /[?&]uploadId=/, "CompleteMultipartUpload"],
  ["PUT", /[?&]uploadId=/, "UploadPart"],
  ["DELETE", /[?&]uploadId=/, "AbortMultipartUpload"],
  ["DELETE", /\.raw\b/, "DeleteObject"],
];

/** Calls that change something on the way through a bucket. */
export const AWS_IMPORT_LOSABLE = {
  ...AWS_LOSABLE,
  upload: [
    "CreateMultipartUpload",
    "UploadPart",
    "UploadPartCopy",
    "CompleteMultipartUpload",
    "ImportSnapshot",
    "CreateTags",
    "DeleteObject",
  ],
} as const;

/** Names an AWS call: EBS direct and S3 by method and address, EC2 by the root element of its answer. */
export function awsOperation(request: http.IncomingMessage, answer: string): string | undefined {
  const path = request.url?.split("?")[0] ?? "";
  const ebs = EBS_CALLS.find(([method, pattern]) => method === request.method && pattern.test(path));
  const s3 = S3_CALLS.find(([method, pattern]) => method === request.method && pattern.test(request.url ?? ""));
  if (s3?.[2] === "UploadPart" && request.headers["x-amz-copy-source"] !== undefined) return "UploadPartCopy";
  return ebs?.[2] ?? s3?.[2] ?? /<(\w+)Response\b/.exec(answer)?.[1];
}

export const AWS_SPEC: ImageSpec = {
  key: "mfzwk3lqnrsxg5dfonxw4zjanf2gs4zaob",
  diskKey: "nruxgzlomr2xezlsobsw23djmvwwk3tu",
  name: "Fedora-Cloud-Base-AmazonEC2.x86_64-44-20251013.0",
  description: "Fedora Cloud 44, built 20251013.0",
  arch: "x86_64",
  diskBytes: 8 * MiB,
  homeRegion: "us-east-1",
  regions: ["us-east-1", "eu-west-1", "ap-south-1"],
  tags: { Channel: "cloud", Version: "44", ComposeID: "Fedora-Cloud-44-20251013.0", Date: "20251013", Arch: "x86_64" },
};

/** What every harness of this driver has in common, whichever AWS stands behind the tap. */
export function awsLevers(
  tapped: Tap,
  options: AwsOptions,
): Omit<CloudHarness, "close"> & { closeAll(): Promise<void> } {
  const opened: Cloud[] = [];
  const open = (changes: Partial<AwsOptions> = {}) => {
    const cloud = openAws({ ...options, pace: HURRIED, inFlight: 8, ...changes });
    opened.push(cloud);
    return cloud;
  };
  return {
    cloud: open(),
    spec: (overrides) => ({ ...AWS_SPEC, ...overrides }),
    reopen: async () => open(),
    sends: () => tapped.count("PutSnapshotBlock"),
    losable: AWS_LOSABLE,
    loseAnswer: (operation) => tapped.lose(operation),
    withWrongCredentials: async () =>
      open({ credentials: { accessKeyId: "AKIANOBODYNOBODYNOBO", secretAccessKey: "not the right one" } }),
    closeAll: async () => {
      await Promise.all(opened.map((cloud) => cloud.close()));
    },
  };
}
