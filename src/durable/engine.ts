import { createHash, randomBytes } from "node:crypto";
import { hostname } from "node:os";
import type pg from "pg";
import { databaseError, isAlive, thisHost } from "../database/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import { seconds } from "../lib/units.ts";
import { AttemptStore } from "./attempts.ts";
import { Changes, watchRun } from "./changes.ts";
import { APPLICATION, DBOS, DBOSClient, ensureTables, FORM_URL, quietLogger, stopDequeuing } from "./dbos.ts";
import { cancelledError, errorOfRun, plain } from "./errors.ts";
import { Executions } from "./executions.ts";
import { hasEnded, listRuns, readRun, readRuns, readSteps, readTree } from "./history.ts";
import { Lease } from "./lease.ts";
import { LogWriter, readLogs } from "./log-store.ts";
import { CHANGES, migrations } from "./migrations.ts";
import { oneAtATime } from "./one-at-a-time.ts";
import { Room } from "./room.ts";
import { type Registered, runWorkflow, startError, type Workshop } from "./run-workflow.ts";
import type { Engine, EngineOptions, QueueOptions, RunHandle, StartOptions, WorkflowDefinition } from "./types.ts";

/** With the looks between, a dead worker's runs go on elsewhere within 30 s; half of it is as long as a database may blink. */
const DEFAULT_LEASE_MS = seconds(24);
/** Parts of a lease after which the others are looked at. */
const LOOKS_PER_LEASE = 8;
const SERVICE_POLL_MS = 250;
const COMMAND_POLL_MS = 100;
const DBOS_CONNECTIONS = 10;
const FORGET_AT_ONCE = 200;
// Ids end up in keys, file names and URLs.
const RUN_ID = /^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,199}$/;

type AnyWorkflow<S> = WorkflowDefinition<never, unknown, S>;

/** What is there only while this process carries out runs itself. */
interface Working {
  readonly lease: Lease;
  readonly executions: Executions;
  readonly logs: LogWriter;
  readonly pools: readonly pg.Pool[];
}

/**
 * Makes the tables and an engine that does not work yet: register the workflows, then `launch`. Reading, starting and
 * cancelling need no launch. One engine per process, for DBOS is one per process.
 * @throws SlipwayError what the database says
 */
export async function openEngine<S>(options: EngineOptions<S>): Promise<Engine<S>> {
  const { database, role, log, leaseMs = DEFAULT_LEASE_MS } = options;
  const { pool } = database;
  const executorId = options.executorId ?? `${hostname()}-${process.pid}-${randomBytes(4).toString("hex")}`;
  const workflows = new Map<string, AnyWorkflow<S>>();
  const changes = new Changes(database);
  const room = new Room(log);
  let version = "";
  let working: Working | undefined;
  let beginning: Promise<void> | undefined;
  let minder: NodeJS.Timeout | undefined;
  let suspects: ReadonlyMap<string, string> = new Map();
  let orphansAt = performance.now();
  let closing: Promise<void> | undefined;

  await database.migrate("durable", migrations);
  await oneAtATime(pool, "tables of the engine", () => ensureTables(pool, log)).catch((error) => {
    throw databaseError(error, "tables of the engine");
  });
  const client = await DBOSClient.create({
    systemDatabaseUrl: FORM_URL,
    systemDatabasePool: pool,
    applicationName: APPLICATION,
    logger: quietLogger(log),
  });

  /** Runs are worked on by executors that know the same workflows in the same versions. */
  function versionOfAll(): string {
    const names = [...workflows.values()].map((workflow) => `${workflow.name}@${workflow.version ?? 1}`).sort();
    return createHash("sha256").update(names.join(" ")).digest("hex").slice(0, 16);
  }

  async function serviceIsUp(): Promise<boolean> {
    const { rows } = await pool.query<{ host: string; pid: number; process_started: string }>(
      `SELECT host, pid, process_started FROM executors
       WHERE role = 'service' AND version = $1 AND ended_at IS NULL AND expires_at > clock_timestamp()`,
      [version],
    );
    const here = thisHost();
    return rows.some((row) => row.host !== here || isAlive({ pid: row.pid, started: row.process_started }));
  }

  async function beginWorking(): Promise<void> {
    const executions = new Executions();
    const control = database.newPool(2, Math.max(1000, leaseMs / 4));
    const own = database.newPool(DBOS_CONNECTIONS);
    const lease = new Lease({
      pool: control,
      executor: executorId,
      role,
      version,
      leaseMs,
      log,
      room,
      onLost: () => executions.stopAll("this process lost its lease"),
    });
    const logs = new LogWriter(pool, executorId, lease, options.mask ?? ((text) => text));
    const registered = new Map<string, Registered>();
    const shop: Workshop<S> = {
      pool,
      executor: executorId,
      executions,
      room,
      services: options.services,
      lease,
      logs,
      attempts: new AttemptStore(pool, executorId, lease, room),
      mask: options.mask ?? ((text) => text),
      crashPoint: options.crashPoint ?? (() => {}),
      hurry: options.hurry ?? 1,
      registered: (name) => {
        const found = registered.get(name);
        if (!found) throw notRegistered(name);
        return found;
      },
      recordChild: (parent, workflow, child) => {
        return recordRun(pool, workflow, child, parent.run, parent.root).then(() => {});
      },
    };
    for (const [name, workflow] of workflows) {
      const wrapped = (input: unknown) => runWorkflow(shop, workflow, input as never);
      registered.set(name, DBOS.registerWorkflow(wrapped, { name }));
    }
    DBOS.setConfig({
      name: APPLICATION,
      systemDatabaseUrl: FORM_URL,
      systemDatabasePool: own,
      useListenNotify: false,
      executorID: executorId,
      applicationVersion: version,
      logger: quietLogger(log, (said) => room.notice(said)),
      ...(options.listenQueues ? { listenQueues: [...options.listenQueues] } : {}),
    });
    const begun: Working = { lease, executions, logs, pools: [own, control] };
    try {
      // The lease first: from the launch on, runs are taken from the queues in this executor's name.
      await lease.start();
      // A queue that is there at the launch is looked at from then on; a later one is noticed within a second.
      for (const queue of options.queues) await registerQueue(queue);
      await DBOS.launch();
      changes.onChange((root) => void stopCancelled(root));
      await changes.open();
      await lease.sweep();
    } catch (error) {
      await stopWorking(begun, 0).catch(() => {});
      throw databaseError(error, "engine");
    }
    working = begun;
  }

  async function registerQueue(queue: QueueOptions): Promise<void> {
    await client.registerQueue(queue.name, {
      ...(queue.perWorker === undefined ? {} : { workerConcurrency: queue.perWorker }),
      ...(queue.global === undefined ? {} : { globalConcurrency: queue.global }),
      minPollingIntervalMs: queue.pollMs ?? (role === "service" ? SERVICE_POLL_MS : COMMAND_POLL_MS),
      onConflict: "always_update",
    });
  }

  /** Aborts what was cancelled by another process, or here. */
  async function stopCancelled(root?: string): Promise<void> {
    const running = working?.executions.running(root || undefined) ?? [];
    if (running.length === 0) return;
    const { rows } = await pool
      .query<{ id: string }>(
        "SELECT workflow_uuid AS id FROM dbos.workflow_status WHERE workflow_uuid = ANY($1) AND status = 'CANCELLED'",
        [running],
      )
      .catch(() => ({ rows: [] }));
    for (const { id } of rows) working?.executions.stop(id, cancelledError(id));
  }

  /**
   * Puts back what DBOS holds for being worked on here and nobody works on: a checkpoint that was written while its
   * connection broke looks, when it is written again, like somebody else's, and the run is left. Twice seen is sure: a
   * run is not among the executions for the moment in which it begins, and for the one in which its end is written.
   */
  async function rescueOrphans({ executions }: Working): Promise<void> {
    const { rows } = await pool.query<{ id: string; telling: string; queue: string }>(
      `SELECT w.workflow_uuid AS id, w.owner_xid || ' ' || w.updated_at AS telling, r.queue
       FROM dbos.workflow_status w JOIN runs r ON r.id = w.workflow_uuid
       WHERE w.executor_id = $1 AND w.status = 'PENDING'`,
      [executorId],
    );
    const here = new Set(executions.running());
    const left = rows.filter(({ id }) => !here.has(id));
    for (const { id, telling, queue } of left) {
      if (suspects.get(id) !== telling) continue;
      log.warn("a run was left by whoever worked on it, and is put back", { run: id });
      await client.resumeWorkflow(id, { queueName: queue });
    }
    suspects = new Map(left.map(({ id, telling }) => [id, telling]));
  }

  /** Looks after what is due several times in a lease: executors that are gone, a service that is gone, missed cancels, orphans. */
  async function mind(): Promise<void> {
    try {
      if (working) {
        await working.lease.sweep();
        await stopCancelled();
        // A run's begin and end take their time, where the database is slow: two looks at those are half a lease apart.
        if (performance.now() - orphansAt > leaseMs / 2) {
          orphansAt = performance.now();
          await rescueOrphans(working);
        }
      } else if (!(await serviceIsUp())) {
        log.info("no service is up any more: this command goes on itself");
        beginning = beginWorking();
        await beginning;
      }
    } catch (error) {
      log.debug("could not look after other executors", { error: databaseError(error).message });
    } finally {
      if (!closing) minder = setTimeout(() => void mind(), leaseMs / LOOKS_PER_LEASE).unref();
    }
  }

  function notRegistered(name: string): SlipwayError {
    return new SlipwayError("invalid", "this workflow was not registered", { subject: name });
  }

  async function waitFor(runId: string, signal?: AbortSignal): Promise<unknown> {
    const { root } = await readRun(pool, runId);
    const run = await changes.until(root, signal, async () => {
      // A person waits: nothing will go on until they have made room.
      const full = room.isMissing() || database.trouble()?.code === "disk-full";
      if (role === "command" && full) throw room.error();
      const view = await readRun(pool, runId);
      return hasEnded(view) ? view : undefined;
    });
    if (run.state === "cancelled") throw cancelledError(runId);
    try {
      return await client.retrieveWorkflow(runId).getResult();
    } catch (error) {
      throw errorOfRun(run.error ? { report: run.error } : error, runId);
    }
  }

  return {
    executorId,
    get working() {
      return working !== undefined;
    },

    register(added) {
      for (const workflow of added) workflows.set(workflow.name, workflow);
      version = versionOfAll();
    },

    async launch() {
      if (role === "service" || !(await serviceIsUp())) {
        beginning = beginWorking();
        await beginning;
      } else await changes.open();
      minder = setTimeout(() => void mind(), leaseMs / LOOKS_PER_LEASE).unref();
    },

    async start<I, O>(workflow: WorkflowDefinition<I, O, S>, input: I, start: StartOptions): Promise<RunHandle<O>> {
      if (!workflows.has(workflow.name)) throw notRegistered(workflow.name);
      const connection = await pool.connect();
      try {
        await connection.query("BEGIN");
        await recordRun(connection, workflow.name, start);
        const enqueue = {
          workflowName: workflow.name,
          workflowID: start.runId,
          queueName: start.queue,
          appVersion: version,
        };
        await client.enqueueInTransaction(connection, enqueue, plain(input));
        await connection.query("SELECT pg_notify($1, $2)", [CHANGES, start.runId]);
        await connection.query("COMMIT");
      } catch (error) {
        await connection.query("ROLLBACK").catch(() => {});
        throw startError(error, start.runId);
      } finally {
        connection.release();
      }
      return { runId: start.runId, result: async () => (await waitFor(start.runId)) as O };
    },

    status: (runId) => readRun(pool, runId),
    result: (runId, wait = {}) => waitFor(runId, wait.signal),
    list: (query = {}) => listRuns(pool, query),

    async steps(runId, { tree = false } = {}) {
      await readRun(pool, runId);
      return readSteps(pool, tree ? await readTree(pool, runId) : [runId]);
    },

    async logs(runId, { after, tree = false } = {}) {
      await readRun(pool, runId);
      await working?.logs.flush();
      return readLogs(pool, tree ? await readTree(pool, runId) : [runId], after);
    },

    async watch(runId, onEvent, watch = {}) {
      await watchRun(pool, changes, await readRun(pool, runId), onEvent, watch);
    },

    async cancel(runId) {
      const { root } = await readRun(pool, runId);
      // Children that wait in `runs` for their parent to enqueue them are not DBOS's yet; the parent, stopped, never will.
      await client.cancelWorkflow(runId, { cancelChildren: true });
      await pool.query("SELECT pg_notify($1, $2)", [CHANGES, root]);
    },

    async resume(runId) {
      const { root } = await readRun(pool, runId);
      const connection = await pool.connect();
      try {
        // One at a time: a second resume must see that the first one's run is waiting or running, for to resume a
        // running one would double it.
        await connection.query("SELECT pg_advisory_lock(hashtextextended($1, 0))", [`slipway resume ${root}`]);
        const runs = await readRuns(pool, await readTree(pool, runId));
        // Children first: a parent that goes on must not find its child still cancelled.
        for (const run of runs.reverse()) {
          if (run.state === "cancelled") await client.resumeWorkflow(run.id, { queueName: run.queue });
        }
      } finally {
        await connection.query("SELECT pg_advisory_unlock_all()").catch(() => {});
        connection.release();
      }
      await pool.query("SELECT pg_notify($1, $2)", [CHANGES, root]);
    },

    async forget(endedBefore) {
      await pool.query("DELETE FROM executors WHERE ended_at < to_timestamp($1::float8 / 1000)", [endedBefore]);
      let forgotten = 0;
      for (;;) {
        const { rows } = await pool.query<{ ids: string[] }>(
          `SELECT array_agg(r.id) AS ids FROM runs r LEFT JOIN dbos.workflow_status w ON w.workflow_uuid = r.id
           GROUP BY r.root
           HAVING bool_and(w.status IN ('SUCCESS', 'ERROR', 'CANCELLED', 'MAX_RECOVERY_ATTEMPTS_EXCEEDED')
             AND w.updated_at < $1) LIMIT $2`,
          [Math.floor(endedBefore), FORGET_AT_ONCE],
        );
        if (rows.length === 0) return forgotten;
        const ids = rows.flatMap((row) => row.ids);
        await client.deleteWorkflows(ids);
        await pool.query("DELETE FROM runs WHERE id = ANY($1)", [ids]);
        forgotten += ids.length;
      }
    },

    close({ drainMs = 0 } = {}) {
      closing ??= (async () => {
        clearTimeout(minder);
        await beginning?.catch(() => {});
        if (working) await stopWorking(working, drainMs);
        await changes.close();
        await client.destroy();
      })();
      return closing;
    },
  };
}

async function stopWorking({ lease, executions, logs, pools }: Working, drainMs: number): Promise<void> {
  await stopDequeuing().catch(() => {});
  if (drainMs > 0) await executions.drained(drainMs);
  await executions.stopAll("this process is shutting down");
  await logs.flush();
  // Without a database nobody can be told; the lease runs out by itself.
  await lease.end().catch(() => {});
  await DBOS.shutdown({ deregister: true }).catch(() => {});
  const ended = Promise.all(pools.map((pool) => pool.end()));
  const late = new Promise((resolve) => setTimeout(resolve, 5000).unref());
  await Promise.race([ended, late]);
}

/** @throws SlipwayError `invalid` for an id that cannot be one */
async function recordRun(
  on: pg.Pool | pg.PoolClient,
  workflow: string,
  options: StartOptions,
  parent?: string,
  root?: string,
): Promise<void> {
  if (!RUN_ID.test(options.runId)) {
    throw new SlipwayError("invalid", "a run's id has 1 to 200 letters, digits and . _ : @ + -", {
      subject: options.runId.slice(0, 200),
    });
  }
  await on.query(
    `INSERT INTO runs (id, workflow, title, labels, parent, root, queue) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (id) DO NOTHING`,
    [
      options.runId,
      workflow,
      options.title ?? workflow,
      JSON.stringify(options.labels ?? {}),
      parent ?? null,
      root ?? options.runId,
      options.queue,
    ],
  );
}
