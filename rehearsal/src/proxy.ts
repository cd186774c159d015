/**
 * The fault-and-limit proxy: stands in front of any server that speaks HTTP and lets a scenario happen to it.
 *
 * Simulators are good by nature; everything bad comes from here, so that one scenario file fits a simulator, another
 * emulator and a real account alike. The proxy knows how a vendor's calls are named and how the vendor says no
 * (`proxy/vendors.ts`), but nothing of what is behind it. Rules can be set, switched and removed while it runs.
 * Start reading at `createProxy`; the scenario's language is in `proxy/scenario.ts`.
 */
import type http from "node:http";
import { createForwarder, type Detour, type Forwarder } from "./proxy/forward.ts";
import { ActiveRule } from "./proxy/rules.ts";
import { parseRule, parseScenario, type RuleInput, type ScenarioInput } from "./proxy/scenario.ts";
import { type Seen, VENDORS, type Vendor } from "./proxy/vendors.ts";
import { type Served, serve } from "./tls.ts";

export { type Rule, type RuleInput, readScenario, type Scenario, type ScenarioInput } from "./proxy/scenario.ts";

export interface ProxyOptions {
  readonly vendor: keyof typeof VENDORS;
  /** A server's URL, or a handler in this process, which is called without a second hop where nothing must be changed. */
  readonly upstream: string | http.RequestListener;
  /** PEM, for an https upstream with a certificate of its own. */
  readonly upstreamCa?: string;
  readonly scenario?: ScenarioInput;
  /** For the token buckets, in milliseconds. Default: the real time. */
  readonly clock?: () => number;
}

export interface FaultProxy {
  readonly handler: http.RequestListener;
  /** Adds a rule, or replaces the one of that name. @throws Error that says what is wrong with it */
  set(rule: RuleInput): void;
  remove(name: string): void;
  /** Switches a rule on or off. @throws Error if there is none of that name */
  enable(name: string, on: boolean): void;
  /** Forgets all rules and takes those of the scenario. Counts start again. */
  load(scenario: ScenarioInput): void;
  counts(): ProxyCounts;
  close(): Promise<void>;
}

export interface ProxyCounts {
  readonly requests: number;
  /** By `service:operation@region`. What was refused here counts too. */
  readonly operations: Readonly<Record<string, number>>;
  readonly rules: Readonly<Record<string, { readonly matched: number; readonly applied: number }>>;
}

export function createProxy(options: ProxyOptions): FaultProxy {
  const vendor: Vendor = VENDORS[options.vendor];
  const clock = options.clock ?? (() => performance.now());
  const rules = new Map<string, ActiveRule>();
  const operations = new Map<string, number>();
  const waiting = new Set<() => void>();
  let requests = 0;
  let seed = 1;
  let inner: Promise<{ forwarder: Forwarder; served?: Served }> | undefined;

  function load(input: ScenarioInput): void {
    const scenario = parseScenario(input);
    seed = scenario.seed;
    requests = 0;
    operations.clear();
    rules.clear();
    for (const rule of scenario.rules) rules.set(rule.name, new ActiveRule(rule, seed, clock));
  }

  /** A handler gets a server of its own the first time that something has to be changed on the way. */
  function forwarder(): Promise<{ forwarder: Forwarder; served?: Served }> {
    inner ??= (async () => {
      if (typeof options.upstream === "string") {
        return { forwarder: createForwarder(options.upstream, options.upstreamCa) };
      }
      const served = await serve(options.upstream);
      return { forwarder: createForwarder(served.url), served };
    })();
    return inner;
  }

  async function pass(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const seen = await vendor.see(request);
    requests += 1;
    const call = `${seen.service}:${seen.operation}@${seen.region}`;
    operations.set(call, (operations.get(call) ?? 0) + 1);

    const fate = decide(request, seen);
    if (fate.delay > 0) await pause(fate.delay, response);
    if (response.destroyed) return;
    if (fate.instead !== undefined) fate.instead(response);
    else if (typeof options.upstream === "function" && fate.detour === undefined) options.upstream(request, response);
    else (await forwarder()).forwarder.forward(request, response, fate.detour ?? {});
  }

  /** Every rule is asked, in order. Waits add up; of the rest the first one decides. */
  function decide(request: http.IncomingMessage, seen: Seen): Fate {
    let delay = 0;
    let instead: Fate["instead"];
    let detour: Detour | undefined;
    const narrow: NonNullable<Detour["narrow"]>[number][] = [];
    for (const active of rules.values()) {
      if (!active.acts(request, vendor.cloud, seen)) continue;
      const { rule } = active;
      if (rule.fault === "latency") delay += rule.ms + active.draw() * rule.jitter_ms;
      else if (rule.fault === "bandwidth") narrow.push({ in: rule.in, wait: active.lineOf(rule, request, seen) });
      else if (instead !== undefined || detour !== undefined) continue;
      else if (rule.fault === "lost-answer") detour = { loseAnswer: true };
      else if (rule.fault === "flip-bit") detour = { flip: { in: rule.in, at: active.draw() } };
      else if (rule.fault === "quota") instead = (response) => vendor.exhaust(response, seen);
      else if (rule.fault === "expire" && vendor.expire === undefined) detour = { anonymous: true };
      else if (rule.fault === "expire") instead = (response) => vendor.expire?.(response, seen);
      else if (rule.fault === "throttle") instead = (response) => vendor.throttle(response, seen);
      else if (rule.fault === "status") instead = (response) => vendor.fail(response, seen, rule.status);
      else if (rule.fault === "silence") instead = (response) => silence(response, rule.after_sending);
      else if (rule.fault === "reset") instead = reset;
      else if (rule.as === "status") instead = (response) => vendor.fail(response, seen, 503);
      else instead = rule.as === "reset" ? reset : (response) => silence(response, "nothing");
    }
    return { delay, instead, detour: narrow.length > 0 ? { ...detour, narrow } : detour };
  }

  /** Waits, but not longer than the client does. */
  function pause(ms: number, response: http.ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        waiting.delete(done);
        response.off("close", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      waiting.add(done);
      response.once("close", done);
    });
  }

  load(options.scenario ?? {});
  return {
    handler(request, response) {
      pass(request, response).catch(() => response.destroy());
    },
    set(input) {
      const rule = parseRule(input);
      rules.set(rule.name, new ActiveRule(rule, seed, clock));
    },
    remove(name) {
      rules.delete(name);
    },
    enable(name, on) {
      const active = rules.get(name);
      if (active === undefined) throw new Error(`no rule is named ${name}; there are: ${[...rules.keys()].join(", ")}`);
      active.enabled = on;
    },
    load,
    counts: () => ({
      requests,
      operations: Object.fromEntries(operations),
      rules: Object.fromEntries([...rules].map(([name, { matched, applied }]) => [name, { matched, applied }])),
    }),
    async close() {
      for (const done of waiting) done();
      const made = await inner;
      made?.forwarder.close();
      await made?.served?.close();
    },
  };
}

interface Fate {
  readonly delay: number;
  /** Answers, or does not, in place of the upstream. */
  readonly instead: ((response: http.ServerResponse) => void) | undefined;
  readonly detour: Detour | undefined;
}

function reset(response: http.ServerResponse): void {
  const socket = response.socket;
  if (socket !== null && "resetAndDestroy" in socket) socket.resetAndDestroy();
  response.destroy();
}

/** The connection stays open until the client, or the end of the rehearsal, closes it. */
function silence(response: http.ServerResponse, after: "nothing" | "headers"): void {
  if (after === "nothing") return;
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": 1_000_000 });
  response.flushHeaders();
}
