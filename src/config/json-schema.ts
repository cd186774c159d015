import { z } from "zod";
import { configSchema } from "./schema.ts";

/** The part of JSON Schema that ours is made of. */
export interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly description?: string;
  readonly default?: unknown;
  readonly pattern?: string;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | JsonSchema;
  readonly items?: JsonSchema;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
}

let made: JsonSchema | undefined;

/** JSON Schema 2020-12 of slipway.yaml, for editors: what a person writes, before defaults. */
export function configJsonSchema(): JsonSchema {
  made ??= { title: "slipway.yaml", ...z.toJSONSchema(configSchema, { io: "input" }) } as JsonSchema;
  return made;
}

/** The alternatives a schema stands for, one without alternatives for itself. */
export function branchesOf(schema: JsonSchema): readonly JsonSchema[] {
  const branches = schema.anyOf ?? schema.oneOf;
  return branches ? branches.flatMap(branchesOf) : [schema];
}
