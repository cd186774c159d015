import { nearest } from "../compose/index.ts";
import type { Path } from "./problem.ts";
import { BY_TOPIC, ruleConfigs } from "./rules.ts";
import type { Config, ConfiguredSystem, Target } from "./schema.ts";

/** A rule between two places of the configuration that is broken. */
export interface Broken {
  readonly path: Path;
  readonly message: string;
}

type Checked = Pick<
  Config,
  "targets" | "systems" | "rules" | "automation" | "freeze" | "bus" | "shadow" | "notifications"
>;

/** What no schema of one place can see: names that point nowhere, targets of the wrong kind, templates that lack. */
export function checkReferences(config: Checked): Broken[] {
  const broken: Broken[] = [];
  for (const system of Object.values(config.systems)) broken.push(...checkSystem(system, config.targets));
  const systems = Object.keys(config.systems);
  broken.push(...checkRules(config));
  for (const [index, window] of config.freeze.entries()) {
    for (const [at, name] of (window.systems ?? []).entries()) {
      broken.push(...checkName("system", name, systems, ["freeze", index, "systems", at]));
    }
    if (Date.parse(window.from) >= Date.parse(window.until)) {
      broken.push({ path: ["freeze", index, "until"], message: "the window ends before it begins" });
    }
  }
  for (const [at, name] of (config.shadow?.systems ?? []).entries()) {
    broken.push(...checkName("system", name, systems, ["shadow", "systems", at]));
  }
  broken.push(...checkNotifications(config.notifications));
  if (config.bus && (config.bus.cert_file === undefined) !== (config.bus.key_file === undefined)) {
    broken.push({ path: ["bus"], message: "cert_file and key_file belong together" });
  }
  return broken;
}

function checkNotifications({ channels, alarms }: Checked["notifications"]): Broken[] {
  const known = Object.keys(channels);
  return Object.entries(alarms).flatMap(([kind, alarm]) =>
    (alarm.channels ?? []).flatMap((name, at) =>
      checkName("channel", name, known, ["notifications", "alarms", kind, "channels", at]),
    ),
  );
}

function checkRules(config: Checked): Broken[] {
  const broken: Broken[] = [];
  const { users, playbooks } = config.automation;
  const names = ruleConfigs(config).map(({ name }) => name);
  for (const [index, rule] of config.rules.entries()) {
    const at = (...rest: Path): Path => ["rules", index, ...rest];
    const name = names[index]!;
    if (names.indexOf(name) < index || name === BY_TOPIC) {
      const message = `another rule is called ${name}; give this one a name`;
      broken.push({ path: rule.name === undefined ? at() : at("name"), message });
    }
    const named: [what: "system" | "target", given: string | undefined, path: Path][] = [
      ["system", rule.system, at("system")],
    ];
    if (rule.system !== undefined && rule.do !== undefined) {
      broken.push({ path: at("system"), message: "is for rules without `do`; name the system there" });
    }
    for (const [kind, settings] of Object.entries(rule.do ?? {})) {
      const { system, target } = settings as { system?: string; target?: string };
      named.push(["system", system, at("do", kind, "system")], ["target", target, at("do", kind, "target")]);
    }
    for (const [what, given, path] of named) {
      if (given !== undefined) broken.push(...checkName(what, given, Object.keys(config[`${what}s`]), path));
    }
    if (rule.do === undefined || !("playbook" in rule.do)) continue;
    const { user } = rule.do.playbook;
    if (user !== undefined) {
      const path = at("do", "playbook", "user");
      broken.push(...checkName("automation user", user, Object.keys(users), path));
    }
    if (playbooks === undefined) {
      broken.push({ path: at("do", "playbook"), message: "automation.playbooks does not say where playbooks are" });
    }
  }
  if (config.automation.by_topic && playbooks === undefined) {
    broken.push({ path: ["automation", "by_topic"], message: "automation.playbooks does not say where playbooks are" });
  }
  return broken;
}

function checkSystem(system: ConfiguredSystem, targets: Config["targets"]): Broken[] {
  const broken: Broken[] = [];
  const at = (kind: "images" | "containers", index: number, ...rest: Path): Path => [
    ...["systems", system.name, kind],
    index,
    ...rest,
  ];
  for (const [index, rule] of system.images.entries()) {
    for (const [position, name] of rule.to.entries()) {
      const target = targetOf(targets, name);
      const place = at("images", index, "to", position);
      if (!target) broken.push(...checkName("target", name, Object.keys(targets), place));
      else broken.push(...checkImageRule(rule, target, at("images", index), place));
    }
  }
  for (const [index, rule] of system.containers.entries()) {
    for (const [position, name] of rule.to.entries()) {
      const place = at("containers", index, "to", position);
      const target = targetOf(targets, name);
      if (!target) broken.push(...checkName("target", name, Object.keys(targets), place));
      else if (target.cloud !== "registry") {
        broken.push({ path: place, message: `target ${name} is ${target.cloud}; containers go to registries` });
      }
    }
    if (rule.tags.at(-1)?.when) {
      broken.push({
        path: at("containers", index, "tags"),
        message: "the last entry must have no `when`: it is for all others",
      });
    }
  }
  return broken;
}

/** "constructor" is a good name for a target, and every object has one. */
function targetOf(targets: Config["targets"], name: string): Target | undefined {
  return Object.hasOwn(targets, name) ? targets[name] : undefined;
}

/** Templates a kind of target cannot do without. */
const NEEDED = { aws: ["name"], local: ["name"], azure: ["definition"], gcp: ["name", "family"] } as const;
const TELLS_ARCHES_APART = /\{[-._]?(arch|azure_arch|go_arch|file)\}/;

function checkImageRule(
  rule: ConfiguredSystem["images"][number],
  target: Target,
  rulePath: Path,
  place: Path,
): Broken[] {
  if (target.cloud === "registry") {
    return [{ path: place, message: `target ${target.name} is a registry, which takes no disks` }];
  }
  const broken: Broken[] = [];
  const severalArches = rule.select.arch?.length !== 1 || rule.select.arch[0]!.includes("*");
  for (const field of NEEDED[target.cloud]) {
    const template = rule[field];
    if (template === undefined) {
      broken.push({
        path: rulePath,
        message: `target ${target.name} is ${target.cloud}, so the rule needs \`${field}\``,
      });
    } else if (severalArches && !TELLS_ARCHES_APART.test(template)) {
      broken.push({
        path: [...rulePath, field],
        message: "would give images of several architectures one name; put {arch} into it",
      });
    }
  }
  const parameter = target.cloud === "aws" ? rule.aws?.parameter : undefined;
  if (parameter !== undefined && severalArches && !TELLS_ARCHES_APART.test(parameter)) {
    broken.push({
      path: [...rulePath, "aws", "parameter"],
      message: "would name images of several architectures in turn; put {arch} into it",
    });
  }
  return broken;
}

function checkName(kind: string, name: string, known: readonly string[], path: Path): Broken[] {
  if (known.includes(name)) return [];
  const close = nearest(name, known);
  const hint = close
    ? `did you mean "${close}"?`
    : known.length > 0
      ? `there are ${known.join(", ")}`
      : `${kind}s is empty`;
  return [{ path, message: `there is no ${kind} "${name}"; ${hint}` }];
}
