/** gsutil, unchanged, against the simulated Cloud Storage: sessions that are cut and gone on with, parts, hash checks. */
import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Rehearsal, type RuleInput, startRehearsal } from "../../rehearsal/src/index.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const program = join(tools, "gsutil/bin/gsutil");
const present = existsSync(program);
if (!present && process.env.CI === "true") throw new Error(`not there: ${program}`);

const MIB = 2 ** 20;

describe.skipIf(!present)("gsutil finds the simulated bucket to be Google's", () => {
  let rehearsal: Rehearsal;
  let directory: string;
  let bucket: string;
  const data = randomBytes(9 * MIB + 12_345);

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "gsutil-"));
    rehearsal = await startRehearsal({ blobDir: join(directory, "blobs") });
    const { project, serviceAccount } = rehearsal.credentials.gcp;
    bucket = `gs://${rehearsal.credentials.gcp.bucket}`;
    const { hostname, port } = new URL(rehearsal.urls.gcp);
    writeFileSync(join(directory, "ca.crt"), rehearsal.caPem);
    writeFileSync(join(directory, "gcp.json"), JSON.stringify(serviceAccount));
    writeFileSync(join(directory, "disk"), data);
    writeFileSync(
      join(directory, "boto"),
      [
        ...["[Boto]", `ca_certificates_file = ${directory}/ca.crt`, "max_retry_delay = 1"],
        ...["[Credentials]", `gs_json_host = ${hostname}`, `gs_json_port = ${port}`],
        ...[`gs_service_key_file = ${directory}/gcp.json`],
        ...["[OAuth2]", `provider_token_uri = ${rehearsal.urls.gcp}/token`],
        ...["[GSUtil]", `default_project_id = ${project}`, `state_dir = ${directory}/state`],
        // Several pieces of what it sends in one by default.
        `json_resumable_chunk_size = ${2 * MIB}`,
      ].join("\n"),
    );
  });
  afterEach(() => {
    rehearsal.load({});
    rehearsal.simulators.gcp.reset();
  });
  afterAll(async () => {
    await rehearsal?.close();
    rmSync(directory, { recursive: true, force: true });
  });

  function run(...args: string[]): Promise<{ code: number | string | null; stdout: string; stderr: string }> {
    const env = { PATH: process.env.PATH, HOME: directory, BOTO_CONFIG: join(directory, "boto") };
    return new Promise((done) => {
      execFile(program, args, { env, cwd: directory, timeout: 60_000 }, (error, stdout, stderr) =>
        done({ code: error ? (error.code ?? null) : 0, stdout, stderr }),
      );
    });
  }
  async function gsutil(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await run("-q", ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    return stdout;
  }
  const file = (name: string) => readFileSync(join(directory, name));
  const stored = () => rehearsal.simulators.gcp.objects().map(({ name, bytes, md5 }) => ({ name, bytes, md5 }));
  const whole = { bytes: data.length, md5: createHash("md5").update(data).digest("base64") };
  const seen = (operation: string) => rehearsal.proxies.gcp.counts().operations[`storage:${operation}@`];

  test("it sends small and large files, lists folders, copies, moves, reads back and removes", async () => {
    writeFileSync(join(directory, "small"), "small\n");
    await gsutil("cp", "small", `${bucket}/a b/small`);
    await gsutil("cp", "disk", `${bucket}/disk`);
    expect(stored()).toMatchObject([
      { name: "a b/small", bytes: 6 },
      { name: "disk", ...whole },
    ]);
    expect(readdirSync(join(directory, "blobs/gcp"))).toHaveLength(2);
    expect((await gsutil("ls", bucket)).split("\n")).toEqual([`${bucket}/disk`, `${bucket}/a b/`, ""]);
    expect(await gsutil("ls")).toBe(`${bucket}/\n`);
    await gsutil("cp", `${bucket}/disk`, "back");
    expect(file("back").equals(data)).toBe(true);
    await gsutil("cp", `${bucket}/disk`, `${bucket}/copy`);
    await gsutil("mv", `${bucket}/a b/small`, `${bucket}/moved`);
    expect(await gsutil("cat", "-r", "1-3", `${bucket}/moved`)).toBe("mal");
    expect((await run("cp", "-n", "small", `${bucket}/moved`)).stderr).toContain("Skipping existing item");
    await gsutil("rm", `${bucket}/disk`, `${bucket}/copy`, `${bucket}/moved`);
    expect(stored()).toEqual([]);
    expect(readdirSync(join(directory, "blobs/gcp"))).toEqual([]);
    expect((await run("ls", `${bucket}/disk`)).stderr).toContain("One or more URLs matched no objects");
  });

  test("parts that are sent at the same time are joined, and removed", async () => {
    const parts = ["parallel_composite_upload_threshold", "parallel_composite_upload_component_size"];
    await gsutil(...parts.flatMap((one) => ["-o", `GSUtil:${one}=3M`]), "cp", "disk", `${bucket}/disk`);
    expect(stored()).toEqual([{ name: "disk", bytes: data.length, md5: undefined }]);
    expect([seen("objects.compose"), rehearsal.simulators.gcp.objects()[0]!.components]).toEqual([1, 4]);
    const slices = ["sliced_object_download_threshold", "sliced_object_download_component_size"];
    await gsutil(...slices.flatMap((one) => ["-o", `GSUtil:${one}=3M`]), "cp", `${bucket}/disk`, "sliced");
    expect(file("sliced").equals(data)).toBe(true);
  });

  test.each<{ what: string; rule: RuleInput }>([
    { what: "a piece was refused", rule: { name: "x", fault: "status", status: 503, times: 1, after: 2 } },
    { what: "the connection was cut", rule: { name: "x", fault: "reset", times: 1, after: 2 } },
    { what: "a piece's answer was lost", rule: { name: "x", fault: "lost-answer", times: 1, after: 2 } },
    { what: "the last answer was lost", rule: { name: "x", fault: "lost-answer", times: 1, after: 4 } },
  ])("an upload goes on after $what", async ({ rule }) => {
    rehearsal.set({ ...rule, match: { cloud: "gcp", method: "PUT" } });
    const { code, stderr } = await run("cp", "disk", `${bucket}/disk`);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    expect(rehearsal.proxies.gcp.counts().rules.x).toMatchObject({ applied: 1 });
    expect(stored()).toEqual([{ name: "disk", ...whole }]);
    expect(rehearsal.simulators.gcp.uploads()).toHaveLength(1);
  });

  test("what was changed on the way is found by its hash, there and back, and does not stay", async () => {
    rehearsal.set({
      ...{ name: "up", fault: "flip-bit", in: "request", after: 1, times: 1 },
      match: { cloud: "gcp", method: "PUT" },
    });
    const up = await run("cp", "disk", `${bucket}/disk`);
    expect([up.code, up.stderr]).toEqual([1, expect.stringContaining("doesn't match")]);
    expect(stored()).toEqual([]);
    await gsutil("cp", "disk", `${bucket}/disk`);
    rehearsal.set({
      ...{ name: "down", fault: "flip-bit", in: "response", times: 1 },
      match: { cloud: "gcp", path: "/download/*" },
    });
    const down = await run("cp", `${bucket}/disk`, "spoiled");
    expect([down.code, down.stderr]).toEqual([1, expect.stringContaining("doesn't match")]);
    expect(existsSync(join(directory, "spoiled"))).toBe(false);
  });
});
