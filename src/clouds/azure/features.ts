/** What a definition says its images can do: VM sizes that need a feature refuse images whose definition lacks it. */
import type { GalleryImageFeature } from "@azure/arm-compute";
import type { DefinitionDefaults } from "./options.ts";

/**
 * Features of a new definition.
 * @see https://learn.microsoft.com/azure/virtual-machines/shared-image-galleries
 */
export function featuresFor(arch: "x64" | "Arm64", defaults: DefinitionDefaults): GalleryImageFeature[] {
  const { diskControllerTypes, acceleratedNetworking } = defaults;
  return [
    // Trusted Launch is offered for x64 only; every Generation 2 image of ours boots with it and without.
    ...(arch === "x64" ? [{ name: "SecurityType", value: "TrustedLaunchSupported" }] : []),
    ...(diskControllerTypes ? [{ name: "DiskControllerTypes", value: diskControllerTypes }] : []),
    ...(acceleratedNetworking === undefined
      ? []
      : [{ name: "IsAcceleratedNetworkSupported", value: acceleratedNetworking ? "True" : "False" }]),
  ];
}

/** Names of the features that are wanted and that a definition has not, or has with another value. */
export function missingFeatures(
  has: readonly GalleryImageFeature[] | undefined,
  wanted: readonly GalleryImageFeature[],
): string[] {
  const found = new Map((has ?? []).map(({ name, value }) => [name?.toLowerCase(), value ?? ""]));
  return wanted
    .filter(({ name, value }) => !covers(name!, found.get(name!.toLowerCase()), value!))
    .map(({ name }) => name!);
}

function covers(name: string, has: string | undefined, wanted: string): boolean {
  // A definition that says nothing is taken for one that can do the least.
  const values = valuesOf(has ?? (name === "DiskControllerTypes" ? "SCSI" : "False"));
  // `TrustedLaunch` and `TrustedLaunchAndConfidentialVmSupported` boot with Trusted Launch as well.
  if (name === "SecurityType") return values.some((value) => value.startsWith("trustedlaunch"));
  return valuesOf(wanted).every((value) => values.includes(value));
}

function valuesOf(text: string): string[] {
  return text.split(",").map((value) => value.trim().toLowerCase());
}
