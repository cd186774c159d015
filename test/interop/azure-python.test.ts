import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { fixedVhd } from "../../rehearsal/src/azure/testing.ts";
import { startRehearsal } from "../../rehearsal/src/index.ts";

/** The Python that test/interop/setup gave Azure's clients, else whichever is on the path. */
const tools = process.env.SLIPWAY_INTEROP_DIR;
const python = tools === undefined ? "python3" : join(tools, "python/bin/python3");
const present = hasClients();

// In CI a missing client is a failure, not a gap.
test.skipIf(!present && process.env.CI !== "true")(
  "Azure's Python clients find the simulated Azure to be Azure",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "azure-python-"));
    const rehearsal = await startRehearsal();
    try {
      const [ca, disk] = [join(directory, "ca.pem"), join(directory, "disk.vhd")];
      writeFileSync(ca, rehearsal.caPem);
      writeFileSync(disk, fixedVhd(3));
      const given = {
        ...{ ca, disk, account: rehearsal.credentials.azure, gallery: "Fedora", container: "vhds" },
        ...rehearsal.urls.azure,
      };
      const script = join(import.meta.dirname, "azure-client.py");
      const { stdout } = await promisify(execFile)(python, [script, JSON.stringify(given)]);
      const { judged, ...result } = JSON.parse(stdout);
      expect(judged).toBeGreaterThan(20);
      expect(result).toEqual({
        complaints: [],
        ranges: [
          [0, 1048575],
          [3145728, 3146239],
        ],
        same_bytes: true,
        beyond_end: [416, "InvalidPageRange"],
        leased: [412, "LeaseIdMissing"],
        definition: ["x64", "V2", ["SecurityType", "DiskControllerTypes", "IsAcceleratedNetworkSupported"]],
        other_arch: [409, "PropertyChangeNotAllowed"],
        version: ["Succeeded", 2, "Standard_ZRS", true, "2099-05-13", ["Completed"]],
        listed: ["44.1.0"],
        has_versions: [409, "CannotDeleteResource"],
        gone: [404, "ResourceNotFound"],
        blob_gone: true,
        wrong_secret: true,
      });
    } finally {
      await rehearsal.close();
      rmSync(directory, { recursive: true });
    }
  },
  120_000,
);

function hasClients(): boolean {
  try {
    execFileSync(python, ["-c", "import azure.identity, azure.mgmt.compute, azure.storage.blob"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
