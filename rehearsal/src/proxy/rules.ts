import type http from "node:http";
import type { Match, Rule } from "./scenario.ts";
import type { Seen } from "./vendors.ts";

/** One rule at work: how often it matched, and when it acts again. */
export class ActiveRule {
  readonly rule: Rule;
  enabled: boolean;
  matched = 0;
  applied = 0;
  readonly #random: () => number;
  readonly #clock: () => number;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  /** Credentials that are refused since the rule acted on them. */
  readonly #expired = new Set<string>();
  /** When each line will have let through what it was given. */
  readonly #lines = new Map<string, { freeAt: number }>();

  constructor(rule: Rule, seed: number, clock: () => number) {
    this.rule = rule;
    this.enabled = rule.enabled;
    this.#random = seeded(seed, rule.name);
    this.#clock = clock;
  }

  /** Whether the rule acts on this request. Counts, draws and takes tokens: ask once for each request. */
  acts(request: http.IncomingMessage, cloud: string, seen: Seen): boolean {
    const { every, chance, after = 0, times } = this.rule;
    // Credentials that have expired have expired for everything.
    if (this.enabled && this.#expired.has(seen.credential)) return true;
    if (!this.enabled || !matches(this.rule.match, request, cloud, seen)) return false;
    if (this.rule.fault === "expire" && seen.credential === "") return false;
    this.matched += 1;
    if (this.matched <= after) return false;
    if (every !== undefined && (this.matched - after) % every !== 0) return false;
    if (chance !== undefined && this.#random() >= chance) return false;
    if (times !== undefined && this.applied >= times) return false;
    if (this.rule.fault === "throttle" && this.#takeToken(this.rule, request, seen)) return false;
    this.applied += 1;
    if (this.rule.fault === "expire") this.#expired.add(seen.credential);
    return true;
  }

  /** Milliseconds to wait before so many more bytes of this request's line may pass. */
  lineOf(rule: Rule & { fault: "bandwidth" }, request: http.IncomingMessage, seen: Seen): (bytes: number) => number {
    const key = keyOf(rule.per, request, seen);
    const line = this.#lines.get(key) ?? { freeAt: 0 };
    this.#lines.set(key, line);
    return (bytes) => {
      const now = this.#clock();
      line.freeAt = Math.max(now, line.freeAt) + (bytes / rule.bytes_per_second) * 1000;
      return line.freeAt - now;
    };
  }

  /** A number of this rule's own sequence, 0 ≤ n < 1. */
  draw(): number {
    return this.#random();
  }

  #takeToken(rule: Rule & { fault: "throttle" }, request: http.IncomingMessage, seen: Seen): boolean {
    const key = keyOf(rule.per, request, seen);
    const burst = rule.burst ?? Math.max(1, rule.rate);
    const now = this.#clock();
    const bucket = this.#buckets.get(key) ?? { tokens: burst, at: now };
    const tokens = Math.min(burst, bucket.tokens + ((now - bucket.at) / 1000) * rule.rate);
    const granted = tokens >= 1;
    this.#buckets.set(key, { tokens: granted ? tokens - 1 : tokens, at: now });
    return granted;
  }
}

function keyOf(per: (Rule & { fault: "throttle" })["per"], request: http.IncomingMessage, seen: Seen): string {
  return per.map((part) => (part === "path" ? (request.url ?? "").split("?", 1)[0] : seen[part])).join(" ");
}

function matches(match: Match, request: http.IncomingMessage, cloud: string, seen: Seen): boolean {
  const facts: readonly [string | string[] | undefined, string | undefined][] = [
    [match.cloud, cloud],
    [match.service, seen.service],
    [match.operation, seen.operation],
    [match.region, seen.region],
    [match.method, request.method],
    [match.host, request.headers.host],
    [match.path, (request.url ?? "/").split("?", 1)[0]],
    ...Object.entries(match.header ?? {}).map(
      ([name, wanted]) => [wanted, headerText(request, name)] as [string | string[], string | undefined],
    ),
  ];
  return facts.every(([wanted, value]) => wanted === undefined || fits(wanted, value));
}

function headerText(request: http.IncomingMessage, name: string): string | undefined {
  const value = request.headers[name.toLowerCase()];
  return Array.isArray(value) ? value.join(", ") : value;
}

const patterns = new Map<string, RegExp>();

function fits(wanted: string | readonly string[], value: string | undefined): boolean {
  if (value === undefined) return false;
  return (typeof wanted === "string" ? [wanted] : wanted).some((word) => {
    if (!word.includes("*")) return word === value;
    let pattern = patterns.get(word);
    if (pattern === undefined) {
      const parts = word.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"));
      pattern = new RegExp(`^${parts.join(".*")}$`);
      patterns.set(word, pattern);
    }
    return pattern.test(value);
  });
}

/** Mulberry32, seeded by the scenario and the rule's name, so that a rule's luck does not hang on its neighbours. */
function seeded(seed: number, name: string): () => number {
  let state = seed >>> 0;
  for (const char of name) state = Math.imul(state ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
