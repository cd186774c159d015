/**
 * The simulated clouds, for the commands that use them. The rehearsal is a workspace of its own and is not in the
 * production image, so it is loaded by name, and its absence is an error that says what to do.
 */
import { generateKeyPairSync } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { SlipwayError } from "../lib/errors.ts";

/** What this side has to know of a running rehearsal; it satisfies this by shape. */
export interface RunningRehearsal {
  readonly urls: {
    readonly ec2: string;
    readonly ebs: string;
    readonly sts: string;
    readonly s3: string;
    readonly ssm: string;
    readonly sns: string;
    readonly azure: { readonly authority: string; readonly management: string; readonly blob: string };
    readonly gcp: string;
    readonly registry: string;
  };
  readonly caPem: string;
  readonly credentials: {
    readonly aws: { readonly account: string; readonly accessKeyId: string; readonly secretAccessKey: string };
    readonly awsTopic: string;
    readonly awsOutsider: { readonly accessKeyId: string; readonly secretAccessKey: string };
    readonly azure: {
      readonly tenantId: string;
      readonly clientId: string;
      readonly clientSecret: string;
      readonly subscriptionId: string;
      readonly resourceGroup: string;
      readonly storageAccount: string;
      readonly storageKey: string;
    };
    readonly azureOutsider: {
      readonly tenantId: string;
      readonly clientId: string;
      readonly clientSecret: string;
      readonly subscriptionId: string;
    };
    readonly gcp: {
      readonly project: string;
      readonly bucket: string;
      readonly serviceAccount: object;
      readonly outsider: object;
    };
    readonly registry: { readonly username: string; readonly password: string };
  };
  close(): Promise<void>;
}

export interface RehearsalModule {
  startRehearsal(options: { scenario?: string; blobDir?: string }): Promise<RunningRehearsal>;
  startFronts(
    fronts: readonly { cloud: FrontedCloud; url: string }[],
    options: { scenario?: string | undefined; upstreamCa?: string | undefined },
  ): Promise<{
    readonly fronts: readonly { readonly cloud: string; readonly upstream: string; readonly url: string }[];
    readonly caPem: string;
    close(): Promise<void>;
  }>;
  listScenarios(): { readonly name: string; readonly description: string }[];
}

/** What the proxy knows how to speak. */
export const FRONTED = ["aws", "azure", "gcp", "registry", "plain"] as const;
export type FrontedCloud = (typeof FRONTED)[number];

export interface SampleModule {
  makeSampleDisk(path: string, bytes: number, dataBytes: number, seed: string): Promise<void>;
  makeSampleCompose(options: {
    disk: string;
    out: string;
    id?: string;
    onFile?: (path: string) => void;
  }): Promise<{ id: string; directory: string }>;
}

/** By name, so that neither types nor packagers follow it. */
const WORKSPACE = "@slipway/rehearsal";

export async function loadRehearsal(): Promise<RehearsalModule> {
  return (await load(WORKSPACE)) as RehearsalModule;
}

export async function loadSample(): Promise<SampleModule> {
  return (await load(`${WORKSPACE}/sample`)) as SampleModule;
}

async function load(name: string): Promise<unknown> {
  try {
    return await import(name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new SlipwayError("unsupported", "the simulated clouds are not part of this installation", {
      next: 'Run this in a checkout of the repository, after "make setup".',
      cause: error,
    });
  }
}

/**
 * Writes a configuration that points at the rehearsal, with its secrets in files beside it. `gcp`: with Google Cloud,
 * which takes disks of whole GiB only. Default false. What is released is attested with a key made for it, whose public
 * half is `attest.pub`.
 * @returns the path of the configuration
 */
export async function writeRehearsalConfig(
  rehearsal: RunningRehearsal,
  directory: string,
  options: { listen?: string; system?: string; gcp?: boolean } = {},
): Promise<string> {
  const { aws, awsOutsider, azure, azureOutsider, gcp, registry } = rehearsal.credentials;
  const secrets = join(directory, "secrets");
  await mkdir(secrets, { recursive: true, mode: 0o700 });
  const secret = async (name: string, value: string) => {
    await writeFile(join(secrets, name), value, { mode: 0o600 });
    return { file: join("secrets", name) };
  };
  await writeFile(join(directory, "ca.crt"), rehearsal.caPem);
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFile(join(directory, "attest.pub"), publicKey.export({ type: "spki", format: "pem" }));
  const attestKey = privateKey.export({ type: "pkcs8", format: "pem" }).toString();
  const { ec2, ebs, sts, s3, ssm, sns } = rehearsal.urls;
  // Not for this configuration, but for other clients.
  await secret("azure-storage", azure.storageKey);
  const awsEndpoints = { ec2, ebs, sts, s3, ssm, sns };
  const registryUrl = new URL(rehearsal.urls.registry);
  const config = {
    data_dir: "data",
    console: { listen: options.listen ?? "off" },
    releases: { stable: [42, 43], branched: [], rawhide: 44, end_of_life: { 43: "2026-12-02" } },
    targets: {
      aws: {
        cloud: "aws",
        account: aws.account,
        home_region: "us-east-1",
        regions: ["us-east-1", "us-west-2", "eu-central-1", "ap-southeast-2"],
        offer: "public",
        credentials: { access_key_id: aws.accessKeyId, secret_access_key: await secret("aws", aws.secretAccessKey) },
        witness: {
          access_key_id: awsOutsider.accessKeyId,
          secret_access_key: await secret("aws-witness", awsOutsider.secretAccessKey),
        },
        sns_topic: rehearsal.credentials.awsTopic,
        endpoints: awsEndpoints,
        ca_file: "ca.crt",
      },
      azure: {
        cloud: "azure",
        subscription: azure.subscriptionId,
        resource_group: azure.resourceGroup,
        gallery: "Fedora",
        public_gallery: "Fedora-5e266ba4-2250-406d-adad-5d73860d958f",
        storage_account: azure.storageAccount,
        container: "vhds",
        home_region: "eastus",
        regions: ["eastus", "westeurope", "japaneast"],
        offer: "public",
        credentials: {
          tenant_id: azure.tenantId,
          client_id: azure.clientId,
          client_secret: await secret("azure", azure.clientSecret),
        },
        witness: {
          tenant_id: azureOutsider.tenantId,
          client_id: azureOutsider.clientId,
          client_secret: await secret("azure-witness", azureOutsider.clientSecret),
          subscription: azureOutsider.subscriptionId,
        },
        endpoints: rehearsal.urls.azure,
        ca_file: "ca.crt",
      },
      ...(options.gcp === true
        ? {
            gcp: {
              cloud: "gcp",
              project: gcp.project,
              bucket: gcp.bucket,
              offer: "public",
              credentials: { service_account: await secret("gcp.json", JSON.stringify(gcp.serviceAccount)) },
              witness: { service_account: await secret("gcp-witness.json", JSON.stringify(gcp.outsider)) },
              endpoints: {
                storage: rehearsal.urls.gcp,
                compute: rehearsal.urls.gcp,
                resource_manager: rehearsal.urls.gcp,
                token: `${rehearsal.urls.gcp}/token`,
              },
              ca_file: "ca.crt",
            },
          }
        : {}),
      registry: {
        cloud: "registry",
        url: `${registryUrl.host}/fedora`,
        ...(registryUrl.protocol === "http:" ? { plain_http: true } : { ca_file: "ca.crt" }),
        credentials: { username: registry.username, password: await secret("registry", registry.password) },
      },
    },
    systems: options.gcp === true ? WITH_GCP : SYSTEMS,
    attestations: { key: await secret("attest.key", attestKey) },
  };
  const path = join(directory, "slipway.yaml");
  // JSON is YAML: one writer less.
  await writeFile(path, `${JSON.stringify(config, null, 2)}\n`);
  return path;
}

/** Fedora Cloud in small: what examples/fedora.yaml has, on the simulated targets. */
const SYSTEMS = {
  "fedora-cloud": {
    composes: { short: ["Fedora", "Fedora-Cloud"] },
    images: [
      {
        select: { type: ["raw-xz"], format: ["raw.xz"], subvariant: ["Cloud_Base"], arch: ["x86_64", "aarch64"] },
        to: ["aws"],
        name: "Fedora-Cloud-Base-AmazonEC2.{arch}-{version}{-prerelease}-{build}",
        aws: { parameter: "/fedora/cloud/{version}{-prerelease}/{arch}/latest" },
      },
      {
        select: { type: ["vhd-compressed"], subvariant: ["Cloud_Base"], arch: ["x86_64", "aarch64"] },
        to: ["azure"],
        definition: "Fedora-Cloud-{version}{-prerelease}-{azure_arch}",
        version: "{number}.{date}.{respin}",
        release_as: "candidate",
      },
    ],
    containers: [
      {
        select: { type: ["container", "docker"] },
        to: ["registry"],
        repositories: { Container_Base: "fedora", Container_Minimal_Base: "fedora-minimal" },
        version_tag: "{number}.{date}.{respin}",
        tags: [{ when: { current: true }, tags: ["{number}", "latest"] }, { tags: ["{number}"] }],
      },
    ],
  },
};

const WITH_GCP = {
  "fedora-cloud": {
    ...SYSTEMS["fedora-cloud"],
    images: [
      ...SYSTEMS["fedora-cloud"].images,
      {
        select: { type: ["tar-gz"], subvariant: ["Cloud_Base"], arch: ["x86_64", "aarch64"] },
        to: ["gcp"],
        name: "fedora-cloud-{version}{-prerelease}-{build}-{arch}",
        family: "fedora-cloud-{version}{-prerelease}-{arch}",
      },
    ],
  },
};
