import { expect, test } from "vitest";
import { bundleOf, envelopeIn } from "./bundle.ts";
import { containerStatement, type ImageRelease, imageStatement, parseStatement, statementBytes } from "./statement.ts";

const image = (cloud: string, region: string) => ({
  ...{
    cloud,
    target: `${cloud}-main`,
    region,
    id: `${region}-id`,
    name: "Cloud-43",
    arch: "x86_64",
    key: "k".repeat(52),
  },
});

const release: ImageRelease = {
  compose: { id: "Fedora-43-20251021.0", system: "fedora-cloud", kind: "rc" },
  artifact: { path: "Cloud/x86_64/images/Cloud.raw.xz", sha256: "a".repeat(64) },
  disk: { bytes: 4 << 20, blockBytes: 512 << 10, blocksSha256: "b".repeat(64) },
  images: [image("gcp", "global"), image("aws", "us-east-1"), image("aws", "eu-west-1")],
};

const CONTAINER = {
  ...{ compose: release.compose, registry: "quay.io/fedora", repository: "fedora", tags: ["43.1"] },
  architectures: ["x86_64", "aarch64"],
};

test("the same facts are the same bytes, in whatever order they were found", () => {
  const again = { ...release, images: [...release.images].reverse(), compose: { ...release.compose, kind: "rc" } };
  expect(statementBytes(imageStatement(again))).toEqual(statementBytes(imageStatement(release)));
  const moved = { ...release, images: release.images.slice(1) };
  expect(statementBytes(imageStatement(moved))).not.toEqual(statementBytes(imageStatement(release)));
});

test("a statement about images, as readers get it", () => {
  expect(JSON.parse(statementBytes(imageStatement(release)).toString())).toMatchInlineSnapshot(`
    {
      "_type": "https://in-toto.io/Statement/v1",
      "predicate": {
        "artifact": {
          "path": "Cloud/x86_64/images/Cloud.raw.xz",
          "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        },
        "compose": {
          "id": "Fedora-43-20251021.0",
          "kind": "rc",
          "system": "fedora-cloud",
        },
        "disk": {
          "blockBytes": 524288,
          "blocksSha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
          "bytes": 4194304,
        },
        "images": [
          {
            "arch": "x86_64",
            "cloud": "aws",
            "id": "eu-west-1-id",
            "key": "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            "name": "Cloud-43",
            "region": "eu-west-1",
            "target": "aws-main",
          },
          {
            "arch": "x86_64",
            "cloud": "aws",
            "id": "us-east-1-id",
            "key": "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            "name": "Cloud-43",
            "region": "us-east-1",
            "target": "aws-main",
          },
          {
            "arch": "x86_64",
            "cloud": "gcp",
            "id": "global-id",
            "key": "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            "name": "Cloud-43",
            "region": "global",
            "target": "gcp-main",
          },
        ],
      },
      "predicateType": "urn:slipway:image-release:v1",
      "subject": [
        {
          "digest": {
            "sha256": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          },
          "name": "Cloud/x86_64/images/Cloud.raw.xz",
        },
      ],
    }
  `);
});

test("a statement about a container names its index", () => {
  const statement = containerStatement(CONTAINER, `sha256:${"c".repeat(64)}`);
  expect(statement.subject).toEqual([{ name: "quay.io/fedora/fedora", digest: { sha256: "c".repeat(64) } }]);
  expect(parseStatement(statementBytes(statement))).toEqual(statement);
});

test("what is read is what was written", () => {
  expect(parseStatement(statementBytes(imageStatement(release)))).toEqual(imageStatement(release));
});

test.each<[string, unknown, string]>([
  [
    "another predicate",
    { _type: "https://in-toto.io/Statement/v1", predicateType: "https://slsa.dev/provenance/v1" },
    "unsupported",
  ],
  ["no object", 7, "invalid"],
  ["another type", { ...imageStatement(release), _type: "https://in-toto.io/Statement/v0.1" }, "invalid"],
  ["no subject", { ...imageStatement(release), subject: [] }, "invalid"],
  [
    "a digest that is none",
    { ...imageStatement(release), subject: [{ name: "x", digest: { sha256: "XYZ" } }] },
    "invalid",
  ],
  ["no image", { ...imageStatement(release), predicate: { ...release, images: [] } }, "invalid"],
])("%s is refused", (_, value, code) => {
  expect(() => parseStatement(Buffer.from(JSON.stringify(value)))).toThrow(expect.objectContaining({ code }));
});

test("bytes that are no UTF-8 are refused", () => {
  expect(() => parseStatement(Buffer.from([0xff, 0xfe]))).toThrow(expect.objectContaining({ code: "invalid" }));
});

test("an envelope survives its bundle, and nothing else is taken for one", () => {
  const envelope = { payloadType: "text/plain", payload: "AAAA", signatures: [{ keyid: "k", sig: "AAAA" }] };
  expect(envelopeIn(bundleOf(envelope, "k", "urn:x").bytes.toString())).toEqual(envelope);
  for (const text of [
    "",
    "{}",
    '{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","messageSignature":{}}',
  ]) {
    expect(() => envelopeIn(text)).toThrow(expect.objectContaining({ code: "invalid" }));
  }
});
