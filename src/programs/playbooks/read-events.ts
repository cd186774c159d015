/**
 * What Ansible says while it runs, read from either of its two voices: ansible-runner's events (JSON, one a line), or
 * what ansible-playbook prints for people. Pure; both give the same `PlayEvent`s.
 */
export type TaskState = "ok" | "changed" | "failed" | "skipped" | "unreachable";

export interface TaskEvent {
  readonly kind: "task";
  readonly task: string;
  readonly host: string;
  readonly state: TaskState;
  /** What the module says; what a task with `no_log` says is never here. */
  readonly message: string;
  /** One turn of a loop, which has an event of its own at its end. */
  readonly item?: true;
  /** Failed, and the playbook goes on: `ignore_errors`. */
  readonly ignored?: true;
}

/** How often each, by host. */
export interface HostStats {
  readonly ok: number;
  readonly changed: number;
  readonly unreachable: number;
  readonly failed: number;
  readonly skipped: number;
  readonly rescued: number;
  readonly ignored: number;
}

export type PlayEvent =
  | TaskEvent
  | { readonly kind: "stats"; readonly hosts: Readonly<Record<string, HostStats>> }
  /** Anything else it says: warnings, errors outside of tasks. */
  | { readonly kind: "text"; readonly text: string };

export interface EventReader {
  line(text: string): PlayEvent[];
  end(): PlayEvent[];
}

const HIDDEN = "hidden by no_log";

// ansible-runner

const STATES: Readonly<Record<string, TaskState>> = {
  runner_on_ok: "ok",
  runner_on_failed: "failed",
  runner_on_skipped: "skipped",
  runner_on_unreachable: "unreachable",
  runner_item_on_ok: "ok",
  runner_item_on_failed: "failed",
  runner_item_on_skipped: "skipped",
};

/** Of `ansible-runner run --json`. What is no event is text. */
export function runnerReader(): EventReader {
  return {
    line(text) {
      const event = parsed(text);
      if (event === undefined || typeof event.event !== "string") return textOf(text);
      const data = recordOf(event.event_data);
      const state = STATES[event.event];
      if (state !== undefined) return [taskOf(state, event.event, data)];
      if (event.event === "playbook_on_stats") return [statsOf(data)];
      if (event.event === "playbook_on_no_hosts_matched") return textOf("no hosts matched");
      // Everything else that prints without a task: warnings, errors of loading.
      const isTalk = /^(verbose|warning|error|system_warning|deprecated)$/.test(event.event);
      return isTalk && typeof event.stdout === "string" ? textOf(plain(event.stdout)) : [];
    },
    end: () => [],
  };
}

function taskOf(state: TaskState, name: string, data: Record<string, unknown>): TaskEvent {
  const result = recordOf(data.res);
  const isItem = name.startsWith("runner_item_");
  return {
    kind: "task",
    task: String(data.task ?? "").trim(),
    host: String(data.host ?? ""),
    state: state === "ok" && result.changed === true ? "changed" : state,
    message: messageOf(result),
    ...(isItem ? { item: true } : {}),
    ...(data.ignore_errors === true && state === "failed" ? { ignored: true } : {}),
  };
}

const COUNTS = ["ok", "changed", "skipped", "rescued", "ignored"] as const;

function statsOf(data: Record<string, unknown>): PlayEvent {
  const count = (field: string, host: string) => Number(recordOf(data[field])[host] ?? 0);
  const hosts = [...COUNTS, "dark", "failures", "processed"].flatMap((field) => Object.keys(recordOf(data[field])));
  const stats = [...new Set(hosts)].sort().map((host): [string, HostStats] => {
    const counts = Object.fromEntries(COUNTS.map((field) => [field, count(field, host)])) as Record<
      (typeof COUNTS)[number],
      number
    >;
    return [host, { ...counts, unreachable: count("dark", host), failed: count("failures", host) }];
  });
  return { kind: "stats", hosts: Object.fromEntries(stats) };
}

// ansible-playbook

const TASK = /^(?:TASK|RUNNING HANDLER) \[(.*)\] \**$/;
const RESULT =
  /^(ok|changed|skipping|failed|fatal): \[(.+?)\](?:: ([A-Z]+)!)?(?:(?: =>)? \(item=(.*?)\))?(?: => (.*))?$/;
const RECAP =
  /^(\S.*?) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)(?: +skipped=(\d+) +rescued=(\d+) +ignored=(\d+))?/;

/** Of ansible-playbook's standard output with the callback `default` and no colours. */
export function outputReader(): EventReader {
  let task = "";
  let inRecap = false;
  const hosts: Record<string, HostStats> = {};
  // What follows tells whether a failure counts, and the rest of a result that goes over several lines.
  let held: { event: TaskEvent; more: string[] } | undefined;

  function release(ignored = false): PlayEvent[] {
    if (held === undefined) return [];
    const { event, more } = held;
    held = undefined;
    const message = more.length === 0 ? event.message : messageOf(recordOf(parsed(more.join("\n")))) || event.message;
    return [{ ...event, message, ...(ignored ? { ignored: true as const } : {}) }];
  }

  function line(text: string): PlayEvent[] {
    if (text === "...ignoring") return release(true);
    // Where a result goes on, it is indented, up to a bracket alone.
    if (held !== undefined && held.more.length > 0 && /^(\s|[}\]])/.test(text)) {
      held.more.push(text);
      return [];
    }
    const before = release();
    const title = TASK.exec(text);
    if (title !== null) task = title[1]!;
    if (/^PLAY RECAP \**$/.test(text)) inRecap = true;
    if (title !== null || /^PLAY /.test(text) || text === "") return before;

    const counts = inRecap ? RECAP.exec(text) : null;
    if (counts !== null) {
      const [ok, changed, unreachable, failed, skipped, rescued, ignored] = counts.slice(2).map((n) => Number(n ?? 0));
      hosts[counts[1]!] = {
        ...{ ok: ok!, changed: changed!, unreachable: unreachable!, failed: failed! },
        ...{ skipped: skipped!, rescued: rescued!, ignored: ignored! },
      };
      return before;
    }
    const result = RESULT.exec(text);
    if (result === null) return [...before, ...textOf(text)];
    const [, word, host, loud, item, rest] = result;
    const event: TaskEvent = {
      ...{ kind: "task", task, host: host!.replace(/ -> .*/, "") },
      state: stateOf(word!, loud),
      // What goes on over several lines is not known yet.
      message: messageOf(recordOf(parsed(rest ?? ""))),
      ...(item === undefined ? {} : { item: true }),
    };
    held = { event, more: rest === "{" || rest === "[" ? [rest] : [] };
    return before;
  }

  return {
    line,
    end: () => [...release(), ...(inRecap ? [{ kind: "stats", hosts } satisfies PlayEvent] : [])],
  };
}

function stateOf(word: string, loud: string | undefined): TaskState {
  if (loud === "UNREACHABLE") return "unreachable";
  if (word === "skipping") return "skipped";
  return word === "ok" || word === "changed" ? word : "failed";
}

// both

/** The first of what a module says that says something. */
function messageOf(result: Record<string, unknown>): string {
  if ("censored" in result) return HIDDEN;
  for (const field of ["msg", "stderr", "module_stderr", "stdout", "module_stdout", "skip_reason", "reason"]) {
    const value = result[field];
    if (typeof value === "string" && value.trim() !== "" && !isEmptyPhrase(value, result)) return plain(value).trim();
    if (field === "msg" && value !== undefined && typeof value !== "string") return JSON.stringify(value);
  }
  return typeof result.msg === "string" ? result.msg : "";
}

/** What says less than the fields after it. */
function isEmptyPhrase(text: string, { stderr, stdout }: Record<string, unknown>): boolean {
  return text === "non-zero return code" && Boolean(stderr || stdout);
}

function textOf(text: string): PlayEvent[] {
  return text.trim() === "" ? [] : [{ kind: "text", text: text.trim() }];
}

function plain(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return text.replace(/\u001b\[[0-9;]*m/g, "").replace(/[\0-\u0008\u000b-\u001f\u007f-\u009f]/g, "");
}

function parsed(text: string): Record<string, unknown> | undefined {
  if (!/^[{[]/.test(text)) return undefined;
  try {
    return recordOf(JSON.parse(text));
  } catch {
    return undefined;
  }
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
