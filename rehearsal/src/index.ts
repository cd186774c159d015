/**
 * A rehearsal: pretended clouds and a pretended registry, each behind a proxy of its own, over TLS on this machine.
 *
 * Whatever a release does to the real ones it can do to these, with the vendors' own clients pointed at `urls` and told
 * to trust `caPem`. What goes wrong is the scenario's doing and can be changed while it runs. Nothing outlives `close`.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { applyWorld } from "./apply-world.ts";
import {
  AWS_OUTSIDER,
  AWS_PUBLISHER,
  type AwsKey,
  type AwsSimulator,
  type AwsSimulatorOptions,
  createAwsSimulator,
} from "./aws/index.ts";
import {
  type AzureOptions,
  type AzureOutsider,
  type AzureSimulator,
  createAzureSimulator,
  REHEARSAL_KEY,
} from "./azure/azure.ts";
import { createGcpSimulator, type GcpOptions, type GcpSimulator } from "./gcp/gcp.ts";
import { createProxy, type FaultProxy, type RuleInput, type ScenarioInput } from "./proxy.ts";
import { createRegistrySimulator, type RegistrySimulator, type RegistrySimulatorOptions } from "./registry/index.ts";
import { findScenario } from "./scenarios.ts";
import type { Simulator } from "./simulator.ts";
import { createAuthority, type Served, serve } from "./tls.ts";

export * from "./aws/index.ts";
export * from "./front.ts";
export * from "./proxy.ts";
export { findScenario, listScenarios } from "./scenarios.ts";
export type { Simulator } from "./simulator.ts";
export * from "./tls.ts";

export type PlaceName = "aws" | "azure" | "gcp" | "registry";

export interface RehearsalOptions {
  readonly aws?: AwsSimulatorOptions;
  readonly azure?: Partial<AzureOptions>;
  readonly gcp?: Partial<GcpOptions>;
  readonly registry?: RegistrySimulatorOptions;
  /** A scenario, the name of one that comes along, or the path of its file. Each proxy gets all of it; `match.cloud` tells rules apart. */
  readonly scenario?: ScenarioInput | string;
  /** Where disks are kept, in a folder for each cloud. Absent: in memory. */
  readonly blobDir?: string;
  /** Default: any free ones. */
  readonly ports?: Partial<Record<PlaceName, number>>;
}

export interface Rehearsal {
  readonly urls: {
    readonly ec2: string;
    readonly ebs: string;
    readonly sts: string;
    readonly s3: string;
    readonly ssm: string;
    readonly sns: string;
    readonly azure: { readonly authority: string; readonly management: string; readonly blob: string };
    /** One address for all services; tokens are at `/token`. */
    readonly gcp: string;
    readonly registry: string;
  };
  /** The certificate to trust, as PEM. */
  readonly caPem: string;
  readonly credentials: {
    readonly aws: AwsKey;
    /** Of an account that has nothing to do with the release: what it sees, everybody sees. */
    readonly awsOutsider: AwsKey;
    /** A topic of that account's. */
    readonly awsTopic: string;
    /** `storageKey` is the storage account's, base64, for clients that use neither tokens nor signatures of their own. */
    readonly azure: AzureAccount & { readonly storageKey: string };
    /** Of another tenant and subscription: what it sees, everybody sees. */
    readonly azureOutsider: AzureOutsider;
    /**
     * Key files' contents, with this rehearsal's token service in them, and what the account publishes to. The outsider
     * has nothing to do with the project.
     */
    readonly gcp: {
      readonly project: string;
      readonly bucket: string;
      readonly serviceAccount: object;
      readonly outsider: object;
    };
    readonly registry: { readonly username: string; readonly password: string };
  };
  readonly simulators: {
    readonly aws: AwsSimulator;
    readonly azure: AzureSimulator;
    readonly gcp: GcpSimulator;
    readonly registry: RegistrySimulator;
  };
  readonly proxies: Readonly<Record<PlaceName, FaultProxy>>;
  /** Sets a rule in every proxy. */
  set(rule: RuleInput): void;
  /** Switches a rule in every proxy. */
  enable(rule: string, on: boolean): void;
  /** Replaces all rules in every proxy. */
  load(scenario: ScenarioInput | string): void;
  close(): Promise<void>;
}

export type AzureAccount = Pick<
  AzureOptions,
  "tenantId" | "clientId" | "clientSecret" | "subscriptionId" | "resourceGroup" | "storageAccount"
>;

/** What a client may have its disks imported from. */
const AWS_BUCKET = { name: "fedora-images-import", region: "us-east-1", account: AWS_PUBLISHER.account } as const;

const AWS_TOPIC = `arn:aws:sns:us-east-1:${AWS_PUBLISHER.account}:images`;

/** The account of the pretended Azure, with the names of the real one's staging set-up. */
export const AZURE_ACCOUNT: AzureAccount = {
  tenantId: "7e4a0000-1111-4222-8333-444455556666",
  clientId: "c11e0000-1111-4222-8333-444455556666",
  clientSecret: "rehearsal-client-secret",
  subscriptionId: "5b5c0000-1111-4222-8333-444455556666",
  resourceGroup: "fedora-cloud",
  storageAccount: "fedoraimageupload",
};

/** Somebody of another tenant, with a subscription that has nothing in it. */
export const AZURE_OUTSIDER = {
  tenantId: "0a7e0000-1111-4222-8333-444455556666",
  clientId: "0c11e000-1111-4222-8333-444455556666",
  clientSecret: "rehearsal-outsider-secret",
  subscriptionId: "05b50000-1111-4222-8333-444455556666",
} as const;

/** What such an account already has when the first image comes. */
const AZURE_SETUP = {
  containers: ["vhds"],
  galleries: [{ name: "Fedora", publicName: "Fedora-5e266ba4-2250-406d-adad-5d73860d958f" }],
} as const;

/** The names of the real one's staging set-up. */
export const GCP_ACCOUNT = { project: "fedora-cloud-devel", bucket: "fedora-cloud-image-upload-devel" } as const;

export const REGISTRY_ACCOUNT = { username: "rehearsal", password: "rehearsal-password" } as const;

/** Starts everything. @throws Error when a port is taken or the scenario is none; nothing is left running then. */
export async function startRehearsal(options: RehearsalOptions = {}): Promise<Rehearsal> {
  const scenario = readIfPath(options.scenario ?? {});
  const simulators = createSimulators(options);
  if (scenario.world !== undefined) applyWorld(scenario.world, simulators);
  const authority = await createAuthority();
  const served: Served[] = [];
  const proxyOf = (name: PlaceName) => createProxy({ vendor: name, upstream: simulators[name].handler, scenario });
  const proxies = {
    aws: proxyOf("aws"),
    azure: proxyOf("azure"),
    gcp: proxyOf("gcp"),
    registry: proxyOf("registry"),
  };

  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= (async () => {
      await Promise.all(served.map((front) => front.close()));
      await Promise.all(Object.values(proxies).map((proxy) => proxy.close()));
      for (const simulator of Object.values<Simulator>(simulators)) simulator.reset();
      simulators.aws.close();
    })();
    return closing;
  };
  const front = async (name: PlaceName): Promise<string> => {
    const one = await serve(proxies[name].handler, { tls: authority, port: options.ports?.[name] });
    served.push(one);
    return one.url;
  };

  try {
    const aws = await front("aws");
    const azure = await front("azure");
    const gcp = await front("gcp");
    const account = { ...AZURE_ACCOUNT, ...options.azure };
    return {
      urls: {
        ec2: aws,
        ebs: aws,
        sts: aws,
        s3: aws,
        ssm: aws,
        sns: aws,
        azure: { authority: azure, management: azure, blob: `${azure}/${account.storageAccount}` },
        gcp,
        registry: await front("registry"),
      },
      caPem: authority.ca,
      credentials: {
        aws: options.aws?.keys?.[0] ?? AWS_PUBLISHER,
        awsTopic: AWS_TOPIC,
        awsOutsider: options.aws?.keys?.[1] ?? AWS_OUTSIDER,
        azure: { ...pickAccount(account), storageKey: options.azure?.accountKey ?? REHEARSAL_KEY },
        azureOutsider: options.azure?.outsider ?? AZURE_OUTSIDER,
        gcp: {
          project: options.gcp?.project ?? GCP_ACCOUNT.project,
          bucket: options.gcp?.bucket ?? GCP_ACCOUNT.bucket,
          serviceAccount: { ...simulators.gcp.serviceAccount, token_uri: `${gcp}/token` },
          outsider: { ...simulators.gcp.outsider, token_uri: `${gcp}/token` },
        },
        registry: options.registry?.credentials ?? REGISTRY_ACCOUNT,
      },
      simulators,
      proxies,
      set(rule) {
        for (const proxy of Object.values(proxies)) proxy.set(rule);
      },
      enable(rule, on) {
        for (const proxy of Object.values(proxies)) proxy.enable(rule, on);
      },
      load(next) {
        const input = readIfPath(next);
        for (const proxy of Object.values(proxies)) proxy.load(input);
        if (input.world !== undefined) applyWorld(input.world, simulators);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function createSimulators({ aws, azure, gcp, registry, blobDir }: RehearsalOptions): Rehearsal["simulators"] {
  const folder = (name: PlaceName): { blobDir: string } | Record<string, never> => {
    if (blobDir === undefined) return {};
    const path = join(blobDir, name);
    mkdirSync(path, { recursive: true });
    return { blobDir: path };
  };
  return {
    aws: createAwsSimulator({ ...folder("aws"), topics: [AWS_TOPIC], buckets: [AWS_BUCKET], ...aws }),
    azure: createAzureSimulator({
      ...AZURE_ACCOUNT,
      ...AZURE_SETUP,
      outsider: AZURE_OUTSIDER,
      ...folder("azure"),
      ...azure,
    }),
    gcp: createGcpSimulator({ ...GCP_ACCOUNT, ...folder("gcp"), ...gcp }),
    registry: createRegistrySimulator({ credentials: REGISTRY_ACCOUNT, tokenAuth: true, ...registry }),
  };
}

function readIfPath(scenario: ScenarioInput | string): ScenarioInput {
  return typeof scenario === "string" ? findScenario(scenario) : scenario;
}

function pickAccount(account: AzureAccount): AzureAccount {
  const { tenantId, clientId, clientSecret, subscriptionId, resourceGroup, storageAccount } = account;
  return { tenantId, clientId, clientSecret, subscriptionId, resourceGroup, storageAccount };
}
