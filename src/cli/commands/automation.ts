/** Automation users: asking for one, and what was done in their names. */
import { writeFile } from "node:fs/promises";
import { stringify } from "yaml";
import { reportOf, SlipwayError } from "../../lib/errors.ts";
import { NOBODY, type Played } from "../../workflows/index.ts";
import { EXIT, harmless, table } from "../output.ts";
import type { Session } from "../session.ts";
import { momentOf } from "./events.ts";

export interface RequestOptions {
  readonly purpose: string;
  readonly hosts: readonly string[];
  readonly playbooks: readonly string[];
  readonly commands: readonly string[];
  readonly account?: string;
  readonly out?: string;
}

const NAME = /^[a-z0-9][a-z0-9-]{0,39}$/;
const ACCOUNT = /^[a-z_][a-z0-9_-]{0,31}$/;
const HOST = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}$/;
const PLAYBOOK = /^[A-Za-z0-9_*][A-Za-z0-9_.*-]*(\/[A-Za-z0-9_*][A-Za-z0-9_.*-]*)*$/;
/** An absolute path and plain arguments: nothing that means something to sudoers or to a shell. */
const COMMAND = /^\/[A-Za-z0-9_./-]+( [A-Za-z0-9_./=:@%+-]+)*$/;

/** The form, complete enough to be reviewed and carried out without asking back. */
export async function request(session: Session, user: string, options: RequestOptions): Promise<number> {
  const account = options.account ?? `slipway_${user.replaceAll("-", "_")}`;
  check("automation user", user, NAME);
  check("account", account, ACCOUNT);
  for (const host of options.hosts) check("host", host, HOST);
  for (const playbook of options.playbooks) check("playbook", playbook, PLAYBOOK);
  for (const command of options.commands) check("command", command, COMMAND);
  const { automation } = await session.config();
  const known = Object.hasOwn(automation.users, user) ? automation.users[user] : undefined;
  const text = form(user, account, options, known);
  if (options.out !== undefined) {
    await writeFile(options.out, text);
    session.output.say(`${options.out} is to be reviewed.`);
  }
  session.output.data({ user, account, ...options, new: known === undefined, form: text }, () =>
    options.out === undefined ? text : "",
  );
  return EXIT.done;
}

function form(
  user: string,
  account: string,
  { purpose, hosts, playbooks, commands }: RequestOptions,
  known: { readonly hosts: readonly string[]; readonly playbooks: readonly string[] } | undefined,
): string {
  const line = purpose.replace(/\s+/g, " ").trim();
  const wanted = {
    ...{ purpose: line, account, key_file: `keys/${user}`, hosts: [...hosts], playbooks: [...playbooks] },
    ...(commands.length === 0 ? {} : { commands: [...commands], become: true }),
  };
  const added = (what: "hosts" | "playbooks", list: readonly string[]) =>
    known === undefined ? [] : list.filter((one) => !known[what].includes(one)).map((one) => `${what}: ${one}`);
  const more = [...added("hosts", hosts), ...added("playbooks", playbooks)];
  const sudoers =
    commands.length === 0
      ? ["No command needs sudo."]
      : [
          `On each host, as \`/etc/sudoers.d/${account}\`, checked by \`visudo -c\`:`,
          "",
          "```",
          ...commands.map((command) => `${account} ALL=(root) NOPASSWD: ${command.replace(/[=:,\\]/g, "\\$&")}`),
          "```",
        ];
  return [
    `# ${known === undefined ? "New" : "More for the"} automation user: ${user}`,
    "",
    "## Why",
    "",
    line,
    ...(known === undefined ? [] : ["", `It exists. New in this request: ${more.join(", ") || "nothing"}.`]),
    "",
    "## What it may do",
    "",
    "In slipway.yaml:",
    "",
    "```yaml",
    stringify({ automation: { users: { [user]: wanted } } }).trimEnd(),
    "```",
    "",
    "## On the hosts",
    "",
    ...hosts.map((host) => `* ${host}: account \`${account}\`, no password, login by key only`),
    "",
    ...sudoers,
    "",
    "The key, made where Slipway runs, its public half in the account's `authorized_keys`:",
    "",
    "```",
    `ssh-keygen -t ed25519 -N '' -C ${account} -f keys/${user}`,
    "```",
    "",
    "## To be checked",
    "",
    "* [ ] The purpose cannot be served by an account that exists.",
    "* [ ] Every playbook named was read: it does what the purpose says, and takes no authority from the event.",
    "* [ ] No command can be made to run another (editors, pagers, interpreters, wildcards).",
    "* [ ] The hosts are the fewest that serve.",
    "* [ ] The key is on no other machine.",
    "",
    `Afterwards: \`slipway automation audit --user ${user}\` shows what it does.`,
    "",
  ].join("\n");
}

function check(what: string, given: string, pattern: RegExp): void {
  if (pattern.test(given)) return;
  throw new SlipwayError(
    "invalid",
    `"${harmless(given).slice(0, 100)}" is not the name of ${what === "automation user" || what === "account" ? "an" : "a"} ${what}`,
    {
      next:
        what === "command" ? "Write an absolute path, with its arguments, without anything for a shell." : undefined,
    },
  );
}

export interface AuditOptions {
  readonly user?: string;
  readonly since?: string;
  readonly limit: string;
}

/** Newest first. What playbooks changed is in each run's log. */
export async function audit(session: Session, options: AuditOptions): Promise<number> {
  const engine = await session.engine("command");
  const limit = Math.min(1000, Number(options.limit) || 100);
  const since = options.since === undefined ? 0 : momentOf(options.since).getTime();
  const labels = { acts: "playbook", ...(options.user === undefined ? {} : { user: options.user }) };
  const runs = (await engine.list({ labels, limit })).filter(({ createdAt }) => createdAt >= since);
  const said = await Promise.all(
    runs.map(async (run) => {
      const outcome = run.state === "done" ? ((await engine.result(run.id)) as Played) : undefined;
      const error = run.state === "failed" ? await engine.result(run.id).catch(reportOf) : undefined;
      return {
        at: new Date(run.createdAt).toISOString(),
        user: run.labels.user === NOBODY ? null : (run.labels.user ?? null),
        rule: run.labels.rule ?? "",
        event: run.labels.event ?? "",
        run: run.id,
        state: run.state,
        ...(outcome === undefined
          ? {}
          : { playbook: outcome.playbook, account: outcome.as.remoteUser, hosts: Object.keys(outcome.hosts) }),
        ...(outcome === undefined ? {} : { changed: outcome.changed }),
        ...(error === undefined ? {} : { error }),
      };
    }),
  );
  session.output.data(said, (paint) =>
    said.length === 0
      ? "No playbook was run."
      : table(
          ["time", "user", "playbook", "hosts", "result", "rule", "event"],
          said.map((one) => [
            one.at.slice(0, 19).replace("T", " "),
            one.user ?? paint.dim("nobody"),
            harmless(one.playbook ?? ""),
            harmless((one.hosts ?? []).join(", ")).slice(0, 40),
            one.state === "failed"
              ? paint.bad("failed")
              : one.state === "done"
                ? paint.good(one.changed === true ? "changed" : "done")
                : paint.warn(one.state),
            one.rule,
            harmless(one.event),
          ]),
          paint,
        ),
  );
  return EXIT.done;
}
