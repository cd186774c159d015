import { AwsFault } from "../fault.ts";
import type { Query } from "../query.ts";

/** Values of one resource under each filter name that the vendor documents and a client here may use. */
export type FilterFields<T> = Readonly<Record<string, (resource: T) => readonly (string | undefined)[]>>;

/** Keeps what every filter of the request lets through: values of one filter are alternatives, `*` and `?` wild. */
export function applyFilters<T extends { readonly owner: string; readonly tags: ReadonlyMap<string, string> }>(
  query: Query,
  resources: readonly T[],
  fields: FilterFields<T>,
  account: string,
  named = "Filter",
): T[] {
  const filters = query.structures(named).map((filter) => {
    const name = filter.required("Name");
    return { name, patterns: filter.list("Value").map(wildcard) };
  });
  for (const { name } of filters) {
    if (name in fields || name === "tag-key" || name.startsWith("tag:")) continue;
    throw new AwsFault("InvalidParameterValue", `The filter '${name}' is invalid`);
  }
  return resources.filter((resource) =>
    filters.every(({ name, patterns }) => {
      // Another account's tags are not to be seen, hence not to be searched.
      const tags: ReadonlyMap<string, string> = resource.owner === account ? resource.tags : new Map();
      const values = name.startsWith("tag:")
        ? [tags.get(name.slice(4))]
        : name === "tag-key"
          ? [...tags.keys()]
          : (fields[name]?.(resource) ?? []);
      return values.some((value) => value !== undefined && patterns.some((pattern) => pattern.test(value)));
    }),
  );
}

function wildcard(text: string): RegExp {
  const pattern = text.replace(/\\?[\s\S]/g, (part) => {
    if (part === "*") return "[^]*";
    if (part === "?") return "[^]";
    return part.slice(-1).replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  });
  return new RegExp(`^${pattern}$`);
}

/** One page, and the token of the next. Pages go by position in a list that is in a stable order. */
export function paginate<T>(
  query: Query,
  resources: readonly T[],
  limits: { min: number; max: number },
): { page: readonly T[]; nextToken: string | undefined } {
  const size = query.integer("MaxResults");
  if (size !== undefined && (size < limits.min || size > limits.max)) {
    throw new AwsFault(
      "InvalidParameterValue",
      `Value ( ${size} ) for parameter maxResults is invalid. Expecting a value between ${limits.min} and ${limits.max}.`,
    );
  }
  const token = query.text("NextToken");
  let from = 0;
  if (token !== undefined) {
    const text = Buffer.from(token, "base64url").toString();
    if (!/^page:\d{1,9}$/.test(text))
      throw new AwsFault("InvalidNextToken", "The specified pagination token is invalid.");
    from = Number(text.slice(5));
  }
  const end = Math.min(resources.length, from + (size ?? limits.max));
  const nextToken = end < resources.length ? Buffer.from(`page:${end}`).toString("base64url") : undefined;
  return { page: resources.slice(from, end), nextToken };
}

export function tagSet(tags: ReadonlyMap<string, string>): { key: string; value: string }[] | undefined {
  return tags.size === 0 ? undefined : [...tags].map(([key, value]) => ({ key, value }));
}

/** `2026-05-01T10:00:00.000Z`, as EC2 writes moments. */
export function moment(time: number): string {
  return new Date(time).toISOString();
}
