// What stands between a rule and a playbook: who it acts as, what it is told, where it runs. Ansible itself is played by
// test/interop/playbooks.test.ts and test/interop/takeover.test.ts.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { acceptDeliveries } from "../bus/inbox.ts";
import { parseConfig } from "../config/index.ts";
import { compiledRules } from "../config/rules.ts";
import { onThisWorker, type PlaybookRunner } from "../programs/playbooks/runner.ts";
import { dispatchEvents } from "./index.ts";
import { openStage, type Stage } from "./testing/stage.ts";

type Spec = Parameters<PlaybookRunner["play"]>[0];

let stage: Stage;
let directory: string;
const played: Spec[] = [];
beforeAll(async () => {
  stage = await openStage();
  directory = await mkdtemp(join(tmpdir(), "plays-"));
  for (const name of ["tag.yml", "org.example.known.yml"]) await writeFile(join(directory, name), "---\n[]\n");
});
afterAll(async () => {
  await stage?.close();
  await rm(directory, { recursive: true, force: true });
});
beforeEach(async () => {
  played.length = 0;
  await stage.database.pool.query("truncate inbox, quarantine, dispatches, rule_pauses cascade");
});

function configure(yaml: string, runner?: PlaybookRunner): void {
  const config = parseConfig(yaml.replaceAll("DIR", directory));
  const { playbooks, layout, require_user, users } = config.automation;
  stage.automation.rules = compiledRules(config);
  stage.automation.playbooks = {
    ...{
      directory: playbooks!,
      layout,
      requireUser: require_user,
      users,
      root: join(directory, "run"),
      limits: { nice: 5 },
    },
    runner: runner ?? {
      play: async (spec) => {
        played.push(spec);
        return { hosts: { localhost: HOST }, changed: true, tolerated: [] };
      },
    },
    secret: async () => "the secret itself",
  };
}
const HOST = { ok: 1, changed: 1, unreachable: 0, failed: 0, skipped: 0, rescued: 0, ignored: 0 };

async function come(id: string, topic: string, body: object = {}): Promise<unknown> {
  const content = Buffer.from(JSON.stringify(body));
  await acceptDeliveries(stage.services.db, "broker", [{ routingKey: topic, content, messageId: id }]);
  await dispatchEvents(stage.engine, stage.services);
  const row = await stage.services.db
    .selectFrom("dispatches")
    .select("run_id")
    .where("event_id", "=", id)
    .executeTakeFirst();
  return row?.run_id && stage.engine.result(row.run_id).catch((error: unknown) => error);
}

const USER =
  "users: { koji: { purpose: p, account: slipway_koji, key_file: DIR/key, hosts: [composer], playbooks: [tag.yml], become: true } }";

test("a playbook is told of its event and acts as its user, on that user's hosts", async () => {
  configure(`automation: { playbooks: DIR, ${USER} }
rules: [{ topic: org.example.tag, do: { playbook: { name: tag.yml, user: koji, secrets: { TOKEN: { env: T } } } } }]`);
  expect(await come("tag-1", "org.example.tag", { tag: "f44" })).toEqual({
    ...{ playbook: "tag.yml", hosts: { localhost: HOST }, changed: true, tolerated: [] },
    as: { user: "koji", remoteUser: "slipway_koji", become: true, limit: "composer" },
  });
  expect(played).toMatchObject([
    {
      event: { id: "tag-1", topic: "org.example.tag", body: { tag: "f44" } },
      ...{ remoteUser: "slipway_koji", privateKeyFile: join(directory, "key"), become: true, limit: "composer" },
      limits: { nice: 5 },
      ...{ secrets: ["the secret itself"], environment: { TOKEN: "the secret itself" } },
    },
  ]);
  const kept = await stage.database.pool.query("select to_jsonb(w) as row from dbos.workflow_input w");
  expect(JSON.stringify(kept.rows)).not.toContain("the secret itself");
});

test("what the user may not do is refused before anything starts, and not tried again", async () => {
  configure(`automation: { playbooks: DIR, ${USER} }
rules: [{ topic: org.example.tag, do: { playbook: { user: koji } } }]`);
  await writeFile(join(directory, "org.example.tag.yml"), "---\n[]\n");
  expect(await come("tag-2", "org.example.tag")).toMatchObject({
    ...{ code: "forbidden", message: "the automation user koji may not run org.example.tag.yml" },
  });
  expect(played).toEqual([]);
});

test("by topic only events that have a playbook start anything", async () => {
  configure("automation: { playbooks: DIR, by_topic: true }");
  expect(await come("unknown", "org.example.unknown")).toBeUndefined();
  expect(await come("escape", "../../etc/passwd")).toBeUndefined();
  expect(await come("known", "org.example.known")).toMatchObject({ playbook: "org.example.known.yml" });
});

test("a missing playbook is told, with where it was looked for", async () => {
  configure("automation: { playbooks: DIR }\nrules: [{ topic: org.example.x, do: { playbook: { name: gone.yml } } }]");
  expect(await come("gone", "org.example.x")).toMatchObject({ code: "not-found", next: expect.any(String) });
});

test("a service account is refused where there is no cluster", async () => {
  const yaml = `automation: { playbooks: DIR, ${USER.replace("become: true", "service_account: koji")} }
rules: [{ topic: org.example.y, do: { playbook: { name: tag.yml, user: koji } } }]`;
  configure(yaml, onThisWorker);
  expect(await come("cluster", "org.example.y")).toMatchObject({ code: "unsupported", subject: "koji" });
});
