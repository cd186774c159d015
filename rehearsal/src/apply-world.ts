/** Makes simulators behave as a scenario's world says. May be done while they run. */
import { AWS_PUBLISHER, type AwsSimulator } from "./aws/index.ts";
import { AWS_REGIONS } from "./aws/state.ts";
import type { AzureSimulator } from "./azure/azure.ts";
import type { GcpSimulator } from "./gcp/gcp.ts";
import type { World } from "./world.ts";

/** @throws Error for a region that the simulated AWS does not have */
export function applyWorld(
  { aws, azure, gcp }: World,
  simulators: { aws: AwsSimulator; azure: AzureSimulator; gcp: GcpSimulator },
): void {
  if (aws !== undefined) applyAws(aws, simulators.aws);
  if (azure !== undefined) {
    simulators.azure.adjust(
      given({
        visibleAfterMs: azure.visible_after_ms,
        replicationMs: azure.replication_ms,
        importMs: azure.import_ms,
        operationMs: azure.operation_ms,
      }),
      given({ definitions: azure.definitions, versions: azure.versions }),
    );
  }
  if (gcp?.images !== undefined) simulators.gcp.limitImages(gcp.images);
}

function applyAws(aws: NonNullable<World["aws"]>, { state }: AwsSimulator): void {
  const behaviour = {
    visibleAfterMs: aws.visible_after_ms,
    blocksWritableAfterMs: aws.blocks_writable_after_ms,
    completeMs: aws.complete_ms,
    copyMs: aws.copy_ms,
    copiesPerRegion: aws.copies_per_region,
    pendingSnapshots: aws.pending_snapshots,
    importMs: aws.import_ms,
    importsPerRegion: aws.imports_per_region,
    parameterCheckMs: aws.parameter_check_ms,
  };
  Object.assign(state.behaviour, given(behaviour));
  const { "*": everywhere, ...regions } = aws.regions ?? {};
  const unknown = Object.keys(regions).find((region) => !AWS_REGIONS.includes(region));
  if (unknown !== undefined) throw new Error(`world.aws.regions: the simulated AWS has no region ${unknown}`);
  for (const region of AWS_REGIONS) {
    for (const settings of [everywhere, regions[region]]) {
      if (settings === undefined) continue;
      const changed = {
        optIn: settings.opt_in,
        ebsEncryptionByDefault: settings.ebs_encryption_by_default,
        imageBlockPublicAccess: settings.image_block_public_access,
        snapshotBlockPublicAccess: settings.snapshot_block_public_access,
        publicImages: settings.public_images,
      };
      Object.assign(state.settings(AWS_PUBLISHER.account, region), given(changed));
    }
  }
}

function given<T extends object>(value: T): { [Key in keyof T]?: NonNullable<T[Key]> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
