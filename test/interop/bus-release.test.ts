// The whole way: fedora-messaging tells of a finished compose, Slipway releases it to simulated clouds and registries, and
// fedora-messaging receives the announcements and finds them valid.
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { setStage } from "../release/stage.ts";
import { hasRabbit, type Rabbit, startRabbit } from "./rabbitmq.ts";

const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../../.interop"));
const PREFIX = "org.fedoraproject.prod";

describe.skipIf(!hasRabbit)("from the bus to the clouds and back", () => {
  let rabbit: Rabbit;
  beforeAll(async () => {
    rabbit = await startRabbit();
    process.env.BUS_RELEASE_URL = rabbit.url;
  });
  afterAll(() => rabbit?.close());

  const python = (program: string, ...args: string[]) =>
    promisify(execFile)(join(tools, "python/bin", program), args, { env: { PATH: process.env.PATH } });

  test("a finished compose is released and announced once, however often it is told", {
    timeout: 300_000,
  }, async () => {
    await using stage = await setStage({
      arches: ["x86_64"],
      configure(config) {
        config.bus = {
          url: { env: "BUS_RELEASE_URL" },
          queue: "slipway",
          topics: [`${PREFIX}.pungi.#`],
          topic_prefix: PREFIX,
        };
        config.rules = [{ topic: `${PREFIX}.pungi.compose.status.change` }];
        config.console = { listen: "off" };
      },
    });
    const file = (name: string, content: string) => {
      writeFileSync(join(stage.directory, name), content);
      return join(stage.directory, name);
    };
    const conf = file(
      "python.toml",
      `amqp_url = "${rabbit.url}"\ntopic_prefix = "${PREFIX}"\n[queues.recorder]\ndurable = true\nauto_delete = false\n` +
        'exclusive = false\narguments = {}\n[[bindings]]\nqueue = "recorder"\nexchange = "amq.topic"\n' +
        `routing_keys = ["${PREFIX}.fedora_image_uploader.published.#"]\n`,
    );
    // The readers are there before anything is told.
    const recorded = join(stage.directory, "recorded.jsonl");
    const recorder = python("fedora-messaging", "--conf", conf, "record", "--limit", "4", recorded);
    const service = stage.start(["serve"], { hurry: true });
    await service.said("Waiting for work");

    const id = stage.compose.split("/").at(-2)!;
    const told = (status: string, message: string) =>
      JSON.stringify({
        topic: "pungi.compose.status.change",
        body: { status, compose_id: id, location: stage.compose },
        headers: { fedora_messaging_schema: "base.message", fedora_messaging_severity: 20 },
        id: message,
      });
    const messages = [told("STARTED", "1"), told("FINISHED", "2"), told("FINISHED", "2"), told("FINISHED", "3")];
    await expect.poll(() => consumers(rabbit), { timeout: 30_000 }).toBeGreaterThanOrEqual(2);
    await python("fedora-messaging", "--conf", conf, "publish", file("told.jsonl", `${messages.join("\n")}\n`));

    await recorder;
    const judged = (await python("python3", join(import.meta.dirname, "judge-messages.py"), recorded)).stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(judged.map((one) => one.class).sort()).toEqual([
      ...["AwsPublishedV1", "AzurePublishedV1", "ContainerPublishedV1", "ContainerPublishedV1"],
    ]);
    for (const one of judged) expect(one.topic.startsWith(`${PREFIX}.fedora_image_uploader.published.v1.`)).toBe(true);
    const bodies = readFileSync(recorded, "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line).body);
    expect(bodies.map((body) => body.compose_id)).toEqual([id, id, id, id]);

    const json = async (...args: string[]) => JSON.parse((await stage.slipway([...args, "--output", "json"])).stdout);
    await expect
      .poll(async () => (await json("events", "list")).map((one: { rules: { run?: string }[] }) => one.rules[0]?.run), {
        timeout: 60_000,
        interval: 1000,
      })
      .toEqual(["done", "done", undefined]);
    const releases = (await json("runs", "list")).filter(
      (run: { workflow: string }) => run.workflow === "release-compose",
    );
    expect(releases).toHaveLength(1);
    service.process.kill("SIGTERM");
    expect((await service.finished).code).toBe(0);
  });
});

async function consumers(rabbit: Rabbit): Promise<number> {
  const text = await rabbit.ctl("list_queues", "--no-table-headers", "name", "consumers").catch(() => "");
  return [...text.matchAll(/^\S+\s+(\d+)$/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}
