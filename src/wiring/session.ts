/**
 * Opens what a command asks for, when it asks for it, and closes what was opened. Nothing else in Slipway knows how a
 * database, an engine, a cloud or a console comes to be.
 */
import { join, resolve } from "node:path";
import type { AlarmTables } from "../alarms/index.ts";
import { createOutput } from "../cli/output.ts";
import type { GlobalOptions } from "../cli/program.ts";
import type { Session } from "../cli/session.ts";
import type { Config, Environment } from "../config/index.ts";
import type { Database } from "../database/index.ts";
import type { Engine, EngineOptions } from "../durable/index.ts";
import type { Log } from "../lib/call.ts";
import type { PlanningServices, Playbooks, Services, Tables } from "../workflows/index.ts";
import type { Events } from "./events.ts";
import type { OpenTargets } from "./targets.ts";

export interface Surroundings {
  readonly environment: Environment;
  readonly version: string;
  readonly log: Log;
  readonly signal: AbortSignal;
  /** For tests, which kill the process at a step's boundary or cannot wait half a minute for a lease to end. */
  readonly engine?: Pick<EngineOptions<Services>, "crashPoint" | "leaseMs" | "hurry">;
}

export function createSession(options: GlobalOptions, around: Surroundings): Session {
  const { environment, log, signal } = around;
  const output = createOutput({
    json:
      options.output === "json" ||
      (options.output === undefined && !process.stdout.isTTY && environment.SLIPWAY_OUTPUT === "json"),
    stdout: process.stdout,
    stderr: process.stderr,
    colour: environment.NO_COLOR === undefined,
  });
  const call = { signal, log };
  const closers: (() => Promise<unknown>)[] = [];

  const config = lazily(async (): Promise<Config> => {
    const { loadConfig } = await import("../config/index.ts");
    const loaded = await loadConfig(options.config ?? environment.SLIPWAY_CONFIG, { env: environment });
    return options.dataDir === undefined ? loaded : { ...loaded, data_dir: resolve(options.dataDir) };
  });

  const targets = lazily(async (): Promise<OpenTargets> => {
    const [{ openTargets }, settings] = await Promise.all([import("./targets.ts"), config()]);
    const opened = openTargets(settings, environment);
    closers.push(() => opened.close());
    if (settings.shadow === undefined) return opened;
    return (await import("./shadow.ts")).withoutDrivers(opened);
  });

  const planning = lazily(async (): Promise<PlanningServices> => {
    const settings = await config();
    const { openReleases } = await import("./release-schedule.ts");
    const releases = await openReleases({ ...settings, data_dir: resolve(settings.data_dir) }, call);
    return {
      targets: await targets(),
      systems: Object.values(settings.systems),
      get releases() {
        return releases.current();
      },
      sources: { allowPrivate: settings.sources.allow_private },
      maxDiskBytes: settings.limits.max_disk_bytes,
      now: () => new Date(),
    };
  });

  const database = lazily(async (): Promise<Database> => {
    const [{ openDatabase }, { CATALOG_MIGRATIONS }, { BUS_MIGRATIONS }, { ALARM_MIGRATIONS }, { databaseUrl }] =
      await Promise.all([
        import("../database/index.ts"),
        import("../catalog/schema.ts"),
        import("../bus/schema.ts"),
        import("../alarms/schema.ts"),
        import("./database-url.ts"),
      ]);
    const settings = await config();
    const opened = await openDatabase({
      url: await databaseUrl(settings, environment),
      dataDir: resolve(settings.data_dir),
      log,
    });
    closers.push(() => opened.close());
    await opened.migrate("catalog", CATALOG_MIGRATIONS);
    await opened.migrate("bus", BUS_MIGRATIONS);
    await opened.migrate("alarms", ALARM_MIGRATIONS);
    return opened;
  });

  const services = lazily(async (): Promise<Services> => {
    const [plan, opened, settings, { openAttester }, { compiledRules }] = await Promise.all([
      planning(),
      database(),
      config(),
      import("./attester.ts"),
      import("../config/rules.ts"),
    ]);
    return {
      ...plan,
      // Spreading has read it once; a service that runs for months asks each time.
      get releases() {
        return plan.releases;
      },
      db: opened.kysely<Tables>(),
      attester: openAttester(settings, environment),
      messages: settings.bus && { topic: settings.bus.published_topic, fedimg: settings.bus.fedimg_messages },
      automation: {
        rules: compiledRules(settings),
        freeze: settings.freeze.map(({ from, until, reason, systems }) => ({
          ...{ from: Date.parse(from), until: Date.parse(until), reason, systems },
        })),
        playbooks: playbooksOf(settings, environment),
        shadow: settings.shadow,
        engine: () => engine ?? Promise.reject(new Error("events are acted on by a service")),
      },
    };
  });

  let engine: Promise<Engine<Services>> | undefined;
  async function openEngine(role: "command" | "service", queues?: readonly string[]): Promise<Engine<Services>> {
    const [{ openEngine: open }, workflows, settings] = await Promise.all([
      import("../durable/index.ts"),
      import("../workflows/index.ts"),
      config(),
    ]);
    if (role === "service" && settings.automation.playbooks !== undefined) {
      const { killLeftovers } = await import("../programs/private-place.ts");
      const { removed } = await killLeftovers(join(resolve(settings.data_dir), "run"));
      for (const { owner, killed } of removed) log.warn("a dead worker had left this behind", { owner, killed });
    }
    const { concurrency } = settings.limits;
    const shadow = settings.shadow === undefined ? undefined : await import("./shadow.ts");
    const listenQueues = shadow?.SHADOW_QUEUES ?? queues;
    const opened = await open<Services>({
      database: await database(),
      role,
      services: await services(),
      queues: workflows.QUEUES.map((name) => ({
        name,
        perWorker: name in concurrency ? concurrency[name as keyof typeof concurrency] : 8,
      })),
      ...(listenQueues === undefined ? {} : { listenQueues }),
      log,
      ...around.engine,
    });
    closers.push(() => opened.close());
    opened.register([workflows.releaseCompose, workflows.releaseDisk, workflows.releaseContainer]);
    opened.register([workflows.promoteImages, workflows.rollBackRelease, workflows.reconcileImages]);
    opened.register([workflows.attestImages, workflows.handleEvent]);
    await opened.launch();
    return shadow?.withoutReleases(opened) ?? opened;
  }

  let events: Events | undefined;
  const session: Session = {
    output,
    log,
    signal,
    call,
    version: around.version,
    config,
    planning,
    services,
    engine(role, queues) {
      engine ??= openEngine(role, queues);
      return engine;
    },
    async diagnose() {
      return (await import("./diagnose.ts")).diagnose({ config, planning, database, call });
    },
    async events(running) {
      const { openEvents } = await import("./events.ts");
      const opened = await openEvents({
        ...{ config: await config(), environment, database: await database(), engine: running },
        ...{ services: await services(), version: around.version, log },
      });
      events = opened;
      closers.push(() => opened.close());
      return opened;
    },
    async alarms() {
      const [{ openChannels }, settings, opened] = await Promise.all([import("./alarms.ts"), config(), database()]);
      const db = opened.kysely<AlarmTables>();
      return { db, channels: await openChannels(settings, environment, db) };
    },
    async console(running, listen) {
      const [{ openConsole }, settings] = await Promise.all([import("../console/index.ts"), config()]);
      const opened = await openConsole({
        engine: running,
        services: await services(),
        listen: listen ?? { host: "127.0.0.1", port: 8080 },
        version: around.version,
        log,
        systems: Object.keys(settings.systems),
        events,
      });
      closers.push(() => opened.close());
      return opened.url;
    },
    withConfig: (path) => {
      const other = createSession({ ...options, config: path }, around);
      closers.push(() => other.close());
      return other;
    },
    async close() {
      // In reverse: what was opened last stands on what was opened before.
      for (const close of closers.splice(0).reverse()) {
        await close().catch((error: unknown) => log.warn("could not close", { error: String(error) }));
      }
    },
  };
  return session;
}

/** Below a directory of their own, with a name that is short: sockets in it have at most 107 bytes of path. */
function playbooksOf(settings: Config, environment: Environment): Playbooks | undefined {
  const { playbooks, layout, inventory, vault_password_file, require_user, users, limits } = settings.automation;
  if (playbooks === undefined) return undefined;
  return {
    ...{ directory: playbooks, layout, inventory, vaultPasswordFile: vault_password_file },
    ...{ requireUser: require_user, users, root: join(resolve(settings.data_dir), "run"), path: environment.PATH },
    limits: {
      ...(limits.memory === undefined ? {} : { addressSpace: limits.memory }),
      ...(limits.cpu === undefined ? {} : { cpu: Math.ceil(limits.cpu / 1000) }),
      ...(limits.file_size === undefined ? {} : { fileBytes: limits.file_size }),
      ...(limits.open_files === undefined ? {} : { openFiles: limits.open_files }),
      nice: limits.nice,
    },
    runner: {
      play: async (spec, call) => (await import("../programs/playbooks/runner.ts")).onThisWorker.play(spec, call),
    },
    secret: async (ref) => (await import("../config/secrets.ts")).resolveSecret(ref, environment),
  };
}

function lazily<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return () => {
    made ??= make();
    return made;
  };
}
