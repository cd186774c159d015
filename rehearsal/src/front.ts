/**
 * The proxy alone, in front of servers that are not ours: another emulator, a registry, a web server with composes. The
 * same scenario file happens to them as to the simulated clouds.
 */
import { createProxy, type FaultProxy, type ProxyOptions, type ScenarioInput } from "./proxy.ts";
import { findScenario } from "./scenarios.ts";
import { createAuthority, type Served, serve } from "./tls.ts";

export interface Front {
  /** Which vendor's calls and refusals are spoken there; `plain` for anything else that speaks HTTP. */
  readonly cloud: ProxyOptions["vendor"];
  /** Of the server behind it: http or https, a path is put before every request's own. */
  readonly url: string;
}

export interface RunningFronts {
  /** In the order they were given; https, with `caPem` to trust. */
  readonly fronts: readonly {
    readonly cloud: string;
    readonly upstream: string;
    readonly url: string;
    readonly proxy: FaultProxy;
  }[];
  readonly caPem: string;
  close(): Promise<void>;
}

/** @throws Error for a scenario with a world: another server is as it is */
export async function startFronts(
  wanted: readonly Front[],
  options: { readonly scenario?: ScenarioInput | string | undefined; readonly upstreamCa?: string | undefined } = {},
): Promise<RunningFronts> {
  const { upstreamCa } = options;
  const scenario = typeof options.scenario === "string" ? findScenario(options.scenario) : (options.scenario ?? {});
  if (scenario.world !== undefined) {
    throw new Error(
      "the scenario has a world section, which sets simulated clouds; a server that is not ours is as it is",
    );
  }
  const authority = await createAuthority();
  const served: Served[] = [];
  const fronts: RunningFronts["fronts"][number][] = [];
  const close = async () => {
    await Promise.all(served.map((one) => one.close()));
    await Promise.all(fronts.map(({ proxy }) => proxy.close()));
  };
  try {
    for (const { cloud, url } of wanted) {
      const proxy = createProxy({ vendor: cloud, upstream: url, scenario, ...(upstreamCa ? { upstreamCa } : {}) });
      const front = await serve(proxy.handler, { tls: authority });
      served.push(front);
      fronts.push({ cloud, upstream: url, url: front.url, proxy });
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { fronts, caPem: authority.ca, close };
}
