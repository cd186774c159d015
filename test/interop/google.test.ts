import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startRehearsal } from "../../rehearsal/src/index.ts";

/** The Python that test/interop/setup gave Google's clients, else whichever is on the path. */
const tools = process.env.SLIPWAY_INTEROP_DIR;
const python = tools === undefined ? "python3" : join(tools, "python/bin/python3");
const present = hasClients();

// In CI a missing client is a failure, not a gap.
test.skipIf(!present && process.env.CI !== "true")(
  "Google's clients find the simulated Google Cloud to be Google's",
  async () => {
    const directory = mkdtempSync(join(tmpdir(), "google-"));
    const rehearsal = await startRehearsal();
    try {
      const { project, bucket, serviceAccount } = rehearsal.credentials.gcp;
      const ca = join(directory, "ca.pem");
      const key = join(directory, "key.json");
      writeFileSync(ca, rehearsal.caPem);
      writeFileSync(key, JSON.stringify(serviceAccount));
      const script = join(import.meta.dirname, "google-client.py");
      const trust = { REQUESTS_CA_BUNDLE: ca, HTTPLIB2_CA_CERTS: ca, SSL_CERT_FILE: ca };
      const { stdout } = await promisify(execFile)(python, [script, rehearsal.urls.gcp, key, project, bucket], {
        env: { ...process.env, ...trust },
      });
      expect(JSON.parse(stdout)).toEqual({
        components: 2,
        no_md5: true,
        download: true,
        range: true,
        listed: ["a b/1", "a b/2"],
        inserted: [],
        image: ["READY", "1", { made: "here" }],
        again: 409,
        no_archive: ["INVALID_IMAGE"],
        patched: [],
        family: "from-google",
        policy: [{ role: "roles/compute.imageUser", members: ["allAuthenticatedUsers"] }],
        deprecated: [],
        family_empty: 404,
        quota: [1],
        deleted: [],
        left: [],
        unknown: 501,
        would_find: [
          "Image.nmae: unknown",
          "Image.status: NOPE is none of the enum",
          "Image.family: not a string",
          "Image.id: 1x is no number",
        ],
        answers: 8,
        strangers: [],
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
    execFileSync(python, ["-c", "import googleapiclient, google.cloud.storage"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
