/**
 * A stage for the stories: a real engine and database, a small compose in a directory, local clouds in the roles of
 * AWS accounts and a registry in memory. Every play has targets, a system and clouds of its own.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { createRegistrySimulator } from "../../../rehearsal/src/registry/index.ts";
import { makeSampleCompose, makeSampleDisk } from "../../../rehearsal/src/sample/index.ts";
import type { SigningKey } from "../../attestations/index.ts";
import { listMessages } from "../../bus/outbox.ts";
import { BUS_MIGRATIONS } from "../../bus/schema.ts";
import { listContainers, listImages } from "../../catalog/catalog.ts";
import { CATALOG_MIGRATIONS } from "../../catalog/schema.ts";
import { type Cloud, inProduction } from "../../clouds/index.ts";
import { openLocal } from "../../clouds/local/local.ts";
import type { OfferWhen, PlanTarget, System } from "../../compose/index.ts";
import { testDatabase } from "../../database/testing/postgres.ts";
import { type Engine, openEngine } from "../../durable/index.ts";
import { silent } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";
import type { Audience } from "../../model.ts";
import { openRegistry, type Registry } from "../../registries/index.ts";
import {
  type ActingRule,
  attestImages,
  type BytesWanted,
  type Choice,
  choose,
  type FreezeWindow,
  handleEvent,
  healOnce,
  type OfferOutcome,
  type OfferRequest,
  type Playbooks,
  promoteImages,
  QUEUES,
  reconcileImages,
  releaseCompose,
  releaseContainer,
  releaseDisk,
  rollBackRelease,
  type Services,
  type Shadow,
  startAttest,
  startOffer,
  startReconcile,
  startRelease,
  type Tables,
  verifyImages,
} from "../index.ts";

export const COMPOSE = "Fedora-43-20251021.0";
export const REGIONS = ["us-east-1", "eu-west-1", "ap-south-1"] as const;
export const IMAGE = "Cloud-x86_64-43-1.6";

export type Play = Awaited<ReturnType<Stage["play"]>>;
export type Stage = Awaited<ReturnType<typeof openStage>>;

/** What a play is made of. `one` and `two` are clouds with three regions, `quay` a registry. */
export interface PlayOptions {
  readonly to?: readonly ("one" | "two")[];
  readonly containers?: boolean;
  readonly offerWhen?: OfferWhen;
  readonly releaseAs?: "active" | "candidate";
  readonly audience?: Audience;
  /** Every region is written from the source. */
  readonly direct?: boolean;
  /** Changes the compose's images.json before anybody reads it. */
  readonly edit?: (images: string) => string;
}

export async function openStage() {
  const directory = await mkdtemp(join(tmpdir(), "slipway-stories-"));
  const disk = join(directory, "disk.raw");
  await makeSampleDisk(disk, 4 * MiB, MiB, "stories");
  const compose = await makeSampleCompose({ disk, out: directory, id: COMPOSE });
  const simulator = createRegistrySimulator();
  const server = createServer(simulator.handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const registryHost = `127.0.0.1:${(server.address() as AddressInfo).port}`;

  const database = await testDatabase();
  await database.migrate("catalog", CATALOG_MIGRATIONS);
  await database.migrate("bus", BUS_MIGRATIONS);
  const db = database.kysely<Tables>();

  const plan: Record<string, PlanTarget> = {};
  const systems: System[] = [];
  const clouds = new Map<string, () => Cloud>();
  const registries = new Map<string, () => Registry>();
  const audiences = new Map<string, Audience>();
  /** Targets that were opened, as often as somebody asked for one. */
  const opened: string[] = [];
  const signing: { key: SigningKey | undefined } = { key: undefined };
  const automation = {
    rules: [] as ActingRule[],
    freeze: [] as FreezeWindow[],
    playbooks: undefined as Playbooks | undefined,
    shadow: undefined as Shadow | undefined,
    engine: async () => engine,
  };
  const services: Services = {
    db,
    automation,
    attester: {
      signer: async () => signing.key,
      trusted: async () => (signing.key === undefined ? [] : [signing.key]),
    },
    systems,
    releases: { stable: [43], branched: [], rawhide: 44, end_of_life: {}, unknown_end_of_life_months: 13 },
    sources: { attempts: 1 },
    maxDiskBytes: 64 * MiB,
    now: () => new Date("2025-10-21T12:00:00Z"),
    targets: {
      plan,
      facts: (name) => ({
        name,
        cloud: registries.has(name) ? "registry" : "aws",
        audience: audiences.get(name) ?? { to: "public" },
        address: `registry.example/${name}`,
      }),
      cloud: async (name) => {
        opened.push(name);
        return (clouds.get(name) ?? missing(name))();
      },
      registry: async (name) => {
        opened.push(name);
        return (registries.get(name) ?? missing(name))();
      },
      uploading: (_targets, _call, body) => body(),
    },
  };

  async function begin(): Promise<Engine<Services>> {
    const begun = await openEngine<Services>({
      database,
      role: "service",
      services,
      queues: QUEUES.map((name) => ({ name, pollMs: 30, perWorker: 8 })),
      log: silent,
      hurry: 0.001,
    });
    begun.register([releaseCompose, releaseDisk, releaseContainer, handleEvent]);
    begun.register([promoteImages, rollBackRelease, reconcileImages, attestImages]);
    await begun.launch();
    return begun;
  }
  let engine = await begin();

  let plays = 0;
  async function play(options: PlayOptions = {}) {
    const system = `play-${++plays}`;
    const target = (role: string) => `${system}-${role}`;
    const faults: Record<string, (cloud: Cloud) => Cloud> = {};
    const home = join(directory, system);
    for (const role of options.to ?? []) {
      const local = inProduction(openLocal({ directory: join(home, role), regions: [...REGIONS] }));
      clouds.set(target(role), () => faults[role]?.(local) ?? local);
      audiences.set(target(role), options.audience ?? { to: "public" });
      plan[target(role)] = planTarget(target(role), "aws", REGIONS, !options.direct);
    }
    const bad: { registry?: (registry: Registry) => Registry } = {};
    if (options.containers) {
      const url = `http://${registryHost}/${system}`;
      const opened = openRegistry({ url, insecure: true, retryDelaysMs: [1], settleMs: 1 });
      registries.set(target("quay"), () => bad.registry?.(opened) ?? opened);
      plan[target("quay")] = planTarget(target("quay"), "registry", [url]);
    }
    systems.push(systemOf(system, options, target));
    let location = compose.directory;
    if (options.edit !== undefined) {
      location = join(home, "compose");
      await cp(compose.directory, location, { recursive: true });
      const path = join(location, "metadata/images.json");
      await writeFile(path, options.edit(await readFile(path, "utf8")));
    }
    const offerRuns: string[] = [];
    async function offer(requestOf: (choice: Choice) => OfferRequest): Promise<OfferOutcome> {
      const request = requestOf(await choose(db, [COMPOSE], { system }));
      const { runId, handle } = await startOffer(engine, request, COMPOSE);
      offerRuns.push(runId);
      return handle.result();
    }
    return {
      system,
      target,
      /** Directory of the compose. */
      location,
      /** Set a function to make that cloud, or the registry, fail or lie; delete it to heal. */
      faults,
      bad,
      cloud: (role: string) => clouds.get(target(role))!(),
      registry: () => registries.get(target("quay"))!(),
      async release(force = false, as?: "candidate") {
        const only = as === undefined ? {} : { as };
        const request = { location: pathToFileURL(location).href, composeId: COMPOSE, system, ...only };
        const started = await startRelease(engine, request, { force });
        return { ...started, outcome: await started.handle.result() };
      },
      /** Of everything the system has of the compose. */
      promote: (allowMissing = false) => offer((choice) => ({ verb: "promote", choice, allowMissing })),
      rollBack: (to: "candidate" | "deprecated" = "candidate") => offer((choice) => ({ verb: "rollback", choice, to })),
      async reconcile() {
        const choice = await choose(db, [COMPOSE], { system });
        const { runId, handle } = await startReconcile(engine, choice, { strays: true, title: "reconcile" });
        offerRuns.push(runId);
        return handle.result();
      },
      async attest() {
        const choice = await choose(db, [COMPOSE], { system });
        return (await startAttest(engine, services, choice, COMPOSE)).handle.result();
      },
      async verify(bytes?: BytesWanted) {
        const choice = await choose(db, [COMPOSE], { system });
        return verifyImages(services, choice, { bytes }, { log: silent, signal: AbortSignal.timeout(60_000) });
      },
      /** What a service does on its schedule. */
      async heal(period: number) {
        const runId = await healOnce(engine, db, { now: period, everyMs: 1 });
        if (runId !== undefined) offerRuns.push(runId);
        return runId === undefined ? undefined : engine.result(runId);
      },
      /** What promotions and rollbacks of it said. */
      async offers() {
        const all = await listMessages(db, { limit: 1000 });
        return all.filter((message) => offerRuns.includes(message.runId ?? ""));
      },
      images: () => listImages(db, { system }),
      containers: () => listContainers(db, { system }),
      async messages() {
        const all = await listMessages(db, { limit: 1000 });
        return all.filter((message) => message.runId?.startsWith(`${COMPOSE}.${system}.`)).reverse();
      },
      steps: (runId: string) => engine.steps(runId, { tree: true }),
    };
  }

  return {
    get engine() {
      return engine;
    },
    /** The service stops where it is, and another one begins. */
    async restart() {
      await engine.close();
      engine = await begin();
    },
    opened,
    services,
    /** Set rules and freeze windows here. */
    automation,
    database,
    /** Set a key to have what is released attested. */
    signing,
    directory,
    play,
    async close() {
      await engine.close();
      await database.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function planTarget(name: string, cloud: PlanTarget["cloud"], regions: readonly string[], copies = true): PlanTarget {
  return { name, cloud, enabled: true, home_region: regions[0]!, regions, copies };
}

function systemOf(name: string, options: PlayOptions, target: (role: string) => string): System {
  const image = {
    select: { type: ["raw-xz"], arch: ["x86_64"] },
    to: (options.to ?? []).map(target),
    name: "Cloud-{arch}-{version}-{build}",
    version: "",
    description: "A small disk for {arch}",
    offer_when: options.offerWhen ?? "all",
    release_as: options.releaseAs ?? "active",
    required_arches: [],
  } as const;
  const container = {
    select: { type: ["container"] },
    to: [target("quay")],
    repositories: { Container_Base: "fedora" },
    version_tag: "{number}.{date}.{respin}",
    tags: [{ tags: ["{number}", "latest"] }],
    release_as: options.releaseAs ?? "active",
    required_arches: [],
  } as const;
  return {
    name,
    composes: { short: ["Fedora"] },
    channels: [],
    images: image.to.length > 0 ? [image] : [],
    containers: options.containers ? [container] : [],
  };
}

function missing(name: string): never {
  throw new SlipwayError("not-found", `no target is called ${name}`);
}
