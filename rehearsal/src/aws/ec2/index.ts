/**
 * The EC2 Query API, version 2016-11-15: one form in, one XML document out.
 *
 * Every operation is a function from the call to the members of its answer. One that is not in the table is refused
 * with 501 and its name.
 * @see https://docs.aws.amazon.com/AWSEC2/latest/APIReference/Welcome.html
 */
import { authorize, type Caller } from "../accounts.ts";
import { AwsFault, EC2_NAMESPACE, unknownOperation } from "../fault.ts";
import type { Query } from "../query.ts";
import { type AwsState, regionsOf } from "../state.ts";
import { element } from "../xml.ts";
import type { Ec2Operation } from "./call.ts";
import { copyImage, copySnapshot } from "./copy.ts";
import { describeImages } from "./describe-images.ts";
import {
  deregisterImage,
  describeImageAttribute,
  disableDeregistrationProtection,
  disableImage,
  disableImageDeprecation,
  enableDeregistrationProtection,
  enableImage,
  enableImageDeprecation,
  modifyImageAttribute,
  resetImageAttribute,
} from "./image-attributes.ts";
import { cancelImportTask, describeImportSnapshotTasks, importSnapshot } from "./import-snapshot.ts";
import { applyRegionFilters } from "./regions.ts";
import { registerImage } from "./register-image.ts";
import {
  deleteSnapshot,
  describeSnapshotAttribute,
  describeSnapshots,
  modifySnapshotAttribute,
  resetSnapshotAttribute,
} from "./snapshots.ts";
import { createTags, deleteTags, describeTags } from "./tags.ts";

const describeRegions: Ec2Operation = ({ state, caller, query }) => {
  const names = query.list("RegionName");
  const known = regionsOf(caller.partition);
  for (const name of names) {
    if (!known.includes(name)) throw new AwsFault("InvalidParameterValue", `Invalid region names provided: ${name}`);
  }
  const rows = known
    .map((regionName) => ({
      regionName,
      regionEndpoint: `ec2.${regionName}.amazonaws.com${caller.partition === "aws-cn" ? ".cn" : ""}`,
      optInStatus: state.settings(caller.account, regionName).optIn as string,
    }))
    .filter(
      (row) =>
        (names.length === 0 || names.includes(row.regionName)) &&
        (query.flag("AllRegions") === true || row.optInStatus !== "not-opted-in"),
    );
  return { regionInfo: applyRegionFilters(query, rows) };
};

const OPERATIONS: Readonly<Record<string, Ec2Operation>> = {
  CancelImportTask: cancelImportTask,
  CopyImage: copyImage,
  CopySnapshot: copySnapshot,
  CreateTags: createTags,
  DeleteSnapshot: deleteSnapshot,
  DeleteTags: deleteTags,
  DeregisterImage: deregisterImage,
  DescribeImageAttribute: describeImageAttribute,
  DescribeImages: describeImages,
  DescribeImportSnapshotTasks: describeImportSnapshotTasks,
  DescribeInstances: () => ({ reservationSet: [] }),
  DescribeRegions: describeRegions,
  DescribeSnapshotAttribute: describeSnapshotAttribute,
  DescribeSnapshots: describeSnapshots,
  DescribeTags: describeTags,
  DisableImage: disableImage,
  DisableImageDeprecation: disableImageDeprecation,
  DisableImageDeregistrationProtection: disableDeregistrationProtection,
  EnableImage: enableImage,
  EnableImageDeprecation: enableImageDeprecation,
  EnableImageDeregistrationProtection: enableDeregistrationProtection,
  GetEbsEncryptionByDefault: ({ state, caller }) => ({
    ebsEncryptionByDefault: state.settings(caller.account, caller.region).ebsEncryptionByDefault,
  }),
  GetImageBlockPublicAccessState: ({ state, caller }) => ({
    imageBlockPublicAccessState: state.settings(caller.account, caller.region).imageBlockPublicAccess,
    managedBy: "account",
  }),
  GetSnapshotBlockPublicAccessState: ({ state, caller }) => ({
    state: state.settings(caller.account, caller.region).snapshotBlockPublicAccess,
    managedBy: "account",
  }),
  ImportSnapshot: importSnapshot,
  ModifyImageAttribute: modifyImageAttribute,
  ModifySnapshotAttribute: modifySnapshotAttribute,
  RegisterImage: registerImage,
  ResetImageAttribute: resetImageAttribute,
  ResetSnapshotAttribute: resetSnapshotAttribute,
};

/** The answer's document. @throws AwsFault */
export function handleEc2(state: AwsState, caller: Caller, query: Query, requestId: string): string {
  const action = query.required("Action");
  const operation = Object.hasOwn(OPERATIONS, action) ? OPERATIONS[action] : undefined;
  if (operation === undefined) throw unknownOperation("ec2", action);
  authorize(caller, "ec2", action);
  if (query.flag("DryRun") === true) {
    throw new AwsFault("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412);
  }
  const members = operation({ state, caller, query, now: state.now() });
  state.count("ec2", action, caller.region);
  return element(`${action}Response`, { requestId, ...members }, EC2_NAMESPACE);
}
