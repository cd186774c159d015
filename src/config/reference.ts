import { PLACEHOLDERS } from "../compose/index.ts";
import { branchesOf, configJsonSchema, type JsonSchema } from "./json-schema.ts";

/** docs/configuration.md, from the schema: a setting that exists is in it, with its default. */
export function configReference(): string {
  const sections = Object.entries(configJsonSchema().properties ?? {});
  return [
    INTRODUCTION,
    ...sections.flatMap(([name, schema]) => section(name, schema)),
    "## Placeholders of name templates\n",
    "`{x}` becomes the value; `{-x}` becomes a dash and the value, or nothing where there is no value",
    "(likewise `{.x}` and `{_x}`). An unknown placeholder is an error that names the nearest one.\n",
    "| placeholder | value |\n|---|---|",
    ...Object.entries(PLACEHOLDERS).map(([name, words]) => `| \`{${name}}\` | ${words} |`),
    "",
  ].join("\n");
}

const INTRODUCTION = `# Configuration

Generated from \`src/config/schema.ts\`; \`vitest run src/config -u\` writes it anew.

Slipway reads one file: \`--config FILE\`, else \`SLIPWAY_CONFIG\`, else \`./slipway.yaml\`. None is needed: every setting
has a default. The file is strict: an unknown key is an error with its line and the nearest known name.
\`slipway config check\` says what is wrong without doing anything.

* **Secrets** never stand in it. They are \`{env: NAME}\` or \`{file: PATH}\`, or absent where the vendor's own chain of
  credentials finds them.
* **Paths** are relative to the file they stand in.
* **Includes.** \`include: other.yaml\` (or a list) is read first; this file's settings are laid over it. Mappings are
  merged, anything else is replaced, \`null\` takes a setting back. That is how a staging overlay is written.
* **Examples** lie in \`examples/\`: \`fedora.yaml\` is Fedora's production, \`fedora-staging.yaml\` the overlay for its
  staging, \`fedora-coreos.yaml\` and \`container-linux.yaml\` are other systems.
`;

function section(name: string, schema: JsonSchema): string[] {
  const lines = [`## ${name}\n`];
  if (schema.description) lines.push(`${schema.description}\n`);
  if (schema.properties && Object.keys(schema.properties).length === 0) return lines;
  const entry = entryOf(schema);
  if (!entry) return [...lines, `Value: ${typeOf(schema)}. Default: ${defaultOf(schema) || "none"}.\n`];
  for (const branch of entry.branches) {
    const cloud = branch.properties?.cloud?.const;
    if (typeof cloud === "string") lines.push(`### cloud: ${cloud}\n`);
    lines.push("| setting | value | default | |\n|---|---|---|---|", ...rows(branch, entry.prefix), "");
  }
  return lines;
}

/** What a section is made of: itself, the entries of a mapping, or the items of a list. */
function entryOf(schema: JsonSchema): { prefix: string; branches: readonly JsonSchema[] } | undefined {
  const { additionalProperties, items } = schema;
  if (schema.properties) return { prefix: "", branches: [schema] };
  if (typeof additionalProperties === "object")
    return { prefix: "<name>.", branches: branchesOf(additionalProperties) };
  return items?.properties ? { prefix: "[].", branches: [items] } : undefined;
}

function rows(schema: JsonSchema, prefix: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, inner]) => {
    const setting = prefix + name;
    const required = schema.required?.includes(name) ? "**required**" : defaultOf(inner);
    const row = `| \`${setting}\` | ${cell(typeOf(inner))} | ${required} | ${cell(inner.description ?? "")} |`;
    const nested = inner.properties ? inner : inner.items?.properties ? inner.items : undefined;
    if (nested) return [row, ...rows(nested, `${setting}${nested === inner ? "" : "[]"}.`)];
    return [row, ...kindsOf(inner).flatMap((kind) => rows(kind, `${setting}.<name>.`))];
  });
}

/** Of a mapping whose entries are of several kinds; each begins with its `kind`. */
function kindsOf({ additionalProperties }: JsonSchema): readonly JsonSchema[] {
  if (typeof additionalProperties !== "object") return [];
  return branchesOf(additionalProperties).filter(({ properties }) => typeof properties?.kind?.const === "string");
}

function typeOf(schema: JsonSchema): string {
  const branches = branchesOf(schema);
  if (branches.length > 1) return [...new Set(branches.map(typeOf))].join(", ");
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.enum) return schema.enum.map((value) => `\`${value}\``).join(", ");
  if (schema.items) return `list of ${typeOf(schema.items)}`;
  if (schema.properties) {
    const keys = Object.keys(schema.properties);
    return keys.length <= 4 ? `\`{${keys.join(", ")}}\`` : "mapping";
  }
  if (typeof schema.additionalProperties === "object") return `mapping to ${typeOf(schema.additionalProperties)}`;
  return schema.type === "string" ? "text" : String(schema.type ?? "text");
}

function defaultOf(schema: JsonSchema): string {
  const { default: value } = schema;
  if (value === undefined || JSON.stringify(value) === "{}") return "";
  return `\`${typeof value === "string" ? value : JSON.stringify(value)}\``;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("\n", " ");
}
