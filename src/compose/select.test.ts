import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { type Config, loadConfig, planTargets } from "../config/index.ts";
import { offlinePlan } from "./plan.ts";
import { selectImages } from "./select.ts";
import { fixture, type MadeCompose, type MadeImage, madeCompose, releasesOf, TESTDATA } from "./testing/composes.ts";
import type { ReleaseState, System } from "./types.ts";

const EXAMPLES = join(import.meta.dirname, "../../examples");
const releases: ReleaseState = {
  ...{ stable: [42, 43], branched: [44], end_of_life: { "43": "2026-12-02" }, unknown_end_of_life_months: 13 },
};

let fedora: Config;
beforeAll(async () => {
  fedora = await loadConfig(join(EXAMPLES, "fedora.yaml"), { env: {} });
});

const cloudSystem = (): System => fedora.systems["fedora-cloud"]!;
const select = (made: MadeCompose, system: System = cloudSystem(), state = releases) =>
  selectImages(madeCompose(made), system, state, planTargets(fedora));

const AWS: MadeImage = { type: "raw-xz", format: "raw.xz" };
const AZURE: MadeImage = { type: "vhd-compressed", format: "vhdfixed.xz" };
const GCP: MadeImage = { type: "tar-gz", format: "tar.gz" };
const container = (subvariant: string, arch = "x86_64"): MadeImage => ({
  ...{ type: "container", format: "ociarchive", subvariant, arch },
});

const COMPOSES = [
  "Fedora-24-20151130.n.2",
  "Fedora-25-20161115.n.0",
  "Fedora-28-20180425.0",
  "Fedora-43-20251021.0",
  "Fedora-Rawhide-20230502.n.0",
];

test.each(COMPOSES)("the plan of %s", async (id) => {
  const selection = selectImages(fixture(id), cloudSystem(), releasesOf(id), planTargets(fedora));
  const text = `${JSON.stringify(offlinePlan(selection), null, 2)}\n`;
  await expect(text).toMatchFileSnapshot(join(TESTDATA, id, "plan.golden.json"));
  // Every artifact is in the plan once: released or skipped with a reason.
  const released = new Set(selection.items.map((item) => item.artifact.path));
  const skipped = selection.skipped.map((item) => item.artifact);
  expect([...released, ...skipped].sort()).toEqual(fixture(id).artifacts.map((artifact) => artifact.path));
});

describe("names", () => {
  const names = (made: MadeCompose) => {
    const { items } = select({ ...made, images: [AWS, AZURE, GCP] });
    const [aws, azure, gcp] = items;
    return [aws?.name, azure?.definition, azure?.version, gcp?.name, gcp?.family];
  };

  test("a release candidate has the release's name", () => {
    expect(names({ id: "Fedora-40-20240414.0", version: "40", label: "RC-1.14" })).toEqual([
      ...["Fedora-Cloud-Base-AmazonEC2.x86_64-40-1.14", "Fedora-Cloud-40-x64", "40.20240414.0"],
      ...["fedora-cloud-40-1-14-x86-64", "fedora-cloud-40-x86-64"],
    ]);
  });

  test("a beta is a prerelease, in a definition and family of its own", () => {
    expect(names({ id: "Fedora-41-20240911.0", version: "41", label: "Beta-1.2" })).toEqual([
      ...["Fedora-Cloud-Base-AmazonEC2.x86_64-41-Prerelease-1.2", "Fedora-Cloud-41-Prerelease-x64", "41.20240911.0"],
      ...["fedora-cloud-41-prerelease-1-2-x86-64", "fedora-cloud-41-prerelease-x86-64"],
    ]);
  });

  test("a branched nightly is a prerelease", () => {
    expect(names({ id: "Fedora-44-20260220.n.0", type: "nightly", version: "44" })).toEqual([
      ...[
        "Fedora-Cloud-Base-AmazonEC2.x86_64-44-Prerelease-20260220.0",
        "Fedora-Cloud-44-Prerelease-x64",
        "44.20260220.0",
      ],
      ...["fedora-cloud-44-prerelease-20260220-0-x86-64", "fedora-cloud-44-prerelease-x86-64"],
    ]);
  });

  test("a nightly of a stable release goes by its date", () => {
    const made = { id: "Fedora-Cloud-43-20260601.1", short: "Fedora-Cloud", version: "43", label: "RC-20260601.1" };
    expect(names(made)).toEqual([
      ...["Fedora-Cloud-Base-AmazonEC2.x86_64-43-20260601.1", "Fedora-Cloud-43-x64", "43.20260601.1"],
      ...["fedora-cloud-43-20260601-1-x86-64", "fedora-cloud-43-x86-64"],
    ]);
  });

  test("Rawhide and ELN go by name, their versions by Rawhide's number", () => {
    expect(names({ id: "Fedora-Rawhide-20250820.n.0", type: "nightly", version: "Rawhide" })).toEqual([
      ...["Fedora-Cloud-Base-AmazonEC2.x86_64-Rawhide-20250820.0", "Fedora-Cloud-Rawhide-x64", "45.20250820.0"],
      ...["fedora-cloud-rawhide-20250820-0-x86-64", "fedora-cloud-rawhide-x86-64"],
    ]);
    expect(names({ id: "Fedora-eln-20250820.n.0", type: "nightly", version: "eln" })).toEqual([
      ...["Fedora-Cloud-Base-AmazonEC2.x86_64-ELN-20250820.0", "Fedora-Cloud-ELN-x64", "45.20250820.0"],
      ...["fedora-cloud-eln-20250820-0-x86-64", "fedora-cloud-eln-x86-64"],
    ]);
  });

  test("arm has each cloud's word where users type it", () => {
    const arm = { arch: "aarch64" };
    const { items } = select({
      label: "RC-1.6",
      images: [
        { ...AWS, ...arm },
        { ...AZURE, ...arm },
        { ...GCP, ...arm },
      ],
    });
    expect(items.map((item) => item.definition ?? item.name)).toEqual([
      "Fedora-Cloud-Base-AmazonEC2.aarch64-43-1.6",
      "Fedora-Cloud-43-Arm64",
      "fedora-cloud-43-1-6-aarch64",
    ]);
  });

  test("two files for one image: the rule's order decides, the other is told", () => {
    const { items, skipped } = select({ images: [{ ...AZURE, format: "vhd.xz" }, AZURE] });
    expect(items.map((item) => item.artifact.format)).toEqual(["vhdfixed.xz"]);
    expect(skipped).toEqual([
      { artifact: expect.stringContaining("vhd.xz"), reason: expect.stringContaining("already made from") },
    ]);
  });

  test("one name for two architectures is an error", () => {
    const [rule] = cloudSystem().images;
    const system = { ...cloudSystem(), images: [{ ...rule!, name: "Fedora-{version}" }] };
    expect(() => select({ images: [AWS, { ...AWS, arch: "aarch64" }] }, system)).toThrow(/put \{arch\} into the name/);
  });

  test.each([
    ["a name AWS would refuse", { name: "Fedora:{version}-{arch}" }, "images[0].name"],
    ["a name too long", { name: `${"x".repeat(130)}{arch}` }, "images[0].name"],
    ["a description with umlauts", { description: "Fëdora" }, "images[0].description"],
  ])("%s is an error that names the template", (_, change, place) => {
    const [rule] = cloudSystem().images;
    const system = { ...cloudSystem(), images: [{ ...rule!, ...change }] };
    expect(() => select({ images: [AWS] }, system)).toThrow(
      expect.objectContaining({ code: "invalid", subject: `fedora-cloud ${place}` }),
    );
  });

  test.each(["43.20251021", "43.x.0", "4294967296.1.1", "1.2.3.4"])("%s is no Azure version", (version) => {
    const rule = cloudSystem().images[1]!;
    const system = { ...cloudSystem(), images: [{ ...rule, version }] };
    expect(() => select({ images: [AZURE] }, system)).toThrow(/no version for azure/);
  });
});

describe("containers", () => {
  const tagsOf = (made: MadeCompose, subvariant = "Container_Base") =>
    select({ ...made, images: [container(subvariant)] }).items.map((item) => [item.target, item.repository, item.tags]);

  test("Rawhide: its number and its name", () => {
    expect(tagsOf({ id: "Fedora-Rawhide-20250820.n.0", type: "nightly", version: "Rawhide" })).toEqual([
      ["fedora-registry", "fedora", ["45", "rawhide"]],
      ["quay", "fedora", ["45", "rawhide"]],
    ]);
  });

  test.each([
    ["the current release is latest", "43", ["43", "latest"]],
    ["an older one is its number", "42", ["42"]],
    ["one to come is its number", "44", ["44"]],
  ])("%s", (_, version, tags) => {
    const [first] = tagsOf({ id: `Fedora-Container-${version}-20260101.0`, short: "Fedora-Container", version });
    expect(first).toEqual(["fedora-registry", "fedora", tags]);
  });

  test("ELN", () => {
    const [first] = tagsOf({ id: "Fedora-eln-20250820.n.0", type: "nightly", version: "eln" }, "BaseOS");
    expect(first).toEqual(["fedora-registry", "eln", ["latest"]]);
    // ELN's number is Rawhide's: its base container must not become fedora:45.
    expect(tagsOf({ id: "Fedora-eln-20250820.n.0", type: "nightly", version: "eln" })).toEqual([]);
  });

  test("every architecture of a repository is one group", () => {
    const arches = ["x86_64", "s390x", "aarch64", "ppc64le"];
    const { groups } = select({ images: arches.map((arch) => container("Container_Base", arch)) });
    expect(groups).toHaveLength(1);
    expect(groups[0]).toMatchObject({ id: "repository:fedora", kind: "container" });
    expect(groups[0]?.items.filter((item) => item.target === "quay").map((item) => item.arch)).toEqual(
      [...arches].sort(),
    );
  });

  test("a newer archive wins over docker's", () => {
    const docker = { ...container("Container_Base"), type: "docker", format: "tar.xz" };
    const { items, skipped } = select({ images: [docker, container("Container_Base")] });
    expect(new Set(items.map((item) => item.artifact.type))).toEqual(new Set(["container"]));
    expect(skipped[0]?.reason).toContain("already made from");
  });

  test("a version tag comes before the floating ones", () => {
    const rule = { ...cloudSystem().containers[0]!, version_tag: "{number}-{build}" };
    const selection = select(
      { label: "RC-1.6", images: [container("Container_Base")] },
      { ...cloudSystem(), containers: [rule] },
    );
    expect(selection.items[0]).toMatchObject({ versionTag: "43-1.6", tags: ["43", "latest"], name: "fedora:43-1.6" });
    expect(offlinePlan(selection).items[0]?.tags).toEqual(["43-1.6", "43", "latest"]);
  });

  test("a required architecture that is missing holds the repository back", () => {
    const rule = { ...cloudSystem().containers[0]!, required_arches: ["x86_64"] };
    const images = [container("Container_Base", "s390x"), container("IoT")];
    const { groups, skipped } = select({ images }, { ...cloudSystem(), containers: [rule] });
    expect(groups.map((group) => group.id)).toEqual(["repository:fedora-iot"]);
    expect(skipped[0]?.reason).toBe("held back: fedora has no x86_64 image");
  });
});

describe("what is not released says why", () => {
  const reason = (image: MadeImage, made: MadeCompose = {}) => select({ ...made, images: [image] }).skipped[0]?.reason;

  test.each<[MadeImage, string]>([
    [{ type: "qcow2", format: "qcow2" }, "qcow2: no rule of fedora-cloud selects it"],
    [{ type: "hologram", format: "holo" }, "hologram: no rule of fedora-cloud selects it"],
    [{ ...AWS, arch: "ppc64le" }, "arch ppc64le is not offered"],
    [{ ...AWS, subvariant: "Server" }, "raw-xz of subvariant Server is not selected by fedora-cloud"],
    [{ ...AWS, subvariant: "" }, "raw-xz without a subvariant is not selected by fedora-cloud"],
    [{ ...AZURE, format: "vhd.zst" }, "vhd-compressed: format vhd.zst is not selected by fedora-cloud"],
    [container("Docker_Base"), "subvariant Docker_Base has no repository in fedora-cloud"],
    [container("constructor"), "subvariant constructor has no repository in fedora-cloud"],
  ])("%j", (image, why) => {
    expect(reason(image)).toBe(why);
  });

  test.each<[MadeCompose, string]>([
    [{ id: "Fedora-Epel-43-20251021.0", short: "Fedora-Epel" }, "fedora-cloud does not take composes of Fedora-Epel"],
    [{ id: "Fedora-43-updates-20251021.0", releaseType: "updates" }, "fedora-cloud does not take release type updates"],
    [{ id: "Fedora-43-20251021.t.0", type: "test" }, "fedora-cloud does not take compose type test"],
    [{ id: "Other-x-20251021.0", short: "Other", version: "x" }, "fedora-cloud does not take composes of Other"],
    [{ status: "FINISHED_SOMEHOW" }, "the compose is FINISHED_SOMEHOW, not FINISHED"],
    [{ status: "STARTED" }, "the compose is STARTED, not FINISHED"],
    [{ status: "DOOMED" }, "the compose is DOOMED, not FINISHED"],
  ])("%j", (made, why) => {
    expect(reason(AWS, made)).toBe(why);
  });

  test("a system that is switched off takes nothing", () => {
    const { items, skipped } = select({ images: [AWS] }, { ...cloudSystem(), enabled: false });
    expect(items).toEqual([]);
    expect(skipped[0]?.reason).toBe("system fedora-cloud is switched off");
  });

  test("an incomplete compose gives fewer images and a note", () => {
    const { items, notes } = select({ status: "FINISHED_INCOMPLETE", images: [AWS] });
    expect(items.map((item) => item.target)).toEqual(["aws"]);
    expect(notes).toContain("the compose has no raw-xz Cloud_Base for aarch64 (fedora-cloud images[0])");
  });

  test("a target that is switched off is a note, and a reason where it was the only one", () => {
    const targets = planTargets(fedora);
    const off = (name: string) => ({ ...targets, [name]: { ...targets[name]!, enabled: false } });
    const compose = madeCompose({ images: [AWS, container("IoT")] });
    const withoutAws = selectImages(compose, cloudSystem(), releases, off("aws"));
    expect(withoutAws.skipped[0]?.reason).toBe("every target of its rule is switched off: aws");
    const withoutQuay = selectImages(compose, cloudSystem(), releases, off("quay"));
    expect(withoutQuay.items.map((item) => item.target)).toEqual(["aws", "fedora-registry"]);
    expect(withoutQuay.notes).toContain("target quay is switched off");
  });

  test("a target nobody configured is an error", () => {
    const compose = madeCompose({ images: [AWS] });
    expect(() => selectImages(compose, cloudSystem(), releases, {})).toThrow(/"aws", which is no target/);
  });
});

test("the order of the metadata does not matter", () => {
  const images = [AWS, AZURE, GCP, { ...AWS, arch: "aarch64" }, container("IoT")].map((image, index) => ({
    ...{ ...image, path: `p${index}`, checksums: { sha256: String(index).padStart(64, "0") }, size: 7 },
  }));
  expect(select({ images: [...images].reverse() })).toEqual(select({ images }));
});

test("regions: all is known at home only until the account is asked", () => {
  const targets = { ...planTargets(fedora) };
  targets.aws = { ...targets.aws!, regions: "all" };
  const selection = selectImages(madeCompose({ images: [AWS] }), cloudSystem(), releases, targets);
  expect(offlinePlan(selection).items[0]).toMatchObject({
    regions: { "us-east-1": "create" },
    reason: expect.stringContaining("every other region"),
  });
});

describe("other systems are data", () => {
  const planFrom = async (example: string, system: string, made: MadeCompose) => {
    const config = await loadConfig(join(EXAMPLES, example), { env: {} });
    const state = { ...config.releases };
    return selectImages(madeCompose(made), config.systems[system]!, state, planTargets(config));
  };

  test("streams in the manner of Fedora CoreOS", async () => {
    const { channel, items } = await planFrom("fedora-coreos.yaml", "fedora-coreos", {
      ...{ id: "Fedora-CoreOS-43-20251021.0", short: "Fedora-CoreOS", label: "Update-3.1" },
      images: [
        { ...AWS, subvariant: "CoreOS_AWS" },
        { ...AZURE, subvariant: "CoreOS_Azure" },
        { ...GCP, subvariant: "CoreOS_GCP" },
        { ...container("CoreOS"), type: "bootable-container" },
      ],
    });
    expect(channel).toBe("stable");
    expect(items.map((item) => [item.name, item.family ?? item.tags])).toEqual([
      ["fedora-coreos-43.20251021.3.1-x86_64", undefined],
      ["fedora-coreos-stable-x64/43.20251021.0", undefined],
      ["fedora-coreos-43-20251021-3-1-gcp-x86-64", "fedora-coreos-stable-x86-64"],
      ["fedora-coreos:43.20251021.3.1", ["stable"]],
    ]);
  });

  test("channels by version in the manner of Container Linux", async () => {
    const { channel, items } = await planFrom("container-linux.yaml", "container-linux", {
      ...{ id: "Container-Linux-4230.2.1-20251021.0", short: "Container-Linux", version: "4230.2.1" },
      images: [
        { ...AWS, subvariant: "production" },
        { ...GCP, subvariant: "production" },
      ],
    });
    expect(channel).toBe("stable");
    expect(items.map((item) => [item.name, item.family])).toEqual([
      ["Container-Linux-stable-4230.2.1-hvm", undefined],
      ["container-linux-stable-4230-2-1-v20251021", "container-linux-stable"],
    ]);
  });
});

describe("what only AWS has", () => {
  const withAws = (aws: NonNullable<System["images"][number]["aws"]>): System => ({
    ...cloudSystem(),
    images: [{ ...cloudSystem().images[0]!, aws }],
  });
  const both = {
    ...{ id: "Fedora-Cloud-43-20251021.0", short: "Fedora-Cloud" },
    images: ["x86_64", "aarch64"].map((arch) => ({ ...AWS, arch, subvariant: "Cloud_Base" })),
  };

  test("a parameter is named for each architecture", () => {
    const { items } = select(both, withAws({ parameter: "/fedora/{channel}/{arch}/latest" }));
    expect(items.map(({ aws }) => aws?.parameter).sort()).toEqual([
      "/fedora/cloud/aarch64/latest",
      "/fedora/cloud/x86_64/latest",
    ]);
  });

  test.each([
    ["/fedora/latest", "would name both"],
    ["fedora/{arch}", "is no parameter's name"],
    ["/aws/{arch}", "is no parameter's name"],
    ["/ssm-{arch}", "is no parameter's name"],
    ["/fedora/{arch}/", "is no parameter's name"],
    [`/{arch}${"/a".repeat(15)}`, "is no parameter's name"],
    ["/fedora/{release} cloud/{arch}", "is no parameter's name"],
  ])("%s is refused", (parameter, why) => {
    expect(() => select(both, withAws({ parameter }))).toThrow(why);
  });

  test("attributes reach what is planned", () => {
    const aws = {
      boot_mode: "uefi",
      tpm: "v2.0",
      imds: "optional",
      volume: { type: "io2", iops: 500, size_gib: 10 },
    } as const;
    const { items } = select(both, withAws(aws));
    expect(items[0]?.aws).toEqual({
      ...{ bootMode: "uefi", tpm: "v2.0", imds: "optional" },
      volume: { type: "io2", iops: 500, sizeGiB: 10 },
    });
  });

  test.each<[NonNullable<System["images"][number]["aws"]>, string]>([
    [{ tpm: "v2.0" }, "a TPM needs boot_mode: uefi"],
    [{ boot_mode: "uefi-preferred" }, "boot with uefi only"],
    [{ boot_mode: "legacy-bios", uefi_data: "AAAA" }, ""],
    [{ ena: false }, "no other network than ENA"],
    [{ volume: { type: "io1" } }, "needs it"],
    [{ volume: { iops: 100 } }, "has 3000 to 16000"],
    [{ volume: { type: "gp2", iops: 3000 } }, "has none to choose"],
    [{ volume: { type: "io2", iops: 500, throughput: 125 } }, "only gp3"],
    [{ volume: { throughput: 800 } }, "at most a quarter of iops (3000)"],
  ])("%j contradicts itself or the architecture: a plan error", (aws, why) => {
    expect(() => select(both, withAws(aws))).toThrow(why);
    expect(() => select(both, withAws(aws))).toThrow(/images\[0\]\.aws\./);
  });
});
