/** What a message is about, whichever service wrote it. Pure. */
import { BASE } from "../../bus/published.ts";
import type { Json } from "../../model.ts";

/** A message of the other service, as it arrived. */
export interface TheirMessage {
  readonly id: string;
  /** With the broker's prefix. */
  readonly topic: string;
  readonly schema?: string | undefined;
  readonly severity: number;
  readonly body: Readonly<Record<string, Json>>;
}

export type Message = Pick<TheirMessage, "topic" | "schema" | "body">;

/** What a message is about: no two images of a compose share it, in one account. */
export function identityOf(message: Message): string {
  const { compose_id, repository, subvariant, architecture } = message.body;
  const cloud = cloudOf(message);
  const what = cloud === "container" ? [repository] : [subvariant, architecture];
  return canonical([cloud, compose_id ?? null, ...what.map((one) => one ?? null)]);
}

/** Older messages have no subvariant; their image's name says the same. */
export function nameOf(message: Message): string | undefined {
  const { compose_id, image_name, image_definition_name, image_version_name } = message.body;
  const name = image_name ?? (image_definition_name && [image_definition_name, image_version_name ?? null]);
  return name === undefined ? undefined : canonical([cloudOf(message), compose_id ?? null, name]);
}

const CLOUDS: ReadonlySet<string> = new Set(["aws", "azure", "gcp", "container"]);

/** As its schema says, else its topic. */
export function cloudOf({ schema, topic }: Message): string {
  const named = schema?.startsWith(`${BASE}.`) ? schema.slice(BASE.length + 1) : "";
  if (CLOUDS.has(named)) return named;
  return (
    unprefixed(topic)
      .slice(BASE.length + 1)
      .split(".")[0] || "unknown"
  );
}

/** The two services may stand behind different prefixes. */
export function unprefixed(topic: string): string {
  const at = topic.indexOf(`${BASE}.`);
  return at < 0 ? topic : topic.slice(at);
}

/** Characters of a name that a sender chose. */
const MOST_SHOWN = 200;

/** The same for people: `aws Cloud_Base x86_64`, `container fedora`. */
export function aboutOf(message: Message): string {
  const { repository, subvariant, architecture } = message.body;
  const cloud = cloudOf(message);
  const what = cloud === "container" ? [repository] : [subvariant, architecture];
  return [cloud, ...what.map((one) => (typeof one === "string" ? one.slice(0, MOST_SHOWN) : "?"))].join(" ");
}

/** What stands in it that people search for. */
export function titleOf({ body }: Message): string {
  const { image_name, image_definition_name, image_version_name, repository, tags } = body;
  if (typeof image_name === "string") return image_name.slice(0, MOST_SHOWN);
  if (typeof image_definition_name === "string") {
    return `${image_definition_name}/${String(image_version_name)}`.slice(0, MOST_SHOWN);
  }
  if (typeof repository !== "string") return "a message";
  return `${repository}:${namesIn(tags)?.join(",") ?? "?"}`.slice(0, MOST_SHOWN);
}

/** JSON in which equal values are equal texts. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) =>
    isRecord(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one,
  );
}

export function isRecord(value: unknown): value is Record<string, Json> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A set of names, however it is written: a list, or the keys of a map. */
export function namesIn(value: Json | undefined): string[] | undefined {
  if (Array.isArray(value)) return value.every((one) => typeof one === "string") ? value : undefined;
  return isRecord(value) ? Object.keys(value) : undefined;
}
