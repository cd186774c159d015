import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { reportOf } from "../lib/errors.ts";
import { GiB } from "../lib/units.ts";
import {
  azureDefinition,
  azureRegions,
  type Config,
  configJsonSchema,
  configReference,
  loadConfig,
  parseConfig,
  planTargets,
  ruleConfigs,
} from "./index.ts";

const ROOT = resolve(import.meta.dirname, "../..");

/** The error's message, with what it was about. */
function refused(text: string): { message: string; subject: string | undefined; next: string | undefined } {
  try {
    parseConfig(text);
  } catch (error) {
    const { code, message, subject, next } = reportOf(error);
    expect(code).toBe("invalid");
    return { message, subject, next };
  }
  throw new Error("the configuration was accepted");
}

describe("an empty file works", () => {
  test.each(["", "# nothing\n", "targets:\n"])("%j", (text) => {
    expect(parseConfig(text)).toMatchObject({
      data_dir: ".slipway",
      console: { listen: "127.0.0.1:8080" },
      limits: { max_disk_bytes: 64 * GiB, concurrency: { aws: 4 } },
      releases: { stable: [], unknown_end_of_life_months: 13 },
      targets: {},
      systems: {},
    });
  });
});

const CHANNELS = "notifications:\n  channels:\n";
const AWS = "targets:\n  aws:\n    cloud: aws\n";

describe("bad configuration: line, column, field and the way out", () => {
  test.each([
    ["an unknown section", "targest: {}\n", 'slipway.yaml:1:1: unknown key "targest"; did you mean "targets"?'],
    [
      "an unknown key in a target",
      `${AWS}    regons: all\n`,
      'slipway.yaml:4:5: targets.aws: unknown key "regons"; did you mean "regions"?',
    ],
    [
      "another cloud's key is not suggested",
      `${AWS}    galery: x\n`,
      'slipway.yaml:4:5: targets.aws: unknown key "galery"; there are cloud, enabled',
    ],
    [
      "an unknown key in a rule",
      "systems:\n  f:\n    images:\n      - select: { tpye: [raw-xz] }\n        to: [aws]\n",
      'slipway.yaml:4:19: systems.f.images[0].select: unknown key "tpye"; did you mean "type"?',
    ],
    [
      "an unknown key inside an alternative",
      "systems:\n  f:\n    images:\n      - { select: {}, to: [aws], offer_when: { qorum: 0.5 } }\n",
      'unknown key "qorum"; did you mean "quorum"?',
    ],
    ["an unknown cloud", "targets:\n  a:\n    cloud: azur\n", "slipway.yaml:3:5: targets.a.cloud: expected aws, azure"],
    [
      "no cloud",
      "targets:\n  a: { enabled: true }\n",
      "targets.a.cloud: is missing: one of aws, azure, gcp, registry, local",
    ],
    [
      "two targets of one name",
      `${AWS}  aws:\n    cloud: local\n`,
      'slipway.yaml:4:3: the name "aws" stands here twice',
    ],
    [
      "a name that cannot be one",
      "targets:\n  My AWS: { cloud: local }\n",
      "slipway.yaml:2:3: targets.My AWS: a name is",
    ],
    [
      "an account without quotes",
      `${AWS}    account: 013116697141\n`,
      "slipway.yaml:4:5: targets.aws.account: expected an account of 12 digits, in quotes",
    ],
    [
      "a home that is not among the regions",
      `${AWS}    regions: [us-west-1]\n`,
      "targets.aws.regions: home_region us-east-1 is not among the regions",
    ],
    [
      "a region twice",
      `${AWS}    regions: [us-east-1, us-east-1]\n`,
      "targets.aws.regions[1]: region us-east-1 stands here twice",
    ],
    ["regions: every", `${AWS}    regions: every\n`, "targets.aws.regions: expected all, or a list of regions"],
    [
      "a word of a list",
      `${AWS}    replicate: copie\n`,
      "targets.aws.replicate: expected copy, direct; did you mean copy?",
    ],
    [
      "plain http to another machine",
      "targets:\n  r: { cloud: registry, url: quay.io/fedora, plain_http: true }\n",
      "targets.r.plain_http: plain http is for this machine only, not quay.io",
    ],
    [
      "an endpoint without TLS",
      `${AWS}    endpoints: { ec2: "http://ec2.example.org" }\n`,
      "targets.aws.endpoints.ec2: expected an https URL",
    ],
    [
      "a Matrix alias in place of the room's id",
      `${CHANNELS}    m: { kind: matrix, homeserver: "https://m.example.org", room: "#a:b", token: { env: T } }\n`,
      "notifications.channels.m.room: expected a room's id, which begins with `!`",
    ],
    [
      "a literal secret URL",
      `${CHANNELS}    s: { kind: slack, url: "https://hooks.example.org/T0/B0/x" }\n`,
      "notifications.channels.s.url: a literal secret is not accepted",
    ],
    [
      "a mail address that would be two headers",
      `${CHANNELS}    m: { kind: mail, host: h, from: "a@example.org\\r\\nBcc: x@example.org", to: [b@example.org] }\n`,
      "notifications.channels.m.from: expected one mail address",
    ],
    [
      "a password in the clear",
      `${CHANNELS}    m: { kind: mail, host: h, tls: none, username: u, password: { env: P }, from: a@b.c, to: [a@b.c] }\n`,
      "notifications.channels.m.tls: a password is not sent without TLS to another machine",
    ],
    [
      "half a login",
      `${CHANNELS}    m: { kind: mail, host: h, username: u, from: a@b.c, to: [a@b.c] }\n`,
      "username and password belong together",
    ],
    [
      "a channel that is not there",
      `${CHANNELS}    ops: { kind: bus }\n  alarms: { broker: { channels: [obs] } }\n`,
      'notifications.alarms.broker.channels[0]: there is no channel "obs"; did you mean "ops"?',
    ],
    [
      "a kind of alarm that is not there",
      "notifications: { alarms: { quarantin: { enabled: false } } }\n",
      'unknown key "quarantin"; did you mean "quarantine"?',
    ],
    [
      "an organization that gets snapshots",
      `${AWS}    offer: { organizations: ["arn:aws:organizations::111122223333:organization/o-abcdefghij"] }\n`,
      "targets.aws.snapshots: AWS shares snapshots with accounts and with everybody, not with organizations",
    ],
    [
      "an organization without its ARN",
      `${AWS}    offer: { organizations: [o-abcdefghij] }\n    snapshots: private\n`,
      "is not the ARN of an organization or of one of its units",
    ],
    ["an audience of nobody in particular", `${AWS}    offer: {}\n`, "expected accounts, organizations or both"],
    [
      "a FIFO topic",
      `${AWS}    sns_topic: "arn:aws:sns:us-east-1:111122223333:images.fifo"\n`,
      "targets.aws.sns_topic: a FIFO topic is not supported",
    ],
    [
      "regions of two partitions",
      `${AWS}    regions: [us-east-1, cn-north-1]\n`,
      "targets.aws.regions: cn-north-1 is in the partition aws-cn, the home region in aws",
    ],
    [
      "a topic of another partition",
      `${AWS}    sns_topic: "arn:aws-cn:sns:cn-north-1:111122223333:images"\n`,
      "is in another partition than the home region",
    ],
    [
      "exceptions from a list",
      `${AWS}    regions: [us-east-1]\n    regions_except: [eu-west-1]\n`,
      "targets.aws.regions_except: belongs to `regions: all`",
    ],
    [
      "the home region as exception",
      `${AWS}    regions: all\n    regions_except: [us-east-1]\n`,
      "home_region us-east-1 cannot be left out",
    ],
    [
      "an import into every region",
      `${AWS}    import: { bucket: images-import }\n    replicate: direct\n`,
      "targets.aws.import: goes with `replicate: copy`",
    ],
    [
      "a bucket's URL",
      `${AWS}    import: { bucket: "s3://images" }\n`,
      "targets.aws.import.bucket: is not the name of a bucket",
    ],
    [
      "a witness of a private gallery",
      "targets:\n  az: { cloud: azure, resource_group: g, gallery: G, storage_account: acc, witness: { tenant_id: t, client_id: c, client_secret: { env: S }, subscription: s } }\n",
      "targets.az.witness: needs `public_gallery`",
    ],
    ["a registry with a scheme", "targets:\n  r: { cloud: registry, url: https://quay.io }\n", "without https://"],
    ["a size", "limits: { max_disk_bytes: huge }\n", 'limits.max_disk_bytes: expected a size such as "64 GiB"'],
    ["a duration", "systems:\n  f: { expect: { every: daily } }\n", 'expected a duration such as "90s"'],
    ["a date", "releases: { end_of_life: { 43: soon } }\n", "releases.end_of_life.43: expected a date"],
    ["a listener", "console: { listen: 8080 }\n", "console.listen: expected host:port, or off"],
    ["a number for a list", "releases: { stable: 43 }\n", "releases.stable: expected a list, not a number"],
    [
      "an empty list",
      "systems:\n  f: { images: [{ select: {}, to: [] }] }\n",
      "systems.f.images[0].to: expected at least 1 of them",
    ],
    ["too much at once", "limits: { concurrency: { aws: 1000 } }\n", "limits.concurrency.aws: expected at most 64"],
    [
      "too long a name",
      `systems:\n  f: { images: [{ select: {}, to: [a], name: ${"x".repeat(301)} }] }\n`,
      "expected at most 300 characters",
    ],
    ["an anchor that is not there", "data_dir: *home\n", 'slipway.yaml:1:11: there is no anchor "home"'],
    ["a number for a URL", "bus: { url: 5672 }\n", "bus.url: expected a URL, {env: NAME} or {file: PATH}"],
    ["another server's URL", "database: { url: mysql://db }\n", "begins with postgres:// or postgresql://"],
    ["half a client certificate", "bus: { cert_file: a.pem }\n", "bus: cert_file and key_file belong together"],
    ["not YAML", "targets: [\n", "this is not YAML"],
    ["a list", "- a\n", "slipway.yaml:1:1: the file must be a mapping of settings"],
    ["a custom tag", "data_dir: !secret x\n", "this is not YAML"],
    ["a key of JavaScript's", "__proto__: { x: 1 }\n", "no setting can be named __proto__"],
    ["an alias that explodes", bomb(), "there is too much here"],
  ])("%s", (_, text, message) => {
    const error = refused(text);
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/^slipway\.yaml:\d+:\d+: /);
    expect(error.next).toContain("slipway config check");
  });

  test("all problems are told at once", () => {
    const { message, subject } = refused(`${AWS}    regons: all\n    acount: "1"\nconsol: {}\n`);
    expect(message.split("\n")).toHaveLength(3);
    expect(subject).toMatch(/^slipway\.yaml:\d+:\d+$/);
  });
});

function bomb(): string {
  const lines = ["a: &a [x, x, x, x, x, x, x, x, x]"];
  for (const [name, before] of ["ba", "cb", "dc", "ed", "fe", "gf"].map((pair) => [...pair])) {
    lines.push(`${name}: &${name} [${Array(9).fill(`*${before}`).join(", ")}]`);
  }
  return lines.join("\n");
}

describe("a literal secret is refused and never repeated", () => {
  const SECRET = "hunter2-very-secret";
  const azure = "targets:\n  a:\n    cloud: azure\n    resource_group: g\n    gallery: G\n    storage_account: abc\n";
  test.each([
    ["AWS", `${AWS}    credentials: { access_key_id: AKIA, secret_access_key: ${SECRET} }\n`],
    ["Azure", `${azure}    credentials: { tenant_id: t, client_id: c, client_secret: ${SECRET} }\n`],
    [
      "a registry",
      `targets:\n  r: { cloud: registry, url: quay.io, credentials: { username: u, password: ${SECRET} } }\n`,
    ],
    ["the broker", `bus: { password: ${SECRET} }\n`],
    ["the database's URL", `database: { url: "postgres://slipway:${SECRET}@db/slipway" }\n`],
    ["the broker's URL", `bus: { url: "amqps://slipway:${SECRET}@rabbitmq" }\n`],
    ["an endpoint's URL", `${AWS}    endpoints: { ec2: "https://u:${SECRET}@ec2.example.org" }\n`],
  ])("%s", (_, text) => {
    const { message } = refused(text);
    expect(message).toMatch(/literal secret is not accepted/);
    expect(message).not.toContain(SECRET);
  });

  test("under a key that does not exist", () => {
    expect(refused(`${AWS}    secret_access_key: ${SECRET}\n`).message).not.toContain(SECRET);
  });

  test("a place of a secret is accepted", () => {
    const config = parseConfig(`bus: { password: { env: BUS_PASSWORD } }\n`);
    expect(config.bus?.password).toEqual({ env: "BUS_PASSWORD" });
    expect(refused("bus: { password: { evn: X } }\n").message).toContain('did you mean "env"?');
  });
});

describe("references", () => {
  const rule = (fields: string, targets = AWS) =>
    `${targets}systems:\n  f:\n    images:\n      - { select: {}, ${fields} }\n`;
  const LOCAL_REGISTRY = "targets:\n  quay: { cloud: registry, url: quay.io/fedora }\n  here: { cloud: local }\n";

  test.each([
    [
      "a target that is not there",
      rule('to: [asw], name: "{arch}"'),
      'systems.f.images[0].to[0]: there is no target "asw"; did you mean "aws"?',
    ],
    [
      "a target named as what every object has",
      rule('to: [constructor], name: "{arch}"'),
      'there is no target "constructor"',
    ],
    ["a template that is missing", rule("to: [aws]"), "target aws is aws, so the rule needs `name`"],
    [
      "one name for all architectures",
      rule('to: [aws], name: "F-{version}"'),
      "images[0].name: would give images of several",
    ],
    [
      "an unknown placeholder",
      rule('to: [aws], name: "F-{arhc}"'),
      "images[0].name: there is no placeholder {arhc}; did you mean {arch}?",
    ],
    ["a disk for a registry", rule("to: [quay]", LOCAL_REGISTRY), "target quay is a registry, which takes no disks"],
    ["a target twice", rule('to: [aws, aws], name: "{arch}"'), "images[0].to[1]: target aws stands here twice"],
    [
      "a container for a cloud",
      `${LOCAL_REGISTRY}systems:\n  f:\n    containers:\n      - { select: {}, to: [here], repositories: {}, tags: [{ tags: [a] }] }\n`,
      "containers go to registries",
    ],
    [
      "a tag per architecture",
      `${LOCAL_REGISTRY}systems:\n  f:\n    containers:\n      - { select: {}, to: [quay], repositories: {}, tags: [{ tags: ["{arch}"] }] }\n`,
      "one name serves several files",
    ],
    [
      "tags that leave composes without any",
      `${LOCAL_REGISTRY}systems:\n  f:\n    containers:\n      - { select: {}, to: [quay], repositories: {}, tags: [{ when: { current: true }, tags: [a] }] }\n`,
      "the last entry must have no `when`",
    ],
    [
      "a rule's system",
      'rules: [{ topic: "a.b", system: fedora }]\n',
      'rules[0].system: there is no system "fedora"; systems is empty',
    ],
    [
      "a window that ends before it begins",
      "freeze: [{ from: 2026-04-02T00:00Z, until: 2026-04-01T00:00Z, reason: x }]\n",
      "freeze[0].until: the window ends before it begins",
    ],
  ])("%s", (_, text, message) => {
    expect(refused(text).message).toContain(message);
  });
});

describe("rules", () => {
  const faults = (text: string): string => {
    try {
      parseConfig(text);
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };

  test.each([
    [
      "an expression that does not compile",
      'rules: [{ topic: a, when: "body.x == = 1" }]',
      /rules\[0\]\.when.*line 1, column 8/,
    ],
    [
      "a name that no event has",
      'rules: [{ topic: a, lock: "boddy.x" }]',
      /rules\[0\]\.lock.*there is no "boddy".*column 1/,
    ],
    ["an expression inside", "rules: [{ topic: a, join: { topic: b, by: '1 +' } }]", /rules\[0\]\.join\.by.*line 1/],
    ["a wildcard within a word", "rules: [{ topic: a.b* }]", /rules\[0\]\.topic.*whole words/],
    ["two of one name", "rules: [{ topic: a }, { topic: b }]", /another rule is called release/],
    ["a playbook from nowhere", "rules: [{ topic: a, do: { playbook: { name: x.yml } } }]", /automation\.playbooks/],
    [
      "a user nobody declared",
      "automation: { playbooks: p }\nrules: [{ topic: a, do: { playbook: { user: koji } } }]",
      /no automation user "koji"/,
    ],
    ["both ways to say what is done", "rules: [{ topic: a, system: s, do: { heal: {} } }]", /name the system there/],
    [
      "a secret that is none",
      "automation: { playbooks: p }\nrules: [{ topic: a, do: { playbook: { secrets: { T: hunter2 } } } }]",
      /literal secret/,
    ],
    ["by_topic without playbooks", "automation: { by_topic: true }", /automation\.playbooks/],
  ])("%s is refused with its place", (_, text, expected) => {
    expect(faults(text)).toMatch(expected);
    expect(faults(text)).not.toContain("hunter2");
  });

  test("short rules are filled in", () => {
    const config = parseConfig(
      "automation: { playbooks: /srv, by_topic: true }\n" +
        "rules:\n  - topic: a.*.status.change\n  - { topic: a.b.C_d, do: { heal: {} }, debounce: { quiet: 5m } }\n",
    );
    expect(ruleConfigs(config)).toMatchObject([
      { name: "release", during_freeze: "run", action: { kind: "release" }, retry: { attempts: 3, backoff: 60_000 } },
      {
        name: "heal-c-d",
        during_freeze: "hold",
        action: { kind: "heal" },
        debounce: { quiet: 300_000, at_most: 3_600_000 },
      },
      { name: "by-topic", topic: "#", action: { kind: "playbook" } },
    ]);
  });
});

describe("files", () => {
  let directory: string;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "slipway-config-"));
  });
  afterEach(() => rm(directory, { recursive: true }));
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
    return join(directory, name);
  };
  const load = (path?: string, env: Record<string, string> = {}) => loadConfig(path, { env, cwd: directory });

  test("no file at all gives the defaults", async () => {
    expect(await load()).toMatchObject({ files: [], data_dir: join(directory, ".slipway"), targets: {} });
  });

  test("the file named, else SLIPWAY_CONFIG, else slipway.yaml", async () => {
    await write("slipway.yaml", "data_dir: usual");
    await write("env.yaml", "data_dir: env");
    await write("named.yaml", "data_dir: named");
    const where = async (...given: Parameters<typeof load>) => (await load(...given)).data_dir;
    expect(await where()).toBe(join(directory, "usual"));
    expect(await where(undefined, { SLIPWAY_CONFIG: "env.yaml" })).toBe(join(directory, "env"));
    expect(await where("named.yaml", { SLIPWAY_CONFIG: "env.yaml" })).toBe(join(directory, "named"));
    expect(await where("named.yaml", { SLIPWAY_DATA_DIR: "elsewhere" })).toBe(join(directory, "elsewhere"));
  });

  test("a named file that is not there is an error", async () => {
    await expect(load("none.yaml")).rejects.toMatchObject({
      code: "not-found",
      next: expect.stringContaining("--config"),
    });
  });

  test("an overlay is laid over what it includes; null takes back; paths are relative to their own file", async () => {
    await write(
      "base/base.yaml",
      "targets:\n  aws: { cloud: aws, ca_file: ca.pem, offer: public, regions: [us-east-1, us-east-2] }\n  gone: { cloud: local }\n",
    );
    await write(
      "slipway.yaml",
      "include: base/base.yaml\ntargets:\n  aws: { regions: [us-east-1], offer: null }\n  gone: null\nbus: { ca_file: ca.pem }\n",
    );
    const config = await load();
    expect(Object.keys(config.targets)).toEqual(["aws"]);
    expect(config.targets.aws).toMatchObject({
      ...{ name: "aws", offer: { to: "nobody" }, regions: ["us-east-1"], ca_file: join(directory, "base/ca.pem") },
    });
    expect(config.bus?.ca_file).toBe(join(directory, "ca.pem"));
    expect(config.files).toEqual([join(directory, "slipway.yaml"), join(directory, "base/base.yaml")]);
  });

  test("a fault in an included file is told there", async () => {
    await write("base.yaml", "\ntargets:\n  aws: { cloud: aws, regons: all }\n");
    await write("slipway.yaml", "include: [base.yaml]\n");
    await expect(load()).rejects.toThrow(`${join(directory, "base.yaml")}:3:22: targets.aws: unknown key "regons"`);
  });

  test("two included files that name one target", async () => {
    await write("a.yaml", "targets: { aws: { cloud: aws } }");
    await write("b.yaml", "targets: { aws: { cloud: local } }");
    await write("slipway.yaml", "include: [a.yaml, b.yaml]\n");
    await expect(load()).rejects.toThrow(/b\.yaml:1:12: targets: the name "aws" is taken already at .*a\.yaml:1:12/);
  });

  test("a circle, a missing file, a nonsense include", async () => {
    await write("slipway.yaml", "include: slipway.yaml\n");
    await expect(load()).rejects.toThrow(/included twice, or includes itself/);
    await write("slipway.yaml", "include: none.yaml\n");
    await expect(load()).rejects.toThrow(/none\.yaml: there is no such file \(included at .*slipway\.yaml:1:1\)/);
    await write("slipway.yaml", "include: { a: 1 }\n");
    await expect(load()).rejects.toThrow(/include: expected a path/);
  });

  test("a secret's file is a path too; a repository called file is not", async () => {
    await write(
      "slipway.yaml",
      [
        "targets: { quay: { cloud: registry, url: quay.io, credentials: { username: u, password: { file: pw } } } }",
        "systems: { f: { containers: [{ select: {}, to: [quay], repositories: { file: fedora }, tags: [{ tags: [a] }] }] } }",
      ].join("\n"),
    );
    const config = await load();
    expect(config.targets.quay).toMatchObject({ credentials: { password: { file: join(directory, "pw") } } });
    expect(config.systems.f?.containers[0]?.repositories).toEqual({ file: "fedora" });
  });
});

describe("the examples", () => {
  const example = (name: string): Promise<Config> => loadConfig(join(ROOT, "examples", name), { env: {} });

  test("Fedora's production", async () => {
    const config = await example("fedora.yaml");
    const targets = planTargets(config);
    expect(targets.aws?.regions).toHaveLength(22);
    expect(targets.azure?.regions).toHaveLength(30);
    expect(targets.azure?.regions[0]).toBe("eastus");
    expect(targets.quay).toMatchObject({ home_region: "quay.io/fedora", regions: ["quay.io/fedora"] });
    const { azure } = config.targets;
    if (azure?.cloud !== "azure") throw new Error("azure is not azure");
    expect(azureRegions(azure)[1]).toEqual({ name: "eastus2", replicas: 3, storageType: "Standard_ZRS" });
    expect(azureDefinition(azure)).toEqual({ publisher: "Fedora", offer: "Fedora" });
    const said = { ...azure, disk_controllers: ["SCSI" as const, "NVMe" as const], accelerated_networking: true };
    expect(azureDefinition(said)).toMatchObject({ diskControllerTypes: "SCSI, NVMe", acceleratedNetworking: true });
  });

  test("Fedora's staging differs where it says so", async () => {
    const [production, staging] = [await example("fedora.yaml"), await example("fedora-staging.yaml")];
    expect(staging.systems).toEqual(production.systems);
    expect(staging.targets).toMatchObject({
      aws: { account: "013116697141", regions: ["us-east-1"], offer: { to: "nobody" } },
      azure: { gallery: "FedoraStaging", replicas: 1, regions: ["eastus"] },
      quay: { enabled: false },
    });
  });

  test("two systems side by side: neither changes the other", async () => {
    const directory = await mkdtemp(join(tmpdir(), "slipway-config-"));
    const names = ["fedora.yaml", "container-linux.yaml"];
    await writeFile(
      join(directory, "slipway.yaml"),
      `include: [${names.map((name) => JSON.stringify(join(ROOT, "examples", name))).join(", ")}]\n`,
    );
    const both = await loadConfig(join(directory, "slipway.yaml"), { env: {} });
    expect(both.systems["fedora-cloud"]).toEqual((await example("fedora.yaml")).systems["fedora-cloud"]);
    expect(Object.keys(both.systems)).toEqual(["fedora-cloud", "container-linux"]);
    await rm(directory, { recursive: true });
  });

  test.each(["fedora-coreos.yaml", "container-linux.yaml"])("%s loads", async (name) => {
    expect(Object.keys((await example(name)).systems)).toHaveLength(1);
  });
});

test("regions by name or with replicas of their own", () => {
  const config = parseConfig(
    "targets:\n  a: { cloud: azure, resource_group: g, gallery: G, storage_account: abc, regions: [westus2, {name: eastus, replicas: 5, storage: Premium_LRS}] }\n",
  );
  const target = config.targets.a;
  if (target?.cloud !== "azure") throw new Error("not azure");
  expect(azureRegions(target)).toEqual([
    { name: "westus2", replicas: 1, storageType: "Standard_LRS" },
    { name: "eastus", replicas: 5, storageType: "Premium_LRS" },
  ]);
  expect(planTargets(config).a?.regions).toEqual(["eastus", "westus2"]);
});

test("values are read into units", () => {
  const config = parseConfig(
    'limits: { max_disk_bytes: "10 MiB" }\nconsole: { listen: off }\nsystems: { f: { expect: { every: 26h } } }\n',
  );
  expect(config.limits.max_disk_bytes).toBe(10 * 1024 * 1024);
  expect(config.console.listen).toBe("off");
  expect(config.systems.f?.expect?.every).toBe(26 * 3600 * 1000);
});

test("a shadow knows Fedora's topic and compares systems that exist", () => {
  expect(parseConfig("shadow: {}\n").shadow).toEqual({
    topics: ["org.fedoraproject.prod.fedora_image_uploader.published.v1.#"],
    within: 12 * 3600 * 1000,
  });
  expect(parseConfig("").shadow).toBeUndefined();
  expect(refused("systems: { cloud: {} }\nshadow: { systems: [clod] }\n").message).toContain(
    'there is no system "clod"; did you mean "cloud"?',
  );
});

test("the JSON Schema is strict where the schema is", () => {
  const schema = configJsonSchema();
  expect(schema.additionalProperties).toBe(false);
  expect(Object.keys(schema.properties ?? {})).toContain("targets");
  expect(schema.required ?? []).toEqual([]);
});

test("docs/configuration.md is up to date", async () => {
  await expect(configReference()).toMatchFileSnapshot(join(ROOT, "docs/configuration.md"));
});
