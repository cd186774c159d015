/**
 * What the files of this driver share: the connection, the pace, and looking at images and snapshots in one region.
 * Everything here reads; what changes something is in the file of its verb.
 */
import type { Image, Snapshot } from "@aws-sdk/client-ec2";
import type { CallContext } from "../../lib/call.ts";
import { codeOf } from "../../lib/errors.ts";
import type { CloudImage, ImageKey, ImageSpec, LifecycleState, Region, StagedDisk } from "../../model.ts";
import type { Connection } from "./connection.ts";
import { type EbsDirect, ebsDirect } from "./ebs.ts";
import { DISK_BYTES, DISK_KEY, fromAws, OWNER, STATE } from "./tags.ts";
import type { Pace } from "./waiting.ts";

export interface Account {
  readonly connection: Connection;
  readonly pace: Pace;
  readonly sharesSnapshots: boolean;
  ebs(region: Region): EbsDirect;
  /** Regions of the home region's partition that are on for this account, by name. */
  enabledRegions(home: Region, call: CallContext): Promise<Region[]>;
  /** Our images of a name: in any state but gone, deprecated and disabled ones too. Oldest first. */
  imagesNamed(name: string, region: Region, call: CallContext): Promise<Image[]>;
  imageById(id: string, region: Region, call: CallContext): Promise<Image | undefined>;
  /** Our snapshots of a disk. Oldest first. */
  snapshotsOf(diskKey: ImageKey, region: Region, call: CallContext): Promise<Snapshot[]>;
  snapshotById(id: string, region: Region, call: CallContext): Promise<Snapshot | undefined>;
  /** All of ours, page by page. */
  ownImages(region: Region, call: CallContext): AsyncIterable<Image>;
  ownSnapshots(region: Region, call: CallContext): AsyncIterable<Snapshot>;
  /** Who may start it: account ids, ARNs of organizations and their units, and `all`. */
  launchers(imageId: string, region: Region, call: CallContext): Promise<string[]>;
  toCloudImage(image: Image, spec: ImageSpec, region: Region, call: CallContext): Promise<CloudImage>;
}

export function openAccount(connection: Connection, pace: Pace, sharesSnapshots: boolean): Account {
  const direct = new Map<Region, EbsDirect>();
  const account: Account = {
    connection,
    pace,
    sharesSnapshots,
    ebs(region) {
      let api = direct.get(region);
      if (!api) {
        api = ebsDirect(connection, region);
        direct.set(region, api);
      }
      return api;
    },
    async enabledRegions(home, call) {
      // Without AllRegions only those come that need no opting in, or were opted in to.
      const answer = await connection.ec2(home, "DescribeRegions", undefined, call, (ec2, send) =>
        ec2.describeRegions({}, send),
      );
      return (answer.Regions ?? []).flatMap(({ RegionName }) => RegionName ?? []).sort();
    },
    async imagesNamed(name, region, call) {
      const Filters = [{ Name: "name", Values: [literal(name)] }];
      const answer = await connection.ec2(region, "DescribeImages", name, call, (ec2, send) =>
        ec2.describeImages({ Owners: ["self"], IncludeDisabled: true, IncludeDeprecated: true, Filters }, send),
      );
      return (answer.Images ?? []).filter((image) => image.Name === name && isThere(image)).sort(byAge);
    },
    async imageById(id, region, call) {
      try {
        const answer = await connection.ec2(region, "DescribeImages", id, call, (ec2, send) =>
          ec2.describeImages({ ImageIds: [id], IncludeDisabled: true, IncludeDeprecated: true }, send),
        );
        return (answer.Images ?? []).find(isThere);
      } catch (error) {
        if (codeOf(error) === "not-found") return undefined;
        throw error;
      }
    },
    async snapshotsOf(diskKey, region, call) {
      const Filters = [{ Name: `tag:${DISK_KEY}`, Values: [diskKey] }];
      const answer = await connection.ec2(region, "DescribeSnapshots", diskKey, call, (ec2, send) =>
        ec2.describeSnapshots({ OwnerIds: ["self"], Filters }, send),
      );
      return (answer.Snapshots ?? []).sort((a, b) => Number(a.StartTime ?? 0) - Number(b.StartTime ?? 0));
    },
    async snapshotById(id, region, call) {
      try {
        const answer = await connection.ec2(region, "DescribeSnapshots", id, call, (ec2, send) =>
          ec2.describeSnapshots({ SnapshotIds: [id] }, send),
        );
        return answer.Snapshots?.[0];
      } catch (error) {
        if (codeOf(error) === "not-found") return undefined;
        throw error;
      }
    },
    async *ownImages(region, call) {
      let NextToken: string | undefined;
      const Filters = [{ Name: "tag-key", Values: [OWNER] }];
      do {
        const page = await connection.ec2(region, "DescribeImages", undefined, call, (ec2, send) =>
          ec2.describeImages(
            { Owners: ["self"], IncludeDisabled: true, IncludeDeprecated: true, Filters, MaxResults: 1000, NextToken },
            send,
          ),
        );
        yield* (page.Images ?? []).filter(isThere);
        NextToken = page.NextToken || undefined;
      } while (NextToken);
    },
    async *ownSnapshots(region, call) {
      let NextToken: string | undefined;
      const Filters = [{ Name: "tag-key", Values: [OWNER] }];
      do {
        const page = await connection.ec2(region, "DescribeSnapshots", undefined, call, (ec2, send) =>
          ec2.describeSnapshots({ OwnerIds: ["self"], Filters, MaxResults: 1000, NextToken }, send),
        );
        yield* page.Snapshots ?? [];
        NextToken = page.NextToken || undefined;
      } while (NextToken);
    },
    async launchers(imageId, region, call) {
      const answer = await connection.ec2(region, "DescribeImageAttribute", imageId, call, (ec2, send) =>
        ec2.describeImageAttribute({ ImageId: imageId, Attribute: "launchPermission" }, send),
      );
      return (answer.LaunchPermissions ?? []).flatMap(
        (one) => one.Group ?? one.UserId ?? one.OrganizationArn ?? one.OrganizationalUnitArn ?? [],
      );
    },
    async toCloudImage(image, spec, region, call) {
      const diskId = rootSnapshot(image);
      return {
        key: spec.key,
        region,
        id: image.ImageId ?? "",
        name: image.Name ?? "",
        state: await stateOf(image),
        ...(diskId ? { diskId } : {}),
      };
      async function stateOf({ ImageId = "", State, Public }: Image): Promise<LifecycleState> {
        if (State === "disabled") return "obsolete";
        if (isDeprecated(image)) return "deprecated";
        if (Public) return "active";
        return (await account.launchers(ImageId, region, call)).length > 0 ? "active" : "candidate";
      }
    },
  };
  return account;
}

/** By its date; or, in the minute before the date counts, by our own word. */
export function isDeprecated({ DeprecationTime, Tags }: Image): boolean {
  if (!DeprecationTime) return false;
  return Date.parse(DeprecationTime) <= Date.now() || fromAws(Tags)[STATE] === "deprecated";
}

export function rootSnapshot(image: Image): string | undefined {
  return image.BlockDeviceMappings?.find((mapping) => mapping.DeviceName === image.RootDeviceName)?.Ebs?.SnapshotId;
}

export function snapshotsIn(image: Image): string[] {
  return (image.BlockDeviceMappings ?? []).flatMap((mapping) => mapping.Ebs?.SnapshotId ?? []);
}

export function stagedOf(snapshot: Snapshot, spec: ImageSpec, region: Region): StagedDisk {
  const bytes = Number(fromAws(snapshot.Tags)[DISK_BYTES]);
  return { key: spec.diskKey, region, id: snapshot.SnapshotId ?? "", diskBytes: bytes > 0 ? bytes : spec.diskBytes };
}

/** Images that are being made or were given up do not count as there; pending copies are `replicate`'s business. */
export function isReady(image: Image): boolean {
  return image.State === "available" || image.State === "disabled";
}

function isThere(image: Image): boolean {
  return image.State !== "deregistered";
}

function byAge(a: Image, b: Image): number {
  return `${a.CreationDate}${a.ImageId}` < `${b.CreationDate}${b.ImageId}` ? -1 : 1;
}

/** Filters know wildcards; a name is meant as it is written. */
function literal(text: string): string {
  return text.replace(/[\\*?]/g, "\\$&");
}
