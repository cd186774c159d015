/**
 * Azure, pretended: Entra ID, Blob Storage (page blobs) and the Compute gallery, as far as publishing an image needs
 * them. Keeps state and speaks the vendor's protocol; slowness and faults belong to the proxy in front, except what is
 * Azure's own business: how long an import and a replication take, and a region that is down.
 *
 * Start reading here, then `authority.ts`, `blob-service.ts`, `management.ts`. What is known to differ from the real
 * service is listed in `docs/rehearsal-azure.md`.
 */
import type http from "node:http";
import type { Simulator } from "../simulator.ts";
import { ArmError, armErrorAnswer } from "./arm-error.ts";
import { createAuthority, isAuthorityPath } from "./authority.ts";
import { createBlobService } from "./blob-service.ts";
import { type Blob, BlobStore, type PageWrite } from "./blob-store.ts";
import { type Answer, BodyTooLarge, type Exchange, readExchange, send } from "./exchange.ts";
import { putGallery, shareGallery } from "./galleries.ts";
import {
  type ComputeState,
  type Definition,
  findDefinition,
  findVersion,
  type Gallery,
  type RegionOutage,
  settle,
  type Version,
} from "./gallery-state.ts";
import { createManagement } from "./management.ts";
import { regionName } from "./regions.ts";
import { refusals, storageErrorAnswer } from "./storage-error.ts";
import { createTokenMint } from "./tokens.ts";
import { latestVersion } from "./version-view.ts";

export interface AzureOptions {
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly subscriptionId: string;
  /** Somebody of another tenant, with a subscription of their own and no rights in this one. */
  readonly outsider?: AzureOutsider;
  readonly resourceGroup: string;
  readonly storageAccount: string;
  /** Of the storage account and the resource group. Default eastus. */
  readonly location?: string;
  /** Base64. Default: a fixed one. */
  readonly accountKey?: string;
  /** Containers and galleries that are there from the start, and again after `reset`. */
  readonly containers?: readonly string[];
  readonly galleries?: readonly PreparedGallery[];
  /** How long lists lag behind what was made or deleted. Default 0. */
  readonly visibleAfterMs?: number;
  /** How long a version takes to reach its regions. Default 0. */
  readonly replicationMs?: number;
  /** How long a blob is copied when a version is made; it must stay until then. Default 0. */
  readonly importMs?: number;
  /** How long making and deleting anything else takes. Default 0. */
  readonly operationMs?: number;
  /** What clients are told to wait between polls. Default 0, or 1 if anything above takes a second or more. */
  readonly retryAfterSeconds?: number;
  readonly tokenSeconds?: number;
  /** Items of a page of a management list. Default 100. */
  readonly pageSize?: number;
  readonly limits?: Partial<ComputeState["limits"]>;
  /** Directory for the bytes of page blobs, as sparse files. Default: memory, without all-zero chunks. */
  readonly blobDir?: string;
  /** Blob endpoint the management API names. Default: the address the client used, with the account as path. */
  readonly blobEndpoint?: string;
  /** RBAC actions that are refused; `*` stands for anything. */
  readonly denied?: readonly string[];
  readonly secretExpired?: boolean;
  /** Milliseconds since 1970. Default: the machine's clock. */
  readonly now?: () => number;
}

export interface AzureOutsider {
  readonly tenantId: string;
  readonly clientId: string;
  readonly clientSecret: string;
  readonly subscriptionId: string;
}

export interface PreparedGallery {
  readonly name: string;
  /** Public name; makes it a community gallery that is already shared. */
  readonly publicName?: string;
}

export interface AzureSimulator extends Simulator {
  readonly name: "azure";
  readonly authority: http.RequestListener;
  readonly management: http.RequestListener;
  readonly blob: http.RequestListener;
  readonly state: AzureInspector;
  /** Changes what is refused, from the next request on. */
  deny(actions: readonly string[]): void;
  expireSecret(expired: boolean): void;
  /** Changes how long things take and how many there may be, for what is begun from now on. */
  adjust(timings: Partial<ComputeState["timings"]>, limits: Partial<ComputeState["limits"]>): void;
  /** Replication to that region fails or hangs until it is `up` again; a failed one is tried again by the next update. */
  setRegion(region: string, health: RegionOutage | "up"): void;
}

/** What tests look at. Nothing here goes through HTTP. */
export interface AzureInspector {
  galleries(): Gallery[];
  definition(gallery: string, definition: string): Definition;
  version(gallery: string, definition: string, version: string): Version;
  /** Every version of every gallery. */
  versions(): Version[];
  /** What `latest` is in that region; undefined when nothing is. */
  latest(gallery: string, definition: string, region: string): Version | undefined;
  blob(container: string, blob: string): Blob | undefined;
  /** `container/blob`, sorted. */
  blobNames(): string[];
  /** Every accepted page write, oldest first; to one blob when named. Survives the blob. */
  pageWrites(container?: string, blob?: string): PageWrite[];
  /** How often bytes of that range were written. */
  timesWritten(container: string, blob: string, offset: number, bytes: number): number;
  /** Bytes of the disk a version was made of, VHD footer included. Default: all of it. */
  readVersion(gallery: string, definition: string, version: string, offset?: number, length?: number): Promise<Buffer>;
}

const MIB = 1024 * 1024;
/** A page write of 4 MiB and what a structured body adds. */
const MOST_BLOB_BODY = 4 * MIB + 64 * 1024;
const MOST_JSON_BODY = 4 * MIB;
/** The storage account's key unless another is given, base64. */
export const REHEARSAL_KEY = Buffer.from("slipway rehearsal account key".padEnd(64, ".")).toString("base64");

export function createAzureSimulator(options: AzureOptions): AzureSimulator {
  const now = options.now ?? Date.now;
  const mint = createTokenMint();
  const store = new BlobStore(options.blobDir);
  let denied = options.denied ?? [];
  const state = createComputeState(options, store);
  const authoritySettings = {
    principals: [options, ...(options.outsider === undefined ? [] : [options.outsider])].map(
      ({ tenantId, clientId, clientSecret }) => ({
        ...{ tenantId, clientId, clientSecret, objectId: `0b1ec700-${clientId.slice(-27)}` },
      }),
    ),
    tokenSeconds: options.tokenSeconds ?? 3599,
    secretExpired: options.secretExpired ?? false,
  };
  const accountKey = options.accountKey ?? REHEARSAL_KEY;
  const { timings } = state;
  const longest = Math.max(timings.replicationMs, timings.importMs, timings.operationMs);

  const authority = createAuthority(authoritySettings, mint);
  const blob = createBlobService(
    { account: options.storageAccount, accountKey, tenantId: options.tenantId, denied: () => denied },
    store,
    mint,
  );
  const management = createManagement(
    state,
    {
      tenantId: options.tenantId,
      outsiderSubscription: options.outsider?.subscriptionId,
      accountKey,
      blobEndpoint: options.blobEndpoint,
      denied: () => denied,
      retryAfterSeconds: options.retryAfterSeconds ?? (longest >= 1000 ? 1 : 0),
      pageSize: options.pageSize ?? 100,
    },
    mint,
  );

  const prepare = (): void => {
    for (const name of options.containers ?? []) store.createContainer(name, [], now());
    for (const gallery of options.galleries ?? []) prepareGallery(state, gallery, now());
  };
  prepare();

  return {
    name: "azure",
    authority: listener(authority, now, MOST_JSON_BODY),
    management: listener(management, now, MOST_JSON_BODY),
    blob: listener(blob, now, MOST_BLOB_BODY),
    handler: listener(
      (exchange) => serviceOf(exchange, options, { authority, management, blob })(exchange),
      now,
      MOST_BLOB_BODY,
    ),
    state: createInspector(state, store, now),
    deny(actions) {
      denied = actions;
    },
    expireSecret(expired) {
      authoritySettings.secretExpired = expired;
    },
    adjust(timings, limits) {
      Object.assign(state.timings, timings);
      Object.assign(state.limits, limits);
    },
    setRegion(region, health) {
      if (health === "up") state.outages.delete(regionName(region));
      else state.outages.set(regionName(region), health);
    },
    reset() {
      for (const version of allVersions(state)) void version.import.disk.release();
      state.galleries.clear();
      state.ghosts.length = 0;
      state.operations.clear();
      store.clear();
      prepare();
    },
  };
}

function createComputeState(options: AzureOptions, store: BlobStore): ComputeState {
  const { subscriptionId, resourceGroup, storageAccount } = options;
  return {
    subscriptionId,
    resourceGroup,
    storageAccount,
    storageAccountId: `/subscriptions/${subscriptionId}/resourceGroups/${resourceGroup}/providers/Microsoft.Storage/storageAccounts/${storageAccount}`,
    storageLocation: regionName(options.location ?? "eastus"),
    timings: {
      operationMs: options.operationMs ?? 0,
      importMs: options.importMs ?? 0,
      replicationMs: options.replicationMs ?? 0,
      visibleAfterMs: options.visibleAfterMs ?? 0,
    },
    // https://learn.microsoft.com/azure/virtual-machines/azure-compute-gallery#limits
    limits: { galleries: 100, definitions: 1000, versions: 10_000, replicas: 100, ...options.limits },
    store,
    galleries: new Map(),
    ghosts: [],
    operations: new Map(),
    outages: new Map(),
  };
}

function prepareGallery(state: ComputeState, { name, publicName }: PreparedGallery, now: number): void {
  const community = {
    permissions: "Community",
    communityGalleryInfo: {
      publisherUri: "https://example.org",
      publisherContact: "images@example.org",
      eula: "https://example.org/legal",
      publicNamePrefix: "rehearsal",
    },
  };
  const properties = publicName === undefined ? {} : { sharingProfile: community };
  // Long ago, so that no list has yet to notice it.
  const then = now - state.timings.visibleAfterMs - state.timings.operationMs;
  putGallery(state, name, Buffer.from(JSON.stringify({ location: state.storageLocation, properties })), then, "PUT");
  const gallery = state.galleries.get(name.toLowerCase())!;
  if (publicName !== undefined) {
    shareGallery(state, name, Buffer.from('{"operationType":"EnableCommunity"}'), then);
    gallery.publicName = publicName;
  }
  gallery.provisioning = "Succeeded";
}

type Service = (exchange: Exchange) => Answer | Promise<Answer>;

/** By host where the name tells (`login.`, `management.`, `<account>.blob.`), else by path. */
function serviceOf(
  exchange: Exchange,
  options: AzureOptions,
  services: Record<"authority" | "management" | "blob", Service>,
): Service {
  if (exchange.host.startsWith("login.")) return services.authority;
  if (exchange.host.startsWith("management.")) return services.management;
  if (/^[a-z0-9]+\.blob\./.test(exchange.host) || exchange.path[0] === options.storageAccount) return services.blob;
  if (/^(subscriptions|providers)$/i.test(exchange.path[0] ?? "")) return services.management;
  return isAuthorityPath(exchange.path) ? services.authority : services.blob;
}

function listener(service: Service, now: () => number, limit: number): http.RequestListener {
  return (request, response) => {
    answerTo(request, service, now, limit)
      .then((answer) => send(response, answer))
      // A client that goes away in the middle of a request is ordinary here.
      .catch(() => response.destroy());
  };
}

async function answerTo(
  request: http.IncomingMessage,
  service: Service,
  now: () => number,
  limit: number,
): Promise<Answer> {
  let exchange: Exchange;
  try {
    exchange = await readExchange(request, limit, now());
  } catch (error) {
    if (error instanceof BodyTooLarge) return tooLarge(limit, now());
    throw error;
  }
  try {
    return await service(exchange);
  } catch (error) {
    // A fault of ours must not look like one of Azure's that a retry would cure.
    const message = `The simulator failed at ${exchange.method} ${exchange.rawPath}: ${error instanceof Error ? error.stack : String(error)}`;
    return armErrorAnswer(new ArmError(500, "SimulatorError", message));
  }
}

function tooLarge(limit: number, now: number): Answer {
  const error = refusals.tooLarge(Math.min(limit, 4 * MIB));
  return storageErrorAnswer(error, {
    method: "PUT",
    requestId: "00000000-0000-0000-0000-000000000000",
    now,
  } as Exchange);
}

function allVersions(state: ComputeState): Version[] {
  const definitions = [...state.galleries.values()].flatMap((gallery) => [...gallery.definitions.values()]);
  return definitions.flatMap((definition) => [...definition.versions.values()]);
}

function createInspector(state: ComputeState, store: BlobStore, now: () => number): AzureInspector {
  const writesTo = (container?: string, blob?: string): PageWrite[] =>
    store.writes.filter(
      (write) => (container ?? write.container) === write.container && (blob ?? write.blob) === write.blob,
    );
  return {
    galleries: () => [...state.galleries.values()],
    definition: (gallery, definition) => findDefinition(state, gallery, definition),
    version: (gallery, definition, version) => findVersion(state, gallery, definition, version),
    versions: () => allVersions(state),
    latest: (gallery, definition, region) => latestVersion(findDefinition(state, gallery, definition), region),
    blob: (container, blob) => store.find(container, blob),
    blobNames: () =>
      [...store.containers.values()]
        .flatMap(({ name, blobs }) => [...blobs.keys()].map((blob) => `${name}/${blob}`))
        .sort(),
    pageWrites: writesTo,
    timesWritten: (container, blob, offset, bytes) =>
      writesTo(container, blob).filter(
        (write) => write.kind === "update" && write.offset < offset + bytes && offset < write.offset + write.bytes,
      ).length,
    async readVersion(gallery, definition, version, offset = 0, length?: number) {
      await settle(state, now());
      const { disk } = findVersion(state, gallery, definition, version).import;
      return disk.read(offset, length ?? disk.bytes - offset);
    },
  };
}
