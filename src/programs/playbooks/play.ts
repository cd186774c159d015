/**
 * Runs one Ansible playbook about one event, and tells what it does task by task.
 *
 * By ansible-runner where it is installed, which says in events what it does; else by ansible-playbook, whose output is
 * read. Which playbook is found by `find-playbook.ts`, what it is told is made by `event-variables.ts`; that nothing of
 * it is left behind is `run-program.ts`'s promise.
 */
import { writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import { findProgram, USUAL_PATH } from "../find-program.ts";
import { maskOf } from "../mask.ts";
import { type ProgramSpec, type ResourceLimits, runProgram } from "../run-program.ts";
import {
  type AnsibleOptions,
  ansibleArguments,
  ansibleEnvironment,
  prepareRunner,
  runnerArguments,
  secretsIn,
  VARIABLES,
} from "./ansible-command.ts";
import { eventVariables, type PlaybookEvent } from "./event-variables.ts";
import type { Playbook } from "./find-playbook.ts";
import { type HostStats, outputReader, type PlayEvent, runnerReader, type TaskEvent } from "./read-events.ts";

export interface PlaySpec extends AnsibleOptions {
  readonly playbook: Playbook;
  readonly event: PlaybookEvent;
  /** For what an error says to do next. */
  readonly runId: string;
  /** As `ProgramSpec` has them. */
  readonly root: string;
  readonly owner: string;
  readonly timeoutMs: number;
  readonly graceMs?: number;
  readonly limits?: ResourceLimits;
  /** For the playbook: credentials of clouds, proxies, ANSIBLE_COLLECTIONS_PATH … PATH too, if not the usual one. */
  readonly environment?: Readonly<Record<string, string>>;
  /** To be masked, besides what stands in the vault password file and in the private key. */
  readonly secrets?: readonly string[];
  /** The one that is installed, ansible-runner first, if absent. */
  readonly by?: "ansible-runner" | "ansible-playbook";
}

export interface PlayResult {
  readonly hosts: Readonly<Record<string, HostStats>>;
  /** Whether any task changed anything on any host. */
  readonly changed: boolean;
  /** Tasks that failed and did not count: ignored, or rescued. */
  readonly tolerated: readonly FailedTask[];
}

export interface FailedTask {
  readonly task: string;
  readonly host: string;
  readonly message: string;
}

/** Task lines of one play; a loop over thousands of hosts must not fill the database. */
const MOST_LINES = 10_000;
const MOST_MESSAGE = 2_000;
/** Last words of what failed outside of any task. */
const QUOTED = 5;

/**
 * Plays the playbook and waits for its end. Safe to repeat only if the playbook is: a repeated call runs it again, from
 * its beginning, after whatever an earlier call of the same owner left on this host was killed.
 *
 * Each task's result is a line of the log: `{ task, host, state, message }`.
 * @throws SlipwayError
 * `invalid` a task failed, or Ansible could not read the playbook · `unavailable` a host could not be reached, or the
 * timeout · `not-found` Ansible is not installed · `unauthenticated` a file of secrets cannot be read ·
 * `cancelled` · what `runProgram` throws besides
 */
export async function playEvent(spec: PlaySpec, ctx: CallContext): Promise<PlayResult> {
  const secrets = [...(spec.secrets ?? []), ...(await secretsIn(spec))];
  const story = openStory(maskOf(secrets), ctx);
  const program = await programOf(spec);
  const reader = program === "ansible-runner" ? runnerReader() : outputReader();
  const { code } = await runProgram(
    { ...(await commandOf(program, spec)), secrets },
    {
      ...ctx,
      line(stream, text) {
        if (stream === "stdout") story.tell(reader.line(text));
        else story.tell([{ kind: "text", text }]);
      },
    },
  );
  story.tell(reader.end());
  return story.end(code, spec);
}

async function programOf({ by, environment }: PlaySpec): Promise<"ansible-runner" | "ansible-playbook"> {
  if (by !== undefined) return by;
  const path = environment?.PATH ?? USUAL_PATH;
  // The runner calls ansible-playbook; without that, the error shall name the package that is missing.
  const both = (await findProgram("ansible-runner", path)) && (await findProgram("ansible-playbook", path));
  return both ? "ansible-runner" : "ansible-playbook";
}

async function commandOf(program: "ansible-runner" | "ansible-playbook", spec: PlaySpec): Promise<ProgramSpec> {
  const { playbook, root, owner, timeoutMs, graceMs, limits } = spec;
  const variables = eventVariables(spec.event);
  const isRunner = program === "ansible-runner";
  return {
    ...{ root, owner, timeoutMs, accept: "any" },
    ...(graceMs === undefined ? {} : { graceMs }),
    ...(limits === undefined ? {} : { limits }),
    argv: (place) =>
      isRunner
        ? [program, ...runnerArguments(playbook, place)]
        : [program, ...ansibleArguments(spec, place), "--", basename(playbook.file)],
    async prepare(place) {
      await writeFile(join(place.work, VARIABLES), variables, { mode: 0o600 });
      if (isRunner) await prepareRunner(spec, place);
    },
    // As if somebody had called it there by hand: neighbours are found, relative paths mean what they say.
    cwd: dirname(playbook.file),
    environment: { ...(await ansibleEnvironment(playbook)), ...spec.environment },
    // An event of the runner is one line, whatever the task printed. Told lines are counted below.
    lines: { perLine: 4 * MiB, total: Number.POSITIVE_INFINITY },
  };
}

/** Collects what happened and tells it to the log. */
function openStory(mask: (text: string) => string, { log }: CallContext) {
  let hosts: Readonly<Record<string, HostStats>> = {};
  const failures: TaskEvent[] = [];
  const said: string[] = [];
  let lines = 0;

  const short = (text: string) => {
    const masked = mask(text);
    return masked.length > MOST_MESSAGE ? `${masked.slice(0, MOST_MESSAGE)} [cut]` : masked;
  };

  function tellOne(event: PlayEvent): void {
    if (event.kind === "stats") {
      hosts = Object.fromEntries(Object.entries(event.hosts).map(([host, stats]) => [mask(host), stats]));
      return;
    }
    if (++lines === MOST_LINES) log.warn("the playbook says too much, only failures are told from here", { lines });
    if (event.kind === "text") {
      const text = short(event.text);
      if (said.push(text) > QUOTED) said.shift();
      if (lines < MOST_LINES) log.info("ansible says", { text });
      return;
    }
    const { state, item, ignored } = event;
    const one = { ...event, task: short(event.task), host: mask(event.host), message: short(event.message) };
    const { task, host, message } = one;
    const fields = { task, host, state, message, ...(ignored ? { ignored } : {}) };
    const isBad = state === "failed" || state === "unreachable";
    if (isBad && !item && failures.push(one) > MOST_LINES) failures.shift();
    if (isBad && !ignored) log.warn("a task failed", fields);
    else if (lines >= MOST_LINES) return;
    else if (item) log.debug("a turn of a task", fields);
    else log.info("a task", fields);
  }

  return {
    tell: (events: readonly PlayEvent[]) => events.forEach(tellOne),
    end(code: number, { playbook, runId }: PlaySpec): PlayResult {
      const lost = (host: string) => (hosts[host]?.failed ?? 0) > 0 || (hosts[host]?.unreachable ?? 0) > 0;
      log.info("the playbook has ended", { playbook: playbook.name, code, hosts });
      if (code !== 0)
        throw failure(
          playbook,
          runId,
          code,
          failures.filter((one) => !one.ignored),
          said,
        );
      if (Object.keys(hosts).length === 0) log.warn("the playbook met no host", { playbook: playbook.name });
      return {
        hosts,
        changed: Object.values(hosts).some(({ changed }) => changed > 0),
        tolerated: failures
          .filter(({ host }) => !lost(host))
          .map(({ task, host, message }) => ({ task, host, message })),
      };
    },
  };
}

function failure(
  playbook: Playbook,
  runId: string,
  code: number,
  failures: readonly TaskEvent[],
  said: readonly string[],
): SlipwayError {
  const details = { subject: playbook.name, next: `slipway runs logs ${runId}` };
  // A rescued failure may come before the one that counts, so the last one is named.
  const last = failures.at(-1);
  if (last === undefined) {
    const why = said.length === 0 ? "" : `: ${said.join(" / ").slice(0, MOST_MESSAGE)}`;
    return new SlipwayError(
      "invalid",
      `the playbook ${playbook.name} could not be run (exit code ${code})${why}`,
      details,
    );
  }
  const more = failures.length === 1 ? "" : ` (and ${failures.length - 1} more)`;
  const where = `the task "${last.task}" on ${last.host}${more}`;
  if (last.state === "unreachable") {
    const message = `the playbook ${playbook.name} could not reach ${last.host}: ${last.message}`;
    return new SlipwayError("unavailable", message, details);
  }
  return new SlipwayError("invalid", `the playbook ${playbook.name} failed at ${where}: ${last.message}`, details);
}
