import type { Artifact } from "../model.ts";
import { holds } from "./condition.ts";
import { taken } from "./filter.ts";
import { badName, checkName, placeholdersOf, sharedPlaceholders } from "./names.ts";
import { byText } from "./order.ts";
import { plannedBase } from "./planned.ts";
import { type Selecting, targetsOf } from "./select.ts";
import { fillTemplate, type PlaceholderValues } from "./template.ts";
import type { ContainerRule, PlannedGroup, PlannedImage } from "./types.ts";

/** One group a repository, with all its architectures and registries: by rule, then by repository. */
export function selectContainers(selecting: Selecting): PlannedGroup[] {
  const { applies } = selecting;
  return selecting.system.containers.flatMap((rule, index) =>
    applies(rule) ? groupsOfRule(selecting, rule, `${selecting.system.name} containers[${index}]`) : [],
  );
}

function groupsOfRule(selecting: Selecting, rule: ContainerRule, place: string): PlannedGroup[] {
  const byRepository = new Map<string, Map<string, Artifact>>();
  for (const artifact of taken(rule.select, selecting.compose.artifacts)) {
    const { subvariant, arch } = artifact;
    const repository = Object.hasOwn(rule.repositories, subvariant) ? rule.repositories[subvariant] : undefined;
    if (repository === undefined) {
      const has = subvariant === "" ? `a ${artifact.type} without a subvariant` : `subvariant ${subvariant}`;
      selecting.skip(artifact, `${has} has no repository in ${selecting.system.name}`);
      continue;
    }
    const byArch = byRepository.get(repository) ?? new Map<string, Artifact>();
    byRepository.set(repository, byArch);
    const other = byArch.get(arch);
    if (other) selecting.skip(artifact, `${repository} for ${arch} is already made from ${other.path}`);
    else byArch.set(arch, artifact);
  }
  return [...byRepository]
    .sort(([a], [b]) => byText(a, b))
    .flatMap(([repository, byArch]) => {
      const artifacts = [...byArch.values()].sort((a, b) => byText(a.arch, b.arch));
      return groupOf(selecting, rule, repository, artifacts, place) ?? [];
    });
}

function groupOf(
  selecting: Selecting,
  rule: ContainerRule,
  repository: string,
  artifacts: readonly Artifact[],
  place: string,
): PlannedGroup | undefined {
  const targets = targetsOf(rule.to, selecting);
  const absent = rule.required_arches.filter((arch) => !artifacts.some((artifact) => artifact.arch === arch));
  for (const artifact of artifacts) {
    if (absent.length > 0) selecting.skip(artifact, `held back: ${repository} has no ${absent.join(" and no ")} image`);
    if (targets.length === 0)
      selecting.skip(artifact, `every target of its rule is switched off: ${rule.to.join(", ")}`);
  }
  if (absent.length > 0 || targets.length === 0) return undefined;

  const { compose, system, releases } = selecting;
  const items = artifacts.flatMap((artifact) => {
    const values = placeholdersOf(compose, artifact, system, releases);
    const tags = tagsFor(selecting, rule, values, place);
    const text = `${repository} ${values.version} for ${artifact.arch}, from compose ${compose.id}`;
    return targets.map((target): PlannedImage => {
      if (target.cloud !== "registry") {
        throw badName(`${place}.to`, `target ${target.name} is no registry, and only a registry takes containers`);
      }
      return {
        ...plannedBase(selecting, artifact, target, values, { text, place }),
        name: `${repository}:${tags.versionTag ?? tags.tags[0]}`,
        repository,
        ...tags,
      };
    });
  });
  return { id: `repository:${repository}`, kind: "container", items, offerWhen: "all", releaseAs: rule.release_as };
}

/** The tags are of the whole index, so nothing in them may differ between its architectures. */
function tagsFor(
  selecting: Selecting,
  rule: ContainerRule,
  values: PlaceholderValues,
  place: string,
): { tags: readonly string[]; versionTag?: string } {
  const { compose, system, releases } = selecting;
  const shared = sharedPlaceholders(values);
  const fill = (template: string, field: string) =>
    checkName("tag", fillTemplate(template, shared), `${place}.${field}`);
  const found = rule.tags.find((candidate) => holds(candidate.when, compose, system, releases));
  if (!found)
    throw badName(`${place}.tags`, "no tag rule holds for this compose; end the list with one without `when`");
  const tags = found.tags.map((template) => fill(template, "tags"));
  return rule.version_tag === undefined ? { tags } : { tags, versionTag: fill(rule.version_tag, "version_tag") };
}
