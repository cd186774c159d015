import { randomBytes } from "node:crypto";
import {
  AccountSASPermissions,
  BlobSASPermissions,
  BlobServiceClient,
  ContainerSASPermissions,
  generateAccountSASQueryParameters,
  generateBlobSASQueryParameters,
  RestError,
  StorageSharedKeyCredential,
} from "@azure/storage-blob";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { REHEARSAL_KEY } from "./azure.ts";
import { account, type Rehearsed, rehearse } from "./testing.ts";

const key = new StorageSharedKeyCredential(account.storageAccount, REHEARSAL_KEY);
const HOUR = 3_600_000;

describe("signatures that the vendor's own library makes", () => {
  let rehearsed: Rehearsed;
  let now: number;
  beforeAll(async () => {
    rehearsed = await rehearse({ containers: ["vhds", "others"] });
    now = rehearsed.clock.now;
    await rehearsed.blobs().getContainerClient("vhds").getPageBlobClient("a b/ü.vhd").create(512);
  });
  afterAll(() => rehearsed[Symbol.asyncDispose]());

  function bearer(signature: { toString(): string } | string): BlobServiceClient {
    const options = { tlsOptions: { ca: rehearsed.ca }, retryOptions: { maxTries: 1 } };
    return new BlobServiceClient(`${rehearsed.url}/${account.storageAccount}?${signature}`, undefined, options);
  }
  const forBlob = (permissions: string, more: object = {}) =>
    generateBlobSASQueryParameters(
      {
        ...{ containerName: "vhds", blobName: "a b/ü.vhd", expiresOn: new Date(now + HOUR) },
        ...{ permissions: BlobSASPermissions.parse(permissions), ...more },
      },
      key,
    );
  const forContainer = (permissions: string) =>
    generateBlobSASQueryParameters(
      {
        ...{ containerName: "vhds", expiresOn: new Date(now + HOUR) },
        permissions: ContainerSASPermissions.parse(permissions),
      },
      key,
    );
  const forAccount = (permissions: string, resourceTypes: string, services = "b") =>
    generateAccountSASQueryParameters(
      {
        ...{ resourceTypes, services, expiresOn: new Date(now + HOUR), startsOn: new Date(now - HOUR) },
        permissions: AccountSASPermissions.parse(permissions),
      },
      key,
    );
  const blobOf = (service: BlobServiceClient, name = "a b/ü.vhd", container = "vhds") =>
    service.getContainerClient(container).getPageBlobClient(name);

  test("allow what they name", async () => {
    const data = randomBytes(512);
    await blobOf(bearer(forBlob("w"))).uploadPages(data, 0, 512);
    const read = await blobOf(bearer(forBlob("r", { contentType: "text/plain" }))).downloadToBuffer();
    expect(read.equals(data)).toBe(true);
    await blobOf(bearer(forContainer("c")), "new.vhd").create(512);
    const names = [];
    for await (const { name } of bearer(forContainer("l")).getContainerClient("vhds").listBlobsFlat()) names.push(name);
    expect(names.sort()).toEqual(["a b/ü.vhd", "new.vhd"]);
    await blobOf(bearer(forAccount("d", "o")), "new.vhd").delete();
    await bearer(forAccount("c", "c")).createContainer("made");
    const containers = [];
    for await (const { name } of bearer(forAccount("l", "s")).listContainers()) containers.push(name);
    expect(containers).toContain("made");
  });

  const refused: readonly { what: string; code: string; call: () => Promise<unknown> }[] = [
    {
      what: "another permission",
      code: "AuthorizationPermissionMismatch",
      call: () => blobOf(bearer(forBlob("r"))).delete(),
    },
    {
      what: "writing over what is there, with the right to create",
      code: "AuthorizationPermissionMismatch",
      call: () => blobOf(bearer(forBlob("c"))).create(512),
    },
    { what: "another blob", code: "AuthenticationFailed", call: () => blobOf(bearer(forBlob("r")), "x").exists() },
    {
      what: "another container",
      code: "AuthenticationFailed",
      call: () => blobOf(bearer(forContainer("r")), "x", "others").download(),
    },
    {
      what: "the container itself, with a signature for what is in it",
      code: "AuthorizationPermissionMismatch",
      call: () => bearer(forContainer("rwd")).getContainerClient("vhds").delete(),
    },
    {
      what: "another kind of resource",
      code: "AuthorizationResourceTypeMismatch",
      call: () => blobOf(bearer(forAccount("r", "sc"))).download(),
    },
    {
      what: "another service",
      code: "AuthorizationServiceMismatch",
      call: () => blobOf(bearer(forAccount("r", "o", "q"))).download(),
    },
    {
      what: "one that has ended",
      code: "AuthenticationFailed",
      call: () => blobOf(bearer(forBlob("r", { expiresOn: new Date(now - 1000) }))).download(),
    },
    {
      what: "one that has not begun",
      code: "AuthenticationFailed",
      call: () => blobOf(bearer(forBlob("r", { startsOn: new Date(now + 60_000) }))).download(),
    },
    {
      what: "more than was signed",
      code: "AuthenticationFailed",
      call: () => blobOf(bearer(forBlob("r").toString().replace("sp=r", "sp=rd"))).delete(),
    },
  ];
  test.each(refused)("do not allow $what", async ({ call, code }) => {
    const error = await call().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(RestError);
    expect(error).toMatchObject({ statusCode: 403 });
    // An answer to HEAD has its code in a header alone.
    expect((error as RestError).code ?? (error as RestError).response?.headers.get("x-ms-error-code")).toBe(code);
  });
});
