import { expect, test } from "vitest";
import { featuresFor, missingFeatures } from "./features.ts";

const MAKER = { publisher: "Fedora", offer: "Cloud" };
const ALL = { ...MAKER, diskControllerTypes: "SCSI, NVMe", acceleratedNetworking: true };

test("a definition says what is configured, and trusted launch where Azure has it", () => {
  expect(featuresFor("x64", ALL)).toEqual([
    { name: "SecurityType", value: "TrustedLaunchSupported" },
    { name: "DiskControllerTypes", value: "SCSI, NVMe" },
    { name: "IsAcceleratedNetworkSupported", value: "True" },
  ]);
  expect(featuresFor("Arm64", MAKER)).toEqual([]);
  expect(featuresFor("Arm64", { ...MAKER, acceleratedNetworking: false })).toEqual([
    { name: "IsAcceleratedNetworkSupported", value: "False" },
  ]);
});

test("a definition made by it lacks nothing; one without features lacks all", () => {
  const wanted = featuresFor("x64", ALL);
  expect(missingFeatures(wanted, wanted)).toEqual([]);
  expect(missingFeatures(undefined, wanted)).toEqual(wanted.map(({ name }) => name));
});

test.each([
  { name: "SecurityType", value: "TrustedLaunchAndConfidentialVmSupported", missing: false },
  { name: "SecurityType", value: "Standard", missing: true },
  { name: "diskcontrollertypes", value: "NVMe,SCSI", missing: false },
  { name: "DiskControllerTypes", value: "SCSI", missing: true },
  { name: "IsAcceleratedNetworkSupported", value: "true", missing: false },
  { name: "IsAcceleratedNetworkSupported", value: "False", missing: true },
])("$name=$value: missing is $missing", ({ name, value, missing }) => {
  const wanted = featuresFor("x64", ALL).filter((each) => each.name?.toLowerCase() === name.toLowerCase());
  expect(missingFeatures([{ name, value }], wanted)).toHaveLength(missing ? 1 : 0);
});

test("a definition that says nothing can do the least", () => {
  expect(missingFeatures([], featuresFor("Arm64", { ...MAKER, diskControllerTypes: "SCSI" }))).toEqual([]);
  expect(missingFeatures([], featuresFor("Arm64", { ...MAKER, acceleratedNetworking: false }))).toEqual([]);
});
