import type { Arch, AwsSettings } from "../model.ts";
import { badName } from "./names.ts";
import { fillTemplate, type PlaceholderValues } from "./template.ts";
import type { AwsRule } from "./types.ts";

/**
 * What a rule says for AWS alone, for one artifact, where it makes sense for its architecture: AWS would say no only when
 * everything has been uploaded. @throws SlipwayError `invalid`, its subject the place
 */
export function awsSettings(
  rule: AwsRule | undefined,
  arch: Arch,
  values: PlaceholderValues,
  place: string,
): { readonly aws?: AwsSettings } {
  if (rule === undefined) return {};
  const { parameter, boot_mode, imds, tpm, ena, sriov, volume, uefi_data, protect } = rule;
  refuseContradictions(rule, arch, place);
  const aws: AwsSettings = {
    ...(parameter === undefined
      ? {}
      : { parameter: parameterName(fillTemplate(parameter, values), `${place}.parameter`) }),
    ...(boot_mode === undefined ? {} : { bootMode: boot_mode }),
    ...(imds === undefined ? {} : { imds }),
    ...(tpm === undefined ? {} : { tpm }),
    ...(ena === undefined ? {} : { ena }),
    ...(sriov === undefined ? {} : { sriov }),
    ...(volume === undefined ? {} : { volume: definedOnly(volume) }),
    ...(uefi_data === undefined ? {} : { uefiData: uefi_data }),
    ...(protect === undefined ? {} : { protect }),
  };
  return Object.keys(aws).length === 0 ? {} : { aws };
}

/**
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-boot.html
 * @see https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/enable-nitrotpm-prerequisites.html
 */
function refuseContradictions(rule: AwsRule, arch: Arch, place: string): void {
  const { boot_mode, tpm, ena, uefi_data, volume } = rule;
  const arm = arch === "aarch64";
  const refuse = (field: string, why: string): never => {
    throw badName(`${place}.${field}`, why);
  };
  if (arm && boot_mode !== undefined && boot_mode !== "uefi") {
    refuse("boot_mode", `AWS's machines of ${arch} boot with uefi only, not with ${boot_mode}`);
  }
  if (tpm !== undefined && boot_mode !== "uefi" && !(arm && boot_mode === undefined)) {
    refuse("tpm", `a TPM needs boot_mode: uefi; it is ${boot_mode ?? "uefi-preferred, the default"}`);
  }
  if (uefi_data !== undefined && boot_mode === "legacy-bios") {
    refuse("uefi_data", "there are no UEFI variables with boot_mode: legacy-bios");
  }
  if (arm && ena === false) refuse("ena", `AWS's machines of ${arch} have no other network than ENA`);
  if (volume !== undefined) refuseVolume(volume, refuse);
}

/**
 * Limits of the volume types, as they are for every account.
 * @see https://docs.aws.amazon.com/ebs/latest/userguide/ebs-volume-types.html
 */
function refuseVolume(
  { type = "gp3", iops, throughput }: NonNullable<AwsRule["volume"]>,
  refuse: (field: string, why: string) => never,
): void {
  const ranges: Partial<Record<string, readonly [number, number]>> = {
    gp3: [3000, 16_000],
    io1: [100, 64_000],
    io2: [100, 256_000],
  };
  const range = ranges[type];
  if (iops === undefined && type.startsWith("io")) refuse("volume.iops", `a volume of type ${type} needs it`);
  if (iops !== undefined && range === undefined) refuse("volume.iops", `a volume of type ${type} has none to choose`);
  if (iops !== undefined && range !== undefined && (iops < range[0] || iops > range[1])) {
    refuse("volume.iops", `a volume of type ${type} has ${range[0]} to ${range[1]}, not ${iops}`);
  }
  if (throughput === undefined) return;
  if (type !== "gp3") refuse("volume.throughput", `only gp3 has it to choose, not ${type}`);
  // A quarter of a MiB/s for each I/O per second.
  if (throughput < 125 || throughput > 1000 || throughput > (iops ?? 3000) / 4) {
    refuse("volume.throughput", `it is 125 to 1000 MiB/s, and at most a quarter of iops (${iops ?? 3000})`);
  }
}

/**
 * AWS takes 15 levels and a thousand characters; a tag of the image, which remembers the name, takes 255.
 * @see https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html
 */
function parameterName(name: string, place: string): string {
  const wellFormed = /^(\/[A-Za-z0-9_.-]+){1,15}$/.test(name) && name.length <= 255;
  if (wellFormed && !/^\/(aws|ssm)/i.test(name)) return name;
  throw badName(
    place,
    `"${name.slice(0, 200)}" is no parameter's name: 1 to 15 levels as /fedora/cloud/latest, of letters, digits and . _ -, not beginning with aws or ssm`,
  );
}

function definedOnly(volume: NonNullable<AwsRule["volume"]>): NonNullable<AwsSettings["volume"]> {
  const { type, size_gib: sizeGiB, iops, throughput } = volume;
  return {
    ...(type === undefined ? {} : { type }),
    ...(sizeGiB === undefined ? {} : { sizeGiB }),
    ...(iops === undefined ? {} : { iops }),
    ...(throughput === undefined ? {} : { throughput }),
  };
}
