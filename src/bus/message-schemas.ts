/**
 * The bodies of messages that others validate, as schemas: nothing is sent that a reader's schema package would refuse.
 * The same fields, all required, further ones allowed, as fedora-image-uploader-messages has them; a test holds them
 * against that package.
 */
import { z } from "zod";
import type { Json } from "../model.ts";

const text = z.string();
const texts = z.array(z.string());

const PUBLISHED = {
  aws: z.looseObject({
    architecture: text,
    compose_id: text,
    image_name: text,
    regions: z.record(z.string(), z.unknown()),
    release: z.int(),
    subvariant: text,
  }),
  azure: z.looseObject({
    architecture: text,
    compose_id: text,
    image_definition_name: text,
    image_version_name: text,
    image_resource_id: text,
    regions: texts,
    release: z.int(),
    subvariant: text,
  }),
  container: z.looseObject({
    architectures: texts,
    compose_id: text,
    registries: texts,
    release: z.int(),
    repository: text,
    tags: texts,
  }),
  gcp: z.looseObject({
    architecture: text,
    compose_id: text,
    family: text,
    image_name: text,
    image_url: text,
    release: z.int(),
    storage_locations: texts,
    subvariant: text,
  }),
} as const;

/** By the name in the header `fedora_messaging_schema`. */
export const MESSAGE_SCHEMAS: ReadonlyMap<string, z.ZodType> = new Map(
  Object.entries(PUBLISHED).map(([cloud, schema]) => [`fedora_image_uploader.published.v1.${cloud}`, schema]),
);

/** What is wrong with a body, by its schema; undefined if nothing is, or nobody has a schema for it. */
export function problemWithBody(
  schemaName: Json | undefined,
  body: Readonly<Record<string, Json>>,
): string | undefined {
  const schema = typeof schemaName === "string" ? MESSAGE_SCHEMAS.get(schemaName) : undefined;
  const said = schema?.safeParse(body);
  if (said === undefined || said.success) return undefined;
  return said.error.issues
    .map((issue) => `${issue.path.join(".")}: ${issue.message}`)
    .join("; ")
    .slice(0, 500);
}
