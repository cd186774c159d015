import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Json } from "../../model.ts";
import { compareMessages } from "./compare.ts";
import type { ExpectedMessage } from "./expected.ts";
import type { TheirMessage } from "./subject.ts";
import { agreeing } from "./testing/theirs.ts";

const BASE = "fedora_image_uploader.published.v1";
const COMPOSE = "Fedora-Cloud-43-20251021.0";

function ours(cloud: string, topic: string, body: Record<string, Json>): ExpectedMessage {
  const all = { compose_id: COMPOSE, release: 43, ...body };
  const schema = `${BASE}.${cloud}`;
  return { topic: `${schema}.${topic}`, schema, severity: 20, body: all, targets: [cloud], allRegions: false };
}

const ami = ours("aws", "nightly.Cloud_Base.x86_64", {
  architecture: "x86_64",
  image_name: "Fedora-Cloud-Base-AmazonEC2.x86_64-43-20251021.0",
  regions: { "us-east-1": null, "eu-west-1": null },
  subvariant: "Cloud_Base",
});
const azure = ours("azure", "nightly.Cloud_Base.aarch64", {
  architecture: "aarch64",
  image_definition_name: "Fedora-Cloud-43-Arm64",
  image_version_name: "43.20251021.0",
  image_resource_id: null,
  regions: ["eastus", "westeurope"],
  subvariant: "Cloud_Base",
});
const gcp = ours("gcp", "nightly.Cloud_Base.x86_64", {
  architecture: "x86_64",
  family: "fedora-cloud-43-x86-64",
  image_name: "fedora-cloud-43-20251021-0-x86-64",
  image_url: null,
  storage_locations: ["us"],
  subvariant: "Cloud_Base",
});
const container = ours("container", "nightly.fedora", {
  architectures: ["aarch64", "x86_64"],
  registries: ["registry.fedoraproject.org", "quay.io/fedora"],
  repository: "fedora",
  tags: ["43", "latest"],
});
const ALL = [ami, azure, gcp, container];

/** Of one message of theirs, changed: kinds and sentences. */
function said(one: ExpectedMessage, change: (message: TheirMessage) => TheirMessage): string[] {
  const { differences } = compareMessages([one], [change(agreeing(one))]);
  return differences.map(({ kind, words }) => `${kind}: ${words}`);
}

function body(changes: Record<string, Json | undefined>) {
  return (message: TheirMessage): TheirMessage => {
    const kept = Object.entries({ ...message.body, ...changes }).filter(([, value]) => value !== undefined);
    return { ...message, body: Object.fromEntries(kept) as Record<string, Json> };
  };
}

describe("every difference is said", () => {
  const cases: [name: string, one: ExpectedMessage, change: (message: TheirMessage) => TheirMessage, said: string[]][] =
    [
      ["none", ami, (message) => message, []],
      ["another prefix is none", ami, (message) => ({ ...message, topic: message.topic.replace("prod", "stg") }), []],
      ["another order is none", container, body({ tags: ["latest", "43"], architectures: ["x86_64", "aarch64"] }), []],
      [
        "the topic",
        ami,
        (message) => ({ ...message, topic: `org.fedoraproject.prod.${BASE}.aws.Cloud_Base.43.x86_64` }),
        [`topic: topic: theirs "${BASE}.aws.Cloud_Base.43.x86_64", ours "${BASE}.aws.nightly.Cloud_Base.x86_64"`],
      ],
      [
        "the image's name",
        ami,
        body({ image_name: "Fedora-43" }),
        ['name: image_name: theirs "Fedora-43", ours "Fedora-Cloud-Base-AmazonEC2.x86_64-43-20251021.0"'],
      ],
      [
        "the family",
        gcp,
        body({ family: "fedora-43" }),
        ['name: family: theirs "fedora-43", ours "fedora-cloud-43-x86-64"'],
      ],
      ["the release's number", gcp, body({ release: 44 }), ["release: release: theirs 44, ours 43"]],
      [
        "regions on one side only",
        ami,
        body({ regions: { "us-east-1": "ami-0a1a3731a749a16db", "mx-central-1": "ami-0a1a3731a749a16db" } }),
        ["regions-only-here: regions: only ours eu-west-1", "regions-only-there: regions: only theirs mx-central-1"],
      ],
      [
        "a region twice",
        azure,
        body({ regions: ["eastus", "eastus", "westeurope"] }),
        ["regions-only-there: regions: only theirs eastus"],
      ],
      [
        "a storage location",
        gcp,
        body({ storage_locations: ["eu"] }),
        ["regions-only-here: storage_locations: only ours us", "regions-only-there: storage_locations: only theirs eu"],
      ],
      [
        "tags",
        container,
        body({ tags: ["43", "43.20251021.0"] }),
        ["tags: tags: only theirs 43.20251021.0; only ours latest"],
      ],
      [
        "a registry",
        container,
        body({ registries: ["quay.io/fedora"] }),
        ["registries: registries: only ours registry.fedoraproject.org"],
      ],
      [
        "an architecture",
        container,
        body({ architectures: ["aarch64", "s390x", "x86_64"] }),
        ["architectures: architectures: only theirs s390x"],
      ],
      [
        "an AMI that is none",
        ami,
        body({ regions: { "us-east-1": "ami-0a1a3731a749a16db", "eu-west-1": "snap-0a1a3731a749a16db" } }),
        ['id: regions: "snap-0a1a3731a749a16db" in eu-west-1 has not the form of such an id'],
      ],
      [
        "another image's address",
        gcp,
        body({ image_url: "https://www.googleapis.com/compute/v1/projects/p/global/images/other" }),
        [
          'id: image_url: "https://www.googleapis.com/compute/v1/projects/p/global/images/other" has not the form of such an id',
        ],
      ],
      ["a field we do not have", ami, body({ virt_type: "hvm" }), ['field: virt_type: theirs "hvm", ours nothing']],
      [
        "a message of the schema's first edition, paired by its image's name",
        ami,
        body({ release: undefined, subvariant: undefined }),
        [
          "schema: theirs breaks the schema that readers check: release: Invalid input: expected number, received undefined; " +
            "subvariant: Invalid input: expected string, received undefined",
        ],
      ],
      [
        "an architecture in the cloud's word, paired by its image's name",
        ami,
        body({ architecture: "arm64" }),
        ['field: architecture: theirs "arm64", ours "x86_64"'],
      ],
      [
        "no schema in the header",
        ami,
        (message) => ({ ...message, schema: undefined }),
        [`schema: schema: theirs nothing, ours "${BASE}.aws"`],
      ],
      [
        "another severity",
        ami,
        (message) => ({ ...message, severity: 30 }),
        ["severity: severity: theirs 30, ours 20"],
      ],
      [
        "another repository is a message we would not publish",
        container,
        body({ repository: "fedora-minimal" }),
        [
          "missing-there: we would publish fedora:43,latest, they did not",
          "missing-here: they published fedora-minimal:43,latest, we would not",
        ],
      ],
    ];
  test.each(cases)("%s", (_, one, change, wanted) => {
    expect(said(one, change)).toEqual(wanted);
  });

  test("a field may be called as every object's own are", () => {
    const odd = JSON.parse('{"constructor": ["x"], "__proto__": {"toString": 1}, "toString": "x"}') as object;
    expect(
      said(ami, (message) => ({ ...message, body: Object.assign(Object.create(null), message.body, odd) })),
    ).toEqual([
      'field: __proto__: theirs {"toString":1}, ours nothing',
      'field: constructor: theirs ["x"], ours nothing',
      'field: toString: theirs "x", ours nothing',
    ]);
  });

  test("a second message for the same image", () => {
    const again = { ...agreeing(ami, "their-2"), body: agreeing(ami).body };
    const { agreed, differences } = compareMessages([ami], [again, agreeing(ami)]);
    expect(agreed).toBe(1);
    expect(differences.map(({ words }) => words)).toEqual(["they published it again as their-2, saying the same"]);
  });

  test("two accounts in one cloud are two messages for one image, each with its like", () => {
    const china = { ...ami, body: { ...ami.body, regions: { "cn-north-1": null } } };
    const both = compareMessages([ami, china], [agreeing(china, "b"), agreeing(ami, "a")]);
    expect(both).toMatchObject({ agreed: 2, differences: [] });
    const one = compareMessages([ami, china], [agreeing(china)]);
    expect(one.differences.map(({ kind, ours }) => [kind, ours])).toEqual([["missing-there", ami.body]]);
  });

  test("all regions of an account cannot be compared, and that is said", () => {
    const some = { ...ami, body: { ...ami.body, regions: { "us-east-1": null } }, allRegions: true };
    expect(compareMessages([some], [agreeing(ami)])).toEqual({
      agreed: 1,
      differences: [],
      notes: ['aws Cloud_Base x86_64: they name 2 regions; ours are "all" of aws, which only the cloud knows'],
    });
  });
});

const word = fc.stringMatching(/^[a-z0-9]{1,6}$/);
const words = fc.uniqueArray(word, { minLength: 1, maxLength: 4 });
/** Messages about images of their own, as we would publish them. */
const messages: fc.Arbitrary<ExpectedMessage[]> = fc.uniqueArray(
  fc
    .record({ template: fc.constantFrom(...ALL), subject: word, names: words, release: fc.nat(99) })
    .map(({ template, subject, names, release }): ExpectedMessage => {
      const lists: Record<string, Json> = template === ami ? { regions: mapOf(names) } : {};
      for (const [field, value] of Object.entries(template.body)) if (Array.isArray(value)) lists[field] = names;
      const about = template === container ? { repository: subject } : { subvariant: subject };
      const named = typeof template.body.image_name === "string" ? { image_name: `image-${subject}` } : {};
      const version = template === azure ? { image_definition_name: `definition-${subject}` } : {};
      return {
        ...template,
        body: { ...template.body, ...about, ...named, ...version, release, ...lists },
      };
    }),
  { selector: ({ schema, body }) => `${schema} ${body.subvariant ?? body.repository}`, minLength: 1, maxLength: 6 },
);

function mapOf(names: readonly string[]): Record<string, Json> {
  return Object.fromEntries(names.map((name) => [name, null]));
}

test("a set compared with itself has no differences, in whatever order", () => {
  fc.assert(
    fc.property(messages, fc.infiniteStream(fc.nat()), (all, random) => {
      const theirs = all.map((one, at) => ({ at: random.next().value, message: agreeing(one, `their-${at}`) }));
      const shuffled = theirs.sort((a, b) => a.at - b.at).map(({ message }) => message);
      expect(compareMessages(all, shuffled)).toEqual({ agreed: all.length, differences: [], notes: [] });
    }),
  );
});

type Mutation = (all: TheirMessage[], at: number, field: string) => TheirMessage[];

/** The one message at `at` in another form; `other` is what has to differ. */
const changed =
  (change: (message: TheirMessage, field: string) => TheirMessage): Mutation =>
  (all, at, field) =>
    all.map((message, position) => (position === at ? change(message, field) : message));

const MUTATIONS: Record<string, Mutation> = {
  "one is gone": (all, at) => all.filter((_, position) => position !== at),
  "one comes twice": (all, at) => [...all, { ...all[at]!, id: "again" }],
  "one more": (all, at) => [...all, { ...all[at]!, id: "more", body: { ...all[at]!.body, compose_id: "another" } }],
  "another topic": changed((message) => ({ ...message, topic: `${message.topic}.x` })),
  "another schema": changed((message) => ({ ...message, schema: "base.message" })),
  "another severity": changed((message) => ({ ...message, severity: 40 })),
  "a field is gone": changed((message, field) => body({ [field]: undefined })(message)),
  "a field more": changed((message) => ({ ...message, body: { ...message.body, extra: 1 } })),
  "a field differs": changed((message, field) => ({
    ...message,
    body: { ...message.body, [field]: other(message.body[field]!) },
  })),
  "a field is of another type": changed((message, field) => ({
    ...message,
    body: { ...message.body, [field]: [[1]] },
  })),
};

function other(value: Json): Json {
  if (typeof value === "string") return `${value} `;
  if (typeof value === "number") return value + 1;
  if (Array.isArray(value)) return [...value, value[0] ?? "x"];
  return { ...(value as Record<string, Json>), "new-1": "ami-0a1a3731a749a16db" };
}

test.each(Object.entries(MUTATIONS))("%s: it is reported, and the order of messages changes nothing", (_, mutate) => {
  fc.assert(
    fc.property(messages, fc.nat(), fc.nat(), (all, one, which) => {
      const theirs = all.map((message, at) => agreeing(message, `their-${at}`));
      const at = one % all.length;
      const fields = Object.keys(theirs[at]!.body);
      const mutated = mutate(theirs, at, fields[which % fields.length]!);
      const found = compareMessages(all, mutated);
      expect(found.differences).not.toEqual([]);
      expect(compareMessages([...all].reverse(), [...mutated].reverse())).toEqual(found);
    }),
  );
});
