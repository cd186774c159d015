/** The driver in front of the simulated Azure, with the contract's levers. Knows both; is known by tests only. */
import type http from "node:http";
import { type AzureSimulator, createAzureSimulator } from "../../../../rehearsal/src/azure/azure.ts";
import { type Authority, createAuthority, serve } from "../../../../rehearsal/src/tls.ts";
import { BLOCK_BYTES } from "../../../images/block-source.ts";
import { MiB } from "../../../lib/units.ts";
import type { ImageSpec } from "../../../model.ts";
import type { Cloud } from "../../cloud.ts";
import { type FakeDisk, fakeDisk } from "../../testing/disks.ts";
import type { CloudHarness } from "../../testing/harness.ts";
import { openAzure } from "../azure.ts";
import type { AzureOptions, Pace } from "../options.ts";
import { vhdFooter } from "./vhd-footer.ts";

export const ACCOUNT = {
  tenantId: "7e4a0000-1111-4222-8333-444455556666",
  clientId: "c11e0000-1111-4222-8333-444455556666",
  clientSecret: "s3cret~value/that+must.not=leak",
  subscriptionId: "5b5c0000-1111-4222-8333-444455556666",
  resourceGroup: "fedora-cloud",
  storageAccount: "fedoraimageupload",
} as const;

/** Of another tenant, with a subscription of their own. */
export const OUTSIDER = {
  credentials: {
    tenantId: "0a7e0000-1111-4222-8333-444455556666",
    clientId: "0c11e000-1111-4222-8333-444455556666",
    clientSecret: "another~secret",
  },
  subscriptionId: "05b50000-1111-4222-8333-444455556666",
} as const;

export const GALLERY = "Fedora";
export const PUBLIC_GALLERY = "Fedora-5e266ba4-2250-406d-adad-5d73860d958f";

export const SPEC: ImageSpec = {
  key: "k7vq2azureimagekeyabcdefgh",
  diskKey: "d3azurediskkeyabcdefgh",
  name: "Fedora-Cloud-44-x64 44.20251013.0",
  description: "a test image",
  arch: "x86_64",
  diskBytes: 8 * MiB,
  homeRegion: "eastus",
  regions: ["eastus", "westeurope", "australiaeast"],
  definition: "Fedora-Cloud-44-x64",
  version: "44.20251013.0",
  endOfLife: "2027-05-13",
  tags: { Channel: "cloud", ComposeID: "Fedora-Cloud-44-20251013.0" },
};

/** Nothing real is waited for, so nothing is waited for long. */
export const PACE: Partial<Pace> = { pollFirst: 1, pollMost: 4, pollDeadline: 10_000, pageRetry: 1 };

export interface AzureHarness extends CloudHarness {
  readonly simulator: AzureSimulator;
  readonly url: string;
  readonly options: AzureOptions;
  /** Answers the next requests that match with this, instead of the simulator. */
  answer(operation: string, times: number, status: number, code: string, headers?: Record<string, string>): void;
  /** How many requests of an operation came. */
  count(operation: string): number;
  open(changes?: Partial<AzureOptions>): Cloud;
}

// Making keys takes longer than anything else here.
let authority: Promise<Authority> | undefined;

/** The one every harness of this process serves with; for other servers that its drivers shall trust. */
export function harnessAuthority(): Promise<Authority> {
  authority ??= createAuthority();
  return authority;
}

export async function azureHarness(
  simulated: Partial<Parameters<typeof createAzureSimulator>[0]> = {},
): Promise<AzureHarness> {
  const tls = await harnessAuthority();
  const simulator = createAzureSimulator({
    ...ACCOUNT,
    outsider: { ...OUTSIDER.credentials, subscriptionId: OUTSIDER.subscriptionId },
    containers: ["vhds"],
    galleries: [{ name: GALLERY, publicName: PUBLIC_GALLERY }],
    ...simulated,
  });
  const lost: string[] = [];
  const planned: { operation: string; left: number; status: number; code: string; headers: Record<string, string> }[] =
    [];
  const counts = new Map<string, number>();

  const served = await serve(
    (request, response) => {
      const operation = operationOf(request);
      counts.set(operation, (counts.get(operation) ?? 0) + 1);
      const plan = planned.find((one) => one.operation === operation && one.left > 0);
      if (plan) {
        plan.left--;
        request.resume().once("end", () => {
          response.writeHead(plan.status, {
            "content-type": "application/json",
            "x-ms-error-code": plan.code,
            "x-ms-request-id": "planned-answer",
            ...plan.headers,
          });
          response.end(JSON.stringify({ error: { code: plan.code, message: `${plan.code}, as planned.` } }));
        });
        return;
      }
      const at = lost.indexOf(operation);
      if (at >= 0) {
        lost.splice(at, 1);
        loseIt(request, response);
      }
      simulator.handler(request, response);
    },
    { tls },
  );

  const options: AzureOptions = {
    subscriptionId: ACCOUNT.subscriptionId,
    resourceGroup: ACCOUNT.resourceGroup,
    gallery: GALLERY,
    location: "eastus",
    storageAccount: ACCOUNT.storageAccount,
    container: "vhds",
    publicGalleryName: PUBLIC_GALLERY,
    credentials: {
      tenantId: ACCOUNT.tenantId,
      clientId: ACCOUNT.clientId,
      clientSecret: ACCOUNT.clientSecret,
    },
    endpoints: { authority: served.url, management: served.url, blob: `${served.url}/${ACCOUNT.storageAccount}` },
    ca: tls.ca,
    definition: { publisher: "Fedora", offer: "Cloud" },
    targetRegions: SPEC.regions.map((name) => ({ name, replicas: 1, storageType: "Standard_LRS" })),
    pace: PACE,
  };
  const opened: Cloud[] = [];
  const open = (changes: Partial<AzureOptions> = {}): Cloud => {
    const cloud = openAzure({ ...options, ...changes });
    opened.push(cloud);
    return cloud;
  };

  return {
    simulator,
    url: served.url,
    options,
    open,
    cloud: open(),
    spec: (overrides = {}) => ({ ...SPEC, ...overrides }),
    disk: vhdDisk,
    async reopen() {
      return open();
    },
    sends: () => simulator.state.pageWrites().reduce((sum, write) => sum + Math.ceil(write.bytes / BLOCK_BYTES), 0),
    async inventory() {
      const blobs = simulator.state.blobNames().map((name) => `${options.endpoints!.blob}/${name}`);
      const definitions = simulator.state.galleries().flatMap((gallery) => [...gallery.definitions.values()]);
      const versions = definitions.flatMap(({ name, versions }) =>
        [...versions.keys()].map((one) => publicId(name, one)),
      );
      return [...blobs, ...versions];
    },
    async plantForeign(spec) {
      const others = open({ tagsOwner: "CoreOS", publicGalleryName: PUBLIC_GALLERY });
      const { memoryJournal } = await import("../../../images/journal.ts");
      const { quietCall } = await import("../../../lib/call.ts");
      const theirs = { ...spec, key: "theirkeytheirkeytheirkey", diskKey: "theirdisktheirdisktheirdisk" };
      const staged = await others.upload(vhdDisk(theirs, [1], "theirs"), theirs, memoryJournal(), quietCall());
      const image = await others.register(staged, theirs, quietCall());
      await others.tidy(staged, theirs, quietCall());
      return image.id;
    },
    losable: {
      upload: ["Put Blob", "Put Page", "Set Blob Metadata"],
      register: ["PUT image", "PUT version"],
      replicate: ["PATCH version"],
      offer: ["PATCH version"],
      withdraw: ["PATCH version"],
      setState: ["PATCH version"],
      remove: ["DELETE version", "Delete Blob"],
    },
    loseAnswer: (operation) => void lost.push(operation),
    answer: (operation, times, status, code, headers = {}) =>
      void planned.push({ operation, left: times, status, code, headers }),
    count: (operation) => counts.get(operation) ?? 0,
    async withWrongCredentials() {
      return open({ credentials: { ...ACCOUNT, clientSecret: "an old one" } });
    },
    async withoutRegister() {
      const permission = "Microsoft.Compute/galleries/images/versions/write";
      simulator.deny([permission]);
      return { cloud: open(), permission };
    },
    async close() {
      for (const cloud of opened) await cloud.close();
      await served.close();
    },
  };
}

/** A fixed VHD: the spec's disk and its footer. */
export function vhdDisk(spec: ImageSpec, nonZero: readonly number[], seed: string): FakeDisk {
  // A disk that is opened again has the bytes it had: an upload that goes on would else mix two footers.
  return fakeDisk(spec.diskBytes + 512, nonZero, seed, vhdFooter(spec.diskBytes, Buffer.alloc(16, seed)));
}

function publicId(definition: string, version: string): string {
  return `/CommunityGalleries/${PUBLIC_GALLERY}/Images/${definition}/Versions/${version}`;
}

/** The vendor's name of a request, as far as tests tell them apart. */
function operationOf(request: http.IncomingMessage): string {
  const url = new URL(request.url ?? "/", "https://host");
  const comp = url.searchParams.get("comp");
  if (/\/versions\/[^/]+$/i.test(url.pathname)) return `${request.method} version`;
  if (/\/galleries\/[^/]+\/images\/[^/]+$/i.test(url.pathname)) return `${request.method} image`;
  if (request.method === "PUT" && comp === "page") return "Put Page";
  if (request.method === "PUT" && comp === "metadata") return "Set Blob Metadata";
  if (request.method === "PUT" && request.headers["x-ms-blob-type"]) return "Put Blob";
  if (request.method === "DELETE") return "Delete Blob";
  return `${request.method} ${comp ?? ""}`.trim();
}

/** The request is carried out, and the connection breaks where the answer would come. */
function loseIt(request: http.IncomingMessage, response: http.ServerResponse): void {
  response.writeHead = () => response;
  response.write = () => true;
  response.end = () => {
    request.socket.destroy();
    return response;
  };
}
