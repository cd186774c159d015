import type { Arch, Artifact } from "../model.ts";
import { awsSettings } from "./aws-settings.ts";
import { taken } from "./filter.ts";
import { badName, checkAzureVersion, checkName, gcpName, placeholdersOf } from "./names.ts";
import { byText } from "./order.ts";
import { plannedBase } from "./planned.ts";
import { type Selecting, targetsOf } from "./select.ts";
import { fillTemplate, type PlaceholderValues } from "./template.ts";
import type { ImageRule, PlannedGroup, PlannedImage, PlanTarget } from "./types.ts";

/** One group an artifact, with all its targets: by rule, then by path. */
export function selectDisks(selecting: Selecting): PlannedGroup[] {
  // What was named so far: two images of one name in one target would be one image with unknown bytes.
  const named = new Map<string, PlannedImage>();
  return selecting.system.images.flatMap((rule, index) =>
    selecting.applies(rule) ? groupsOfRule(selecting, rule, `${selecting.system.name} images[${index}]`, named) : [],
  );
}

function groupsOfRule(
  selecting: Selecting,
  rule: ImageRule,
  place: string,
  named: Map<string, PlannedImage>,
): PlannedGroup[] {
  const artifacts = taken(rule.select, selecting.compose.artifacts);
  const arches = new Set(artifacts.map((artifact) => artifact.arch));
  noteMissing(selecting, rule, place, arches);
  const absent = rule.required_arches.filter((arch) => !arches.has(arch));
  if (absent.length > 0) {
    for (const artifact of artifacts)
      selecting.skip(artifact, `held back: the compose has no ${absent.join(" and no ")} image`);
    return [];
  }

  const groups: PlannedGroup[] = [];
  const targets = targetsOf(rule.to, selecting);
  for (const artifact of artifacts) {
    if (targets.length === 0)
      selecting.skip(artifact, `every target of its rule is switched off: ${rule.to.join(", ")}`);
    const items: PlannedImage[] = [];
    for (const target of targets) {
      const image = planDisk(selecting, rule, artifact, target, place);
      const key = JSON.stringify([target.name, image.name]);
      const other = named.get(key);
      if (!other) {
        named.set(key, image);
        claimParameter(image, named, place);
        items.push(image);
      } else if (other.arch !== image.arch) {
        throw badName(
          place,
          `"${image.name}" would name both ${other.artifact.path} and ${artifact.path}; put {arch} into the name`,
        );
      } else {
        selecting.skip(artifact, `${image.name} on ${target.name} is already made from ${other.artifact.path}`);
      }
    }
    if (items.length === 0) continue;
    groups.push({ id: artifact.path, kind: "disk", items, offerWhen: rule.offer_when, releaseAs: rule.release_as });
  }
  return groups.sort((a, b) => byText(a.id, b.id));
}

/** A parameter names one image: two of one release would take it from each other. */
function claimParameter(image: PlannedImage, named: Map<string, PlannedImage>, place: string): void {
  const parameter = image.aws?.parameter;
  if (parameter === undefined) return;
  const key = JSON.stringify([image.target, "parameter", parameter]);
  const other = named.get(key);
  if (other) throw badName(`${place}.aws.parameter`, `"${parameter}" would name both ${other.name} and ${image.name}`);
  named.set(key, image);
}

function planDisk(
  selecting: Selecting,
  rule: ImageRule,
  artifact: Artifact,
  target: PlanTarget,
  place: string,
): PlannedImage {
  const { compose, system, releases } = selecting;
  const values = placeholdersOf(compose, artifact, system, releases);
  const text = fillTemplate(rule.description, values);
  return {
    ...plannedBase(selecting, artifact, target, values, { text, place: `${place}.description` }),
    ...namesFor(target, rule, artifact.arch, values, place),
  };
}

type Names = Pick<PlannedImage, "name" | "definition" | "version" | "family" | "aws">;

function namesFor(target: PlanTarget, rule: ImageRule, arch: Arch, values: PlaceholderValues, place: string): Names {
  const fill = (field: "name" | "definition" | "version" | "family") => {
    const template = rule[field];
    if (template === undefined) throw badName(`${place}.${field}`, `target ${target.name} needs it and it is not set`);
    return fillTemplate(template, values);
  };
  switch (target.cloud) {
    case "azure": {
      const definition = checkName("azure", fill("definition"), `${place}.definition`);
      const version = checkAzureVersion(fill("version"), `${place}.version`);
      return { name: `${definition}/${version}`, definition, version };
    }
    case "gcp":
      return {
        name: checkName("gcp", gcpName(fill("name")), `${place}.name`),
        family: checkName("gcp", gcpName(fill("family")), `${place}.family`),
      };
    case "aws":
      return {
        name: checkName("aws", fill("name"), `${place}.name`),
        ...awsSettings(rule.aws, arch, values, `${place}.aws`),
      };
    case "local":
      return { name: checkName("local", fill("name"), `${place}.name`) };
    case "registry":
      throw badName(`${place}.to`, `target ${target.name} is a registry, which takes containers and no disks`);
  }
}

function noteMissing(selecting: Selecting, rule: ImageRule, place: string, arches: ReadonlySet<Arch>): void {
  const wanted = (rule.select.arch ?? []).filter((arch) => !arch.includes("*") && !arches.has(arch));
  if (wanted.length === 0) return;
  const what = [rule.select.type?.join("/"), rule.select.subvariant?.join("/")].filter(Boolean).join(" ");
  selecting.note(`the compose has no ${what || "image"} for ${wanted.join(", ")} (${place})`);
}
