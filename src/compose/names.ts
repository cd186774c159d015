import { SlipwayError } from "../lib/errors.ts";
import type { Artifact, CloudName } from "../model.ts";
import { channelOf, kindOf, prereleaseOf } from "./channel.ts";
import { isEln, isRawhide, releaseNumberOf } from "./releases.ts";
import { PER_FILE, type PlaceholderValues } from "./template.ts";
import type { Compose, ReleaseState, System } from "./types.ts";

/** Values of all placeholders for one file of a compose. */
export function placeholdersOf(
  compose: Compose,
  artifact: Artifact,
  system: System,
  releases: ReleaseState,
): PlaceholderValues {
  const { label, release } = compose;
  const milestone = label && !label.dated ? label.version : undefined;
  return {
    arch: artifact.arch,
    azure_arch: AZURE_ARCH[artifact.arch] ?? artifact.arch,
    go_arch: GO_ARCH[artifact.arch] ?? artifact.arch,
    build: milestone ?? `${compose.date}.${compose.respin}`,
    channel: channelOf(compose, system.channels, releases),
    compose: compose.id,
    date: compose.date,
    file: fileStem(artifact),
    format: artifact.format,
    kind: kindOf(compose, releases),
    label: label?.text ?? "",
    label_version: label?.version ?? "",
    number: String(releaseNumberOf(release.version, releases)),
    prerelease: prereleaseOf(compose, releases) ? "Prerelease" : "",
    release: release.name,
    respin: String(compose.respin),
    short: release.short,
    subvariant: artifact.subvariant,
    type: artifact.type,
    variant: artifact.variant,
    version: isRawhide(release.version) ? "Rawhide" : isEln(release.version) ? "ELN" : release.version,
  };
}

/** Those that are the same for every file of a group. */
export function sharedPlaceholders(values: PlaceholderValues): Partial<PlaceholderValues> {
  return Object.fromEntries(Object.entries(values).filter(([name]) => !PER_FILE.some((own) => own === name)));
}

const AZURE_ARCH: Readonly<Record<string, string>> = { x86_64: "x64", aarch64: "Arm64" };
const GO_ARCH: Readonly<Record<string, string>> = { x86_64: "amd64", aarch64: "arm64", armhfp: "arm", i386: "386" };

function fileStem(artifact: Artifact): string {
  const file = artifact.path.slice(artifact.path.lastIndexOf("/") + 1);
  const ending = `.${artifact.format}`;
  return file.endsWith(ending) ? file.slice(0, -ending.length) : file;
}

interface NameRule {
  readonly pattern: RegExp;
  readonly words: string;
}

/** What each cloud takes as a name. A name that breaks its rule is an error: a shortened one would be another name. */
const NAME_RULES = {
  // https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
  aws: {
    pattern: /^[A-Za-z0-9()[\] ./'@_-]{3,128}$/,
    words: "3 to 128 letters, digits, spaces and ( ) [ ] . / - ' @ _",
  },
  // https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
  azure: {
    pattern: /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,78}[A-Za-z0-9])?$/,
    words: "up to 80 letters, digits, dots, dashes and underscores, a letter or digit at both ends",
  },
  // https://cloud.google.com/compute/docs/naming-resources
  gcp: {
    pattern: /^[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?$/,
    words: "up to 63 lower-case letters, digits and dashes, beginning with a letter and not ending with a dash",
  },
  local: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/,
    words: "up to 128 letters, digits, dots, dashes and underscores",
  },
  // https://github.com/opencontainers/distribution-spec
  tag: {
    pattern: /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/,
    words: "up to 128 letters, digits, dots, dashes and underscores",
  },
} satisfies Record<CloudName | "tag", NameRule>;

/** @throws SlipwayError `invalid`, its subject the template's place: `fedora-cloud images[0].name` */
export function checkName(rule: keyof typeof NAME_RULES, name: string, place: string): string {
  const { pattern, words } = NAME_RULES[rule];
  if (pattern.test(name)) return name;
  throw badName(place, `"${name.slice(0, 200)}" is no ${rule === "tag" ? "tag" : `name for ${rule}`}: ${words}`);
}

/** Lower case, dots and underscores as dashes: `x86_64` is `x86-64` there. */
export function gcpName(text: string): string {
  return text.toLowerCase().replace(/[._]+/g, "-");
}

/** Azure orders versions by three unsigned 32-bit numbers. */
export function checkAzureVersion(version: string, place: string): string {
  const parts = /^\d{1,10}\.\d{1,10}\.\d{1,10}$/.test(version) ? version.split(".").map(Number) : [];
  if (parts.length === 3 && parts.every((part) => part < 2 ** 32)) return version;
  throw badName(
    place,
    `"${version.slice(0, 200)}" is no version for azure: three numbers below 2^32, as 43.20251021.0`,
  );
}

/** AWS takes 255 characters of plain ASCII, the others more. */
export function checkDescription(text: string, place: string): string {
  if (/^[\x20-\x7e]{1,255}$/.test(text)) return text;
  throw badName(place, "the description is not 1 to 255 characters of plain ASCII");
}

export function badName(place: string, why: string): SlipwayError {
  return new SlipwayError("invalid", `${place}: ${why}`, {
    subject: place,
    next: "Change the template in slipway.yaml; `slipway plan --offline` shows the names it gives.",
  });
}
