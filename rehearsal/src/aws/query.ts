import { AwsFault } from "./fault.ts";

/** Parameters of one Query request: names with dots, `Filter.1.Value.2`, as the client sent them. */
export class Query {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: ReadonlyMap<string, string>) {
    this.#values = values;
  }

  static parse(form: string): Query {
    return new Query(new Map(new URLSearchParams(form)));
  }

  text(name: string): string | undefined {
    return this.#values.get(name);
  }

  required(name: string): string {
    const value = this.#values.get(name);
    if (value === undefined || value === "") {
      throw new AwsFault("MissingParameter", `The request must contain the parameter ${name}`);
    }
    return value;
  }

  flag(name: string): boolean | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (value !== "true" && value !== "false") throw invalidValue(value, name);
    return value === "true";
  }

  integer(name: string): number | undefined {
    const value = this.#values.get(name);
    if (value === undefined) return undefined;
    if (!/^-?\d{1,15}$/.test(value)) throw invalidValue(value, name);
    return Number(value);
  }

  /** A flat list of strings: `Owner.1`, `Owner.2`. */
  list(prefix: string): string[] {
    return this.#indexes(prefix).map((index) => this.#values.get(`${prefix}.${index}`) ?? "");
  }

  /** A list of structures, each as a Query of its own: `Tag.1.Key`. */
  structures(prefix: string): Query[] {
    return this.#indexes(prefix).map((index) => this.under(`${prefix}.${index}`));
  }

  /** The members of one structure: `Ebs.SnapshotId` under `Ebs`. */
  under(prefix: string): Query {
    const inside = new Map<string, string>();
    for (const [name, value] of this.#values) {
      if (name.startsWith(`${prefix}.`)) inside.set(name.slice(prefix.length + 1), value);
    }
    return new Query(inside);
  }

  get empty(): boolean {
    return this.#values.size === 0;
  }

  /** Everything that says what is asked, in a stable order: two requests with the same text ask the same. */
  fingerprint(): string {
    return JSON.stringify([...this.#values].filter(([name]) => name !== "ClientToken").sort());
  }

  #indexes(prefix: string): number[] {
    const found = new Set<number>();
    for (const name of this.#values.keys()) {
      if (!name.startsWith(`${prefix}.`)) continue;
      const index = Number(name.slice(prefix.length + 1).split(".", 1)[0]);
      if (Number.isInteger(index) && index > 0) found.add(index);
    }
    return [...found].sort((a, b) => a - b);
  }
}

export function invalidValue(value: string, name: string, hint = ""): AwsFault {
  return new AwsFault("InvalidParameterValue", `Value (${value}) for parameter ${name} is invalid. ${hint}`.trim());
}
