/** The driver in front of the simulated Google Cloud, with the contract's levers. Knows both; is known by tests only. */
import type http from "node:http";
import { createGcpSimulator, type GcpSimulator } from "../../../../rehearsal/src/gcp/gcp.ts";
import { type Authority, createAuthority, serve } from "../../../../rehearsal/src/tls.ts";
import { GiB } from "../../../lib/units.ts";
import type { ImageSpec } from "../../../model.ts";
import type { Cloud } from "../../cloud.ts";
import type { CloudHarness } from "../../testing/harness.ts";
import { type Tap, tap } from "../../testing/taps.ts";
import { openGcp } from "../gcp.ts";
import type { GcpOptions } from "../options.ts";

export const SPEC: ImageSpec = {
  key: "k7vq2gcpimagekeyabcdefgh",
  diskKey: "d3gcpdiskkeyabcdefgh",
  name: "fedora-cloud-44-20251013-0-x86-64",
  description: "a test image",
  arch: "x86_64",
  diskBytes: GiB,
  homeRegion: "us",
  regions: ["us"],
  family: "fedora-cloud-44-x86-64",
  tags: { Channel: "cloud", ComposeID: "Fedora-Cloud-44-20251013.0" },
};

export interface GcpHarness extends CloudHarness {
  readonly simulator: GcpSimulator;
  readonly tap: Tap;
  readonly options: GcpOptions;
  open(changes?: Partial<GcpOptions>): Cloud;
}

// Making keys takes longer than anything else here.
let authority: Promise<Authority> | undefined;

/** The one every harness of this process serves with; for other servers that its drivers shall trust. */
export function harnessAuthority(): Promise<Authority> {
  authority ??= createAuthority();
  return authority;
}

let shared: GcpSimulator | undefined;

export async function gcpHarness(simulated: { imageLimit?: number } = {}): Promise<GcpHarness> {
  const tls = await harnessAuthority();
  shared ??= createGcpSimulator({ project: "fedora-cloud", bucket: "fedora-cloud-image-upload" });
  const simulator =
    simulated.imageLimit === undefined
      ? shared
      : createGcpSimulator({ project: "fedora-cloud", bucket: "fedora-cloud-image-upload", ...simulated });
  simulator.reset();
  simulator.deny([]);
  const front = tap(simulator.handler, operationOf);
  const served = await serve(front.handler, { tls });
  const options: GcpOptions = {
    project: "fedora-cloud",
    bucket: "fedora-cloud-image-upload",
    storageLocation: "us",
    credentials: {
      clientEmail: simulator.serviceAccount.client_email,
      privateKey: simulator.serviceAccount.private_key,
    },
    endpoints: {
      storage: served.url,
      compute: served.url,
      resourceManager: served.url,
      token: `${served.url}/token`,
    },
    ca: tls.ca,
    pace: { pollFirst: 1, pollMost: 4, pollDeadline: 30_000, partRetry: 1 },
  };
  const opened: Cloud[] = [];
  const open = (changes: Partial<GcpOptions> = {}): Cloud => {
    const cloud = openGcp({ ...options, ...changes });
    opened.push(cloud);
    return cloud;
  };
  return {
    simulator,
    tap: front,
    options,
    open,
    cloud: open(),
    spec: (overrides = {}) => ({ ...SPEC, ...overrides }),
    async reopen() {
      return open();
    },
    sends: () =>
      simulator.uploads().reduce((sum, { name }) => sum + Number(/\/blocks-\d+-(\d+)-/.exec(name)?.[1] ?? 0), 0),
    async inventory() {
      const names = simulator.objects().map(({ name }) => name.replace(/(\.parts\/).*/, "$1"));
      return [
        ...[...new Set(names)].map((name) => `gs://${options.bucket}/${name}`),
        ...simulator.images().map(({ name }) => `projects/${options.project}/global/images/${name}`),
      ];
    },
    async plantForeign(spec) {
      const { memoryJournal } = await import("../../../images/journal.ts");
      const { quietCall } = await import("../../../lib/call.ts");
      const { fakeDisk } = await import("../../testing/disks.ts");
      const others = open({ tagsOwner: "coreos" });
      const theirs = { ...spec, key: "theirkeytheirkeytheirkey", diskKey: "theirdisktheirdisktheirdisk" };
      const disk = fakeDisk(theirs.diskBytes, [1], "theirs");
      const staged = await others.upload(disk, theirs, memoryJournal(), quietCall());
      const image = await others.register(staged, theirs, quietCall());
      await others.tidy(staged, theirs, quietCall());
      return image.id;
    },
    losable: {
      upload: ["objects.insert", "objects.compose", "objects.delete"],
      register: ["images.insert"],
      offer: ["images.setIamPolicy", "images.patch"],
      withdraw: ["images.patch", "images.setIamPolicy"],
      setState: ["images.deprecate"],
      remove: ["objects.delete", "images.delete"],
    },
    loseAnswer: (operation) => front.lose(operation),
    async withWrongCredentials() {
      return open({
        credentials: { clientEmail: "nobody@example.org", privateKey: simulator.serviceAccount.private_key },
      });
    },
    async withoutRegister() {
      const permission = "compute.images.create";
      simulator.deny([permission]);
      return { cloud: open(), permission };
    },
    async close() {
      for (const cloud of opened) await cloud.close();
      await served.close();
    },
  };
}

/** The vendor's name of a request that changes something. */
function operationOf({ url = "", method }: http.IncomingMessage): string | undefined {
  const path = url.split("?", 1)[0]!;
  if (path.startsWith("/upload/")) return "objects.insert";
  if (path.endsWith("/compose")) return "objects.compose";
  if (path.startsWith("/storage/")) return method === "DELETE" ? "objects.delete" : undefined;
  if (path.endsWith("/images")) return method === "POST" ? "images.insert" : undefined;
  const verb = /\/images\/[^/]+\/(deprecate|setIamPolicy)$/.exec(path)?.[1];
  if (verb) return `images.${verb}`;
  if (/\/images\/[^/]+$/.test(path)) {
    return method === "PATCH" ? "images.patch" : method === "DELETE" ? "images.delete" : undefined;
  }
  return undefined;
}
