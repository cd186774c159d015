/**
 * slipway.yaml: one strict schema, and from it the defaults, the errors with line and nearest name, the JSON Schema
 * for editors and the reference page.
 *
 * It refuses to know what any setting does. Secrets are not in the configuration, only where they are: `secrets.ts`
 * fetches them when a target is opened. Start reading at `schema.ts`, then `load.ts`.
 */
export { configJsonSchema } from "./json-schema.ts";
export { type LoadOptions, loadConfig, parseConfig } from "./load.ts";
export { configReference } from "./reference.ts";
export { type Action, BY_TOPIC, compiledRules, type PlaybookAction, type RuleConfig, ruleConfigs } from "./rules.ts";
export {
  type AwsTarget,
  type AzureTarget,
  type Config,
  type ConfiguredSystem,
  configSchema,
  type GcpTarget,
  type LocalTarget,
  type PlanTargets,
  type RegistryTarget,
  type Target,
} from "./schema.ts";
export {
  type AzureCredentials,
  azureCredentials,
  azureSubscription,
  type Environment,
  resolveSecret,
  resolveValue,
} from "./secrets.ts";
export { azureDefinition, azureRegions, planTargets } from "./targets.ts";
export type { SecretRef } from "./values.ts";
