import type { ComputeManagementClient, GalleryImage, GalleryImageVersion } from "@azure/arm-compute";
import { RestError } from "@azure/storage-blob";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { AzureOptions } from "./azure.ts";
import { account, fixedVhd, type Rehearsed, rehearse, sealFooter, uploadDisk } from "./testing.ts";

const MIB = 1024 * 1024;
const RG = account.resourceGroup;
const GALLERY = "Fedora";
const DEFINITION = "Fedora-Cloud-42-x64";
const STORAGE_ID = `/subscriptions/${account.subscriptionId}/resourceGroups/${RG}/providers/Microsoft.Storage/storageAccounts/${account.storageAccount}`;
const PUBLIC_NAME = "Fedora-5e266ba4-2250-406d-adad-5d73860d958f";
const fast = { updateIntervalInMs: 1 };

const definitionBody: GalleryImage = {
  location: "eastus",
  osType: "Linux",
  osState: "Generalized",
  hyperVGeneration: "V2",
  architecture: "x64",
  identifier: { publisher: "Fedora", offer: "Cloud", sku: DEFINITION },
  features: [{ name: "SecurityType", value: "TrustedLaunchSupported" }],
};

function versionBody(
  uri: string,
  regions: string[] = ["eastus"],
  more: Partial<GalleryImageVersion> = {},
): GalleryImageVersion {
  return {
    location: "eastus",
    tags: { owner: "slipway" },
    storageProfile: { osDiskImage: { source: { storageAccountId: STORAGE_ID, uri } } },
    publishingProfile: {
      targetRegions: regions.map((name) => ({ name, regionalReplicaCount: 1, storageAccountType: "Standard_LRS" })),
      excludeFromLatest: true,
      endOfLifeDate: new Date("2026-05-13T00:00:00Z"),
    },
    ...more,
  };
}

async function refusal(call: Promise<unknown>): Promise<string> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error("Expected an error.");
  const code = error instanceof RestError || "code" in error ? String(error.code) : "";
  return `${code} ${error.message}`;
}

describe("the simulated gallery, asked by the unchanged @azure/arm-compute", () => {
  let rehearsed: Rehearsed;
  let compute: ComputeManagementClient;
  let uri: string;
  let disk: Buffer;

  async function begin(options: Partial<AzureOptions> = {}): Promise<void> {
    await rehearsed?.[Symbol.asyncDispose]();
    rehearsed = await rehearse({ galleries: [{ name: GALLERY, publicName: PUBLIC_NAME }], ...options });
    compute = rehearsed.compute();
    disk = fixedVhd(5);
    uri = await uploadDisk(rehearsed, "fedora.vhd", disk);
    await compute.galleryImages.createOrUpdate(RG, GALLERY, DEFINITION, definitionBody, fast);
  }
  beforeEach(() => begin());
  afterEach(() => rehearsed[Symbol.asyncDispose]());

  const put = (version: string, body = versionBody(uri)): Promise<GalleryImageVersion> =>
    Promise.resolve(compute.galleryImageVersions.createOrUpdate(RG, GALLERY, DEFINITION, version, body, fast));
  const get = (version: string): Promise<GalleryImageVersion> =>
    compute.galleryImageVersions.get(RG, GALLERY, DEFINITION, version, { expand: "ReplicationStatus" });

  it("makes a version of a page blob and keeps its bytes when the blob is gone", async () => {
    const made = await put("42.20250415.0");
    expect(made).toMatchObject({
      name: "42.20250415.0",
      provisioningState: "Succeeded",
      tags: { owner: "slipway" },
      publishingProfile: { excludeFromLatest: true, targetRegions: [{ name: "East US", regionalReplicaCount: 1 }] },
      storageProfile: { osDiskImage: { sizeInGB: 1 } },
    });
    expect(made.id).toBe(
      `/subscriptions/${account.subscriptionId}/resourceGroups/${RG}/providers/Microsoft.Compute/galleries/Fedora/images/${DEFINITION}/versions/42.20250415.0`,
    );
    await rehearsed.blobs().getContainerClient("vhds").getPageBlobClient("fedora.vhd").delete();
    const kept = await rehearsed.simulator.state.readVersion(GALLERY, DEFINITION, "42.20250415.0");
    expect(kept.equals(disk)).toBe(true);
  });

  it("brings a version to its regions as time passes, and is done when all are", async () => {
    await begin({ replicationMs: 400, retryAfterSeconds: 0 });
    const poller = compute.galleryImageVersions.createOrUpdate(
      RG,
      GALLERY,
      DEFINITION,
      "42.20250415.0",
      versionBody(uri, ["eastus", "westeurope"]),
      fast,
    );
    await poller.submitted();
    rehearsed.clock.now += 100;
    const half = await get("42.20250415.0");
    expect(half.provisioningState).toBe("Creating");
    expect(half.replicationStatus).toEqual({
      aggregatedState: "InProgress",
      summary: [
        { region: "East US", state: "Replicating", details: "", progress: 25 },
        { region: "West Europe", state: "Replicating", details: "", progress: 25 },
      ],
    });
    expect(await refusal(put("42.20250415.0"))).toContain("Conflict");
    rehearsed.clock.now += 300;
    expect((await poller).provisioningState).toBe("Succeeded");
    expect((await get("42.20250415.0")).replicationStatus?.aggregatedState).toBe("Completed");
  });

  it("fails as a whole when one region does, and the next update tries that region again", async () => {
    rehearsed.simulator.setRegion("westeurope", "fails");
    const call = put("42.20250415.0", versionBody(uri, ["eastus", "westeurope"]));
    expect(await refusal(call)).toContain("westeurope");
    const failed = await get("42.20250415.0");
    expect(failed.provisioningState).toBe("Failed");
    expect(failed.replicationStatus?.summary?.map(({ state }) => state)).toEqual(["Completed", "Failed"]);
    rehearsed.simulator.setRegion("westeurope", "up");
    expect((await put("42.20250415.0", versionBody(uri, ["eastus", "westeurope"]))).provisioningState).toBe(
      "Succeeded",
    );
  });

  it("waits for a region that hangs, until it is up", async () => {
    rehearsed.simulator.setRegion("West Europe", "hangs");
    const poller = compute.galleryImageVersions.createOrUpdate(
      RG,
      GALLERY,
      DEFINITION,
      "42.20250415.0",
      versionBody(uri, ["eastus", "westeurope"]),
      fast,
    );
    await poller.submitted();
    expect((await get("42.20250415.0")).replicationStatus?.aggregatedState).toBe("InProgress");
    rehearsed.simulator.setRegion("westeurope", "up");
    expect((await poller).provisioningState).toBe("Succeeded");
  });

  it("adds regions, flips the flag and keeps the rest in one PATCH", async () => {
    await put("42.20250415.0");
    const regions = [{ name: "eastus" }, { name: "UK South", regionalReplicaCount: 2 }];
    const changed = await compute.galleryImageVersions.update(
      RG,
      GALLERY,
      DEFINITION,
      "42.20250415.0",
      { publishingProfile: { targetRegions: regions, excludeFromLatest: false } },
      fast,
    );
    expect(changed.publishingProfile).toMatchObject({
      excludeFromLatest: false,
      endOfLifeDate: new Date("2026-05-13T00:00:00Z"),
      targetRegions: [{ name: "East US" }, { name: "UK South", regionalReplicaCount: 2 }],
    });
    expect(changed.tags).toEqual({ owner: "slipway" });
  });

  it("drops a region only for who says that he may", async () => {
    await put("42.20250415.0", versionBody(uri, ["eastus", "uksouth"]));
    const fewer = { publishingProfile: { targetRegions: [{ name: "eastus" }] } };
    const update = (body: object): Promise<unknown> =>
      Promise.resolve(compute.galleryImageVersions.update(RG, GALLERY, DEFINITION, "42.20250415.0", body, fast));
    expect(await refusal(update(fewer))).toContain("Complete set of target locations not specified");
    await update({ ...fewer, safetyProfile: { allowDeletionOfReplicatedLocations: true } });
    expect((await get("42.20250415.0")).publishingProfile?.targetRegions).toHaveLength(1);
  });

  it("answers latest with the newest in number that is not excluded and is in the region", async () => {
    const open = {
      ...versionBody(uri),
      publishingProfile: { targetRegions: [{ name: "eastus" }], excludeFromLatest: false },
    };
    await put("42.9.0", open);
    await put("42.10.0", open);
    await put("42.11.0");
    const { state } = rehearsed.simulator;
    expect(state.latest(GALLERY, DEFINITION, "eastus")?.name).toBe("42.10.0");
    expect(state.latest(GALLERY, DEFINITION, "westeurope")).toBeUndefined();
  });

  it("shows the community what is bootable in a region, by public name", async () => {
    await put("42.20250415.0");
    const found = await compute.communityGalleryImageVersions.get("eastus", PUBLIC_NAME, DEFINITION, "42.20250415.0");
    expect(found).toMatchObject({
      uniqueId: `/CommunityGalleries/${PUBLIC_NAME}/Images/${DEFINITION}/Versions/42.20250415.0`,
      excludeFromLatest: true,
    });
    const elsewhere = [];
    for await (const one of compute.communityGalleryImageVersions.list("westeurope", PUBLIC_NAME, DEFINITION))
      elsewhere.push(one);
    expect(elsewhere).toEqual([]);
  });

  it("makes and shares a community gallery", async () => {
    const community = {
      publisherUri: "https://example.org",
      publisherContact: "a@example.org",
      eula: "https://example.org/eula",
      publicNamePrefix: "Example",
    };
    await compute.galleries.createOrUpdate(
      RG,
      "Example",
      { location: "eastus", sharingProfile: { permissions: "Community", communityGalleryInfo: community } },
      fast,
    );
    await compute.gallerySharingProfile.update(RG, "Example", { operationType: "EnableCommunity" }, fast);
    const info = (await compute.galleries.get(RG, "Example")).sharingProfile?.communityGalleryInfo;
    expect(info?.publicNames?.[0]).toMatch(/^Example-[0-9a-f-]{36}$/);
  });

  const badDisks: { name: string; spoil: (disk: Buffer) => Buffer; says: string }[] = [
    { name: "without a footer", spoil: (vhd) => vhd.fill(0, vhd.length - 512), says: "cookie" },
    {
      name: "that is dynamic",
      spoil: (vhd) => {
        vhd.writeUInt32BE(3, vhd.length - 512 + 60);
        sealFooter(vhd.subarray(-512));
        return vhd;
      },
      says: "Only fixed VHDs",
    },
    {
      name: "with a damaged footer",
      spoil: (vhd) => vhd.fill(9, vhd.length - 400, vhd.length - 399),
      says: "checksum",
    },
    {
      name: "of half a MiB too much",
      spoil: (vhd) => {
        const odd = Buffer.concat([vhd.subarray(0, -512), Buffer.alloc(MIB / 2), vhd.subarray(-512)]);
        odd.writeBigUInt64BE(BigInt(odd.length - 512), odd.length - 512 + 48);
        sealFooter(odd.subarray(-512));
        return odd;
      },
      says: "whole number (in MBs)",
    },
  ];
  it.each(badDisks)("fails on a disk $name, and the version stays as failed", async ({ spoil, says }) => {
    const bad = await uploadDisk(rehearsed, "bad.vhd", spoil(fixedVhd(5)));
    expect(await refusal(put("42.1.0", versionBody(bad)))).toContain(says);
    expect((await get("42.1.0")).provisioningState).toBe("Failed");
    await compute.galleryImageVersions.delete(RG, GALLERY, DEFINITION, "42.1.0", fast);
    expect(rehearsed.simulator.state.versions()).toEqual([]);
  });

  it("fails when the blob goes away while it is copied", async () => {
    await begin({ importMs: 50, retryAfterSeconds: 0 });
    const poller = compute.galleryImageVersions.createOrUpdate(
      RG,
      GALLERY,
      DEFINITION,
      "42.1.0",
      versionBody(uri),
      fast,
    );
    await poller.submitted();
    await rehearsed.blobs().getContainerClient("vhds").getPageBlobClient("fedora.vhd").delete();
    rehearsed.clock.now += 50;
    expect(await refusal(Promise.resolve(poller))).toContain("not accessible");
  });

  const refusals: { name: string; call: () => Promise<unknown>; says: string }[] = [
    { name: "a version that is no three numbers", call: () => put("42.20250415.n.0"), says: "InvalidParameter" },
    { name: "a number over 32 bits", call: () => put("42.20250415123456.0"), says: "InvalidParameter" },
    {
      name: "a blob that is not there",
      call: () => put("42.1.0", versionBody(uri.replace("fedora.vhd", "none.vhd"))),
      says: "not accessible",
    },
    {
      name: "a region that does not exist",
      call: () => put("42.1.0", versionBody(uri, ["eastus", "atlantis"])),
      says: "atlantis",
    },
    {
      name: "regions without the home region",
      call: () => put("42.1.0", versionBody(uri, ["uksouth"])),
      says: "must contain",
    },
    {
      name: "more than 100 replicas",
      call: () =>
        put("42.1.0", {
          ...versionBody(uri),
          publishingProfile: { targetRegions: [{ name: "eastus", regionalReplicaCount: 101 }] },
        }),
      says: "replica count",
    },
    {
      name: "a definition with another architecture",
      call: () =>
        Promise.resolve(
          compute.galleryImages.createOrUpdate(
            RG,
            GALLERY,
            DEFINITION,
            { ...definitionBody, architecture: "Arm64" },
            fast,
          ),
        ),
      says: "PropertyChangeNotAllowed",
    },
    {
      name: "a second definition with the same triple",
      call: () => Promise.resolve(compute.galleryImages.createOrUpdate(RG, GALLERY, "Other", definitionBody, fast)),
      says: "Conflict",
    },
    {
      name: "a version in no definition",
      call: () =>
        Promise.resolve(
          compute.galleryImageVersions.createOrUpdate(RG, GALLERY, "None", "1.0.0", versionBody(uri), fast),
        ),
      says: "ParentResourceNotFound",
    },
    { name: "a version that is not there", call: () => get("1.2.3"), says: "ResourceNotFound" },
    {
      name: "a gallery with definitions deleted",
      call: () => Promise.resolve(compute.galleries.delete(RG, GALLERY, fast)),
      says: "CannotDeleteResource",
    },
  ];
  it.each(refusals)("refuses $name", async ({ call, says }) => {
    expect(await refusal(call())).toContain(says);
  });

  it("refuses another disk under the same number, and takes the same one again", async () => {
    await put("42.1.0");
    await put("42.1.0");
    const other = await uploadDisk(rehearsed, "other.vhd", fixedVhd(5));
    expect(await refusal(put("42.1.0", versionBody(other)))).toContain("PropertyChangeNotAllowed");
  });

  it("lets one of two who make the same version at once win", async () => {
    const outcomes = await Promise.allSettled([put("42.1.0"), put("42.1.0")]);
    expect(outcomes.map(({ status }) => status).sort()).toContain("fulfilled");
    expect(rehearsed.simulator.state.versions()).toHaveLength(1);
  });

  it("refuses an unknown member by name", async () => {
    await put("42.1.0");
    const path = `/subscriptions/${account.subscriptionId}/resourceGroups/${RG}/providers/Microsoft.Compute/galleries/${GALLERY}/images/${DEFINITION}/versions/42.1.0?api-version=2025-12-03`;
    const answer = await rehearsed.arm("PATCH", path, {
      properties: { publishingProfile: { endOfLife: "2026-01-01" } },
    });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ error: { code: "BadRequest", message: expect.stringContaining("endOfLife") } });
  });

  it("holds a version whose deletion is blocked until its end of life", async () => {
    await put("42.1.0", { ...versionBody(uri), safetyProfile: { blockDeletionBeforeEndOfLife: true } });
    const remove = (): Promise<unknown> =>
      Promise.resolve(compute.galleryImageVersions.delete(RG, GALLERY, DEFINITION, "42.1.0", fast));
    expect(await refusal(remove())).toContain("OperationNotAllowed");
    rehearsed.clock.now = Date.UTC(2026, 5, 1);
    compute = rehearsed.compute();
    await remove();
    expect(rehearsed.simulator.state.versions()).toEqual([]);
  });

  it("deletes what is gone without complaint, and definitions only when empty", async () => {
    await put("42.1.0");
    const definitions = compute.galleryImages;
    expect(await refusal(Promise.resolve(definitions.delete(RG, GALLERY, DEFINITION, fast)))).toContain(
      "versions/42.1.0",
    );
    await compute.galleryImageVersions.delete(RG, GALLERY, DEFINITION, "42.1.0", fast);
    await compute.galleryImageVersions.delete(RG, GALLERY, DEFINITION, "42.1.0", fast);
    await definitions.delete(RG, GALLERY, DEFINITION, fast);
    expect(rehearsed.simulator.state.galleries()[0]?.definitions.size).toBe(0);
  });

  it("lists in pages, and lags behind when told to", async () => {
    await begin({ pageSize: 2, visibleAfterMs: 1000, retryAfterSeconds: 0 });
    for (const number of ["42.1.0", "42.2.0", "42.3.0"]) await put(number);
    const list = async (): Promise<(string | undefined)[]> => {
      const names = [];
      for await (const one of compute.galleryImageVersions.listByGalleryImage(RG, GALLERY, DEFINITION))
        names.push(one.name);
      return names;
    };
    expect(await list()).toEqual([]);
    expect((await get("42.3.0")).name).toBe("42.3.0");
    rehearsed.clock.now += 1000;
    expect(await list()).toEqual(["42.1.0", "42.2.0", "42.3.0"]);
    await compute.galleryImageVersions.delete(RG, GALLERY, DEFINITION, "42.2.0", fast);
    expect(await list()).toContain("42.2.0");
    rehearsed.clock.now += 1000;
    expect(await list()).toEqual(["42.1.0", "42.3.0"]);
  });

  it("names the missing action, and lists it among what is not granted", async () => {
    const action = "Microsoft.Compute/galleries/images/versions/write";
    rehearsed.simulator.deny([action]);
    expect(await refusal(put("42.1.0"))).toMatch(new RegExp(`AuthorizationFailed.*'${action}'`));
    const path = `/subscriptions/${account.subscriptionId}/resourcegroups/${RG}/providers/Microsoft.Authorization/permissions?api-version=2022-04-01`;
    const answer = await rehearsed.arm("GET", path);
    expect(answer.body).toMatchObject({ value: [{ notActions: [action] }] });
  });

  it("tells accounts, groups, regions and quotas", async () => {
    const base = `/subscriptions/${account.subscriptionId}`;
    const ask = (path: string): Promise<unknown> =>
      rehearsed.arm("GET", `${base}${path}?api-version=2024-01-01`).then(({ body }) => body);
    expect(await ask(`/resourceGroups/${RG}`)).toMatchObject({ name: RG, location: "eastus" });
    expect(
      await ask(`/resourceGroups/${RG}/providers/Microsoft.Storage/storageAccounts/${account.storageAccount}`),
    ).toMatchObject({
      id: STORAGE_ID,
      properties: { isHnsEnabled: false, primaryEndpoints: { blob: `${rehearsed.url}/${account.storageAccount}/` } },
    });
    expect(await ask("/locations")).toMatchObject({
      value: expect.arrayContaining([expect.objectContaining({ name: "eastus" })]),
    });
    const usages = [];
    for await (const usage of compute.usage.list("eastus"))
      usages.push([usage.name?.value, usage.currentValue, usage.limit]);
    expect(usages).toContainEqual(["galleryImages", 1, 1000]);
    expect(await ask("/resourceGroups/elsewhere")).toMatchObject({ error: { code: "ResourceGroupNotFound" } });
    expect(await ask("/providers/Microsoft.Compute/virtualMachines")).toMatchObject({
      error: { code: "NotImplemented" },
    });
  });
});
