/**
 * The clouds Slipway knows, by name, and what stands around every driver.
 *
 * A new cloud is one folder and one line in `DRIVERS`, plus its contract test. Drivers are loaded when a target needs
 * them, because an SDK costs a quarter of a second and a hundred megabytes. Start reading at `cloud.ts`.
 */
import { SlipwayError } from "../lib/errors.ts";
import type { AwsOptions } from "./aws/aws.ts";
import type { AzureOptions } from "./azure/options.ts";
import type { Cloud } from "./cloud.ts";
import type { GcpOptions } from "./gcp/options.ts";
import type { LocalOptions } from "./local/local.ts";
import { DEFAULT_LIMITS, inProduction, type Limits } from "./wrappers.ts";

export type { Cloud } from "./cloud.ts";
export { uploadPlaces } from "./gate.ts";
export { dryRun, type Intention, inProduction, type Limits } from "./wrappers.ts";

/** A target as the configuration names it, with its secrets resolved. */
export type CloudOptions =
  | ({ readonly cloud: "aws"; readonly credentials: AwsKey; readonly witness?: AwsKey } & Omit<
      AwsOptions,
      "credentials" | "witness"
    >)
  | ({ readonly cloud: "azure" } & AzureOptions)
  | ({ readonly cloud: "gcp" } & GcpOptions)
  | ({ readonly cloud: "local" } & LocalOptions);

type AwsKey = AwsOptions["credentials"] | { readonly profile?: string };
type Driver = CloudOptions["cloud"];
type OptionsOf<Name extends Driver> = Extract<CloudOptions, { cloud: Name }>;

const DRIVERS: { readonly [Name in Driver]: (options: OptionsOf<Name>) => Promise<Cloud> } = {
  aws: openAwsTarget,
  azure: async (options) => (await import("./azure/azure.ts")).openAzure(options),
  gcp: async (options) => (await import("./gcp/gcp.ts")).openGcp(options),
  local: async (options) => (await import("./local/local.ts")).openLocal(options),
};

export const CLOUD_NAMES = Object.keys(DRIVERS) as readonly Driver[];

/**
 * Opens a target's cloud, wrapped. Contacts nobody: wrong credentials show at the first call, or in `check`.
 * @throws SlipwayError `unsupported` for a cloud without a driver
 */
export async function openCloud(options: CloudOptions, limits: Limits = DEFAULT_LIMITS): Promise<Cloud> {
  return inProduction(await openDriver(options), limits);
}

async function openDriver(options: CloudOptions): Promise<Cloud> {
  switch (options.cloud) {
    case "aws":
      return DRIVERS.aws(options);
    case "azure":
      return DRIVERS.azure(options);
    case "gcp":
      return DRIVERS.gcp(options);
    case "local":
      return DRIVERS.local(options);
    default: {
      const unknown: { cloud: string } = options;
      throw new SlipwayError("unsupported", `There is no driver for the cloud "${unknown.cloud}".`, {
        next: `Name one of: ${CLOUD_NAMES.join(", ")}.`,
      });
    }
  }
}

/** Without keys of its own a target uses what AWS's own tools would use. */
async function openAwsTarget({ credentials, witness, ...options }: OptionsOf<"aws">): Promise<Cloud> {
  const [{ openAws }, { defaultCredentials }] = await Promise.all([
    import("./aws/aws.ts"),
    import("./aws/default-credentials.ts"),
  ]);
  const keyOf = (key: AwsKey) =>
    typeof key === "function" || "accessKeyId" in key ? key : defaultCredentials(key.profile);
  const outsider = witness === undefined ? {} : { witness: keyOf(witness) };
  return openAws({ ...options, credentials: keyOf(credentials), ...outsider });
}
