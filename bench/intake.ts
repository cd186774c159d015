/**
 * Durable intake (every event committed to PostgreSQL, with fsync, then acknowledged) beside Python's fedora-messaging
 * with a callback that does nothing, so that it only acknowledges. The same RabbitMQ, the same messages, in turn. The
 * time is from the first message to the last; starting up is in neither.
 *
 *   node bench/intake.ts            INTAKE_COUNT and BENCH_ROUNDS say how many
 */
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { chmod } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { connect } from "amqplib";
import { startRabbit } from "../test/interop/rabbitmq.ts";

const COUNT = Number(process.env.INTAKE_COUNT ?? 20_000);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const tools = resolve(process.env.SLIPWAY_INTEROP_DIR ?? join(import.meta.dirname, "../.interop"));
const python = join(tools, "python/bin/fedora-messaging");
const run = promisify(execFile);

if (!existsSync("/usr/lib/rabbitmq/bin/rabbitmq-server") || !existsSync(python)) {
  console.log(JSON.stringify({ notRun: "RabbitMQ or fedora-messaging is not installed: see test/interop/setup" }));
} else {
  await compare();
}

async function compare(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "intake-"));
  await chmod(directory, 0o755);
  const rabbit = await startRabbit();
  try {
    const best = { ours: Number.POSITIVE_INFINITY, python: Number.POSITIVE_INFINITY };
    let fsync = "";
    for (let round = 0; round < ROUNDS; round++) {
      await fill(rabbit.url);
      // fedora-messaging's default is 10; more is kinder to it.
      const theirs = await pythons(directory, rabbit.url, 250);
      best.python = Math.min(best.python, theirs);
      await fill(rabbit.url);
      const mine = await ours(directory, rabbit.url, 250);
      best.ours = Math.min(best.ours, mine.seconds);
      fsync = mine.fsync;
    }
    console.log(
      JSON.stringify({
        what: "durable intake against acknowledging only",
        events: COUNT,
        rounds: ROUNDS,
        fsync,
        oursPerSecond: Math.round(COUNT / best.ours),
        pythonPerSecond: Math.round(COUNT / best.python),
        timesAsFast: Math.round((best.python / best.ours) * 100) / 100,
      }),
    );
  } finally {
    await rabbit.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A compose's status, as pungi tells it. */
async function fill(url: string): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue("intake", { durable: true });
  await channel.purgeQueue("intake");
  const stamp = Date.now();
  for (let n = 0; n < COUNT; n++) {
    const id = `Fedora-Rawhide-20260101.n.${n}`;
    const body = {
      ...{ status: "FINISHED_INCOMPLETE", compose_id: id, compose_label: null, compose_type: "nightly" },
      ...{ compose_date: "20260101", compose_respin: n, release_short: "Fedora", release_version: "Rawhide" },
      ...{ release_type: "ga", location: `https://kojipkgs.fedoraproject.org/compose/rawhide/${id}/compose` },
    };
    channel.sendToQueue("intake", Buffer.from(JSON.stringify(body)), {
      ...{ messageId: `${stamp}-${n}`, contentEncoding: "utf-8", contentType: "application/json", persistent: true },
      headers: {
        ...{ fedora_messaging_schema: "base.message", fedora_messaging_severity: 20, priority: 0 },
        "sent-at": "2026-01-01T00:00:00+00:00",
      },
    });
    if (n % 1000 === 999) await channel.waitForConfirms();
  }
  await channel.waitForConfirms();
  await connection.close();
}

async function pythons(directory: string, url: string, prefetch: number): Promise<number> {
  const config = join(directory, "config.toml");
  writeFileSync(
    config,
    `amqp_url = "${url}"\npassive_declares = true\n[qos]\nprefetch_size = 0\nprefetch_count = ${prefetch}\n` +
      "[queues.intake]\ndurable = true\nauto_delete = false\nexclusive = false\narguments = {}\n" +
      '[[bindings]]\nqueue = "intake"\nexchange = "amq.topic"\nrouting_keys = ["org.example.intake"]\n' +
      // Its log tells every message; that is left out.
      "[log_config]\nversion = 1\ndisable_existing_loggers = true\n" +
      '[log_config.handlers.console]\nclass = "logging.StreamHandler"\nstream = "ext://sys.stderr"\n' +
      '[log_config.root]\nlevel = "ERROR"\nhandlers = ["console"]\n' +
      '[log_config.loggers.fedora_messaging]\nlevel = "ERROR"\npropagate = true\n',
  );
  const file = `${join(import.meta.dirname, "lib/intake-python.py")}:callback`;
  const { stdout } = await run(python, ["--conf", config, "consume", "--callback-file", file], {
    env: { PATH: process.env.PATH, INTAKE_COUNT: String(COUNT) },
  });
  return JSON.parse(stdout).seconds;
}

async function ours(directory: string, url: string, prefetch: number): Promise<{ seconds: number; fsync: string }> {
  const { stdout } = await run(process.execPath, [join(import.meta.dirname, "lib/intake-ours.ts")], {
    env: {
      ...{ PATH: process.env.PATH, INTAKE_COUNT: String(COUNT), INTAKE_URL: url },
      ...{ INTAKE_DATA: join(directory, "data"), INTAKE_PREFETCH: String(prefetch) },
    },
  });
  return JSON.parse(stdout);
}
