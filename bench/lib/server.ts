/** The simulated clouds as a process of their own: started here, told about by one line of JSON, ended with its stdin. */
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { type Rehearsal, type RuleInput, startRehearsal } from "@slipway/rehearsal";
import { spawnOn } from "./pinned.ts";

export type Clouds = Pick<Rehearsal, "urls" | "caPem" | "credentials">;

export interface Server extends AsyncDisposable {
  readonly clouds: Clouds;
  /** Ends it; how often each rule in front of AWS matched and acted. */
  end(): Promise<Readonly<Record<string, { readonly matched: number; readonly applied: number }>>>;
}

const self = fileURLToPath(import.meta.url);

export async function startServer(
  core: number | undefined,
  /** Rules, or the name of a scenario that comes along. */
  scenario: { rules?: readonly RuleInput[] } | string = {},
): Promise<Server> {
  const child = spawnOn(core, [process.execPath, self, JSON.stringify(scenario)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout! });
  const [line] = (await once(lines, "line")) as [string];
  let ending: ReturnType<Server["end"]> | undefined;
  const stop = async () => {
    const [counts, ended] = [once(lines, "line"), once(child, "exit")];
    child.stdin!.end();
    const [said] = (await counts) as [string];
    await ended;
    return JSON.parse(said);
  };
  const end = () => {
    ending ??= stop();
    return ending;
  };
  return {
    clouds: JSON.parse(line) as Clouds,
    end,
    async [Symbol.asyncDispose]() {
      await end();
    },
  };
}

if (process.argv[1] === self) {
  const scenario = JSON.parse(process.argv[2]!);
  const { urls, caPem, credentials, close, proxies } = await startRehearsal({ scenario });
  process.stdout.write(`${JSON.stringify({ urls, caPem, credentials } satisfies Clouds)}\n`);
  process.stdin.resume();
  await once(process.stdin, "end");
  process.stdout.write(`${JSON.stringify(proxies.aws.counts().rules)}\n`);
  await close();
}
