/** A RabbitMQ of its own for a suite: plain and with TLS, client certificates and EXTERNAL, killed and started at will. */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const BIN = "/usr/lib/rabbitmq/bin";

/** Suites that want it skip themselves where it is not, except in CI. */
export const hasRabbit = existsSync(`${BIN}/rabbitmq-server`);
if (!hasRabbit && process.env.CI) throw new Error("RabbitMQ is not installed");

/** Erlang takes some seconds to begin, and twice as many beside other suites. */
const START_MS = 90_000;

export interface Rabbit {
  /** As user guest. */
  readonly url: string;
  /** For somebody with a client certificate: the user is its common name. */
  readonly tlsUrl: string;
  readonly caFile: string;
  /** Makes a certificate for a user, and the user, who may do what is said (regular expressions of names). */
  user(name: string, may?: { configure: string; write: string; read: string }): Promise<{ cert: string; key: string }>;
  ctl(...args: string[]): Promise<string>;
  /** Ends it without a word, and starts it again with what it had on disk. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

export async function startRabbit(): Promise<Rabbit> {
  const directory = mkdtempSync(join(tmpdir(), "rabbit-"));
  const [port, tlsPort, distribution] = await Promise.all([freePort(), freePort(), freePort()]);
  const node = `slipway-${randomBytes(4).toString("hex")}@localhost`;
  const file = (name: string) => join(directory, name);
  makeAuthority(directory);
  certify(directory, "server", "localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1");
  writeFileSync(file("enabled_plugins"), "[rabbitmq_auth_mechanism_ssl].\n");
  writeFileSync(
    file("rabbitmq.conf"),
    [
      `listeners.tcp.1 = 127.0.0.1:${port}`,
      `listeners.ssl.1 = 127.0.0.1:${tlsPort}`,
      `ssl_options.cacertfile = ${file("ca.pem")}`,
      `ssl_options.certfile = ${file("server.pem")}`,
      `ssl_options.keyfile = ${file("server.key")}`,
      "ssl_options.verify = verify_peer",
      "ssl_options.fail_if_no_peer_cert = true",
      "ssl_cert_login_from = common_name",
      "auth_mechanisms.1 = EXTERNAL",
      "auth_mechanisms.2 = PLAIN",
      "log.console = false",
      "loopback_users = none",
      "",
    ].join("\n"),
  );
  mkdirSync(file("home"));
  const env = {
    PATH: `${BIN}:/usr/sbin:/usr/bin:/sbin:/bin`,
    HOME: file("home"),
    RABBITMQ_NODENAME: node,
    RABBITMQ_CONFIG_FILE: file("rabbitmq.conf"),
    RABBITMQ_CONF_ENV_FILE: "/nonexistent",
    RABBITMQ_ENABLED_PLUGINS_FILE: file("enabled_plugins"),
    RABBITMQ_MNESIA_BASE: file("mnesia"),
    RABBITMQ_LOG_BASE: file("log"),
    RABBITMQ_PID_FILE: file("pid"),
    RABBITMQ_DIST_PORT: String(distribution),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    // Two schedulers for two cores: Erlang would spin on idle ones.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
  };
  let server: ChildProcess | undefined;

  async function ctl(...args: string[]): Promise<string> {
    const { stdout } = await promisify(execFile)(join(BIN, "rabbitmqctl"), ["-q", "-n", node, ...args], { env });
    return stdout;
  }
  async function start(): Promise<void> {
    const output: string[] = [];
    server = spawn(join(BIN, "rabbitmq-server"), { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
    for (const stream of [server.stdout!, server.stderr!]) stream.on("data", (text) => output.push(String(text)));
    const deadline = Date.now() + START_MS;
    for (;;) {
      const ready = await ctl("await_startup", "--timeout", "10").catch(() => undefined);
      if (ready !== undefined) return;
      if (Date.now() > deadline || server.exitCode !== null) {
        throw new Error(`RabbitMQ did not start: ${output.join("").slice(-2000)}`);
      }
      await new Promise((done) => setTimeout(done, 200));
    }
  }
  async function kill(): Promise<void> {
    if (server?.pid === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((done) => server!.once("exit", done));
    process.kill(-server.pid, "SIGKILL");
    await ended;
  }

  await start();
  return {
    url: `amqp://guest:guest@127.0.0.1:${port}`,
    tlsUrl: `amqps://localhost:${tlsPort}`,
    caFile: file("ca.pem"),
    ctl,
    start,
    kill,
    async user(name, may = { configure: ".*", write: ".*", read: ".*" }) {
      certify(directory, name, name, "extendedKeyUsage=clientAuth");
      await ctl("add_user", name, randomBytes(12).toString("hex"));
      await ctl("clear_password", name);
      await ctl("set_permissions", name, may.configure, may.write, may.read);
      return { cert: file(`${name}.pem`), key: file(`${name}.key`) };
    },
    async close() {
      await kill();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function makeAuthority(directory: string): void {
  openssl(
    directory,
    "req",
    "-x509",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-days",
    "30",
    "-subj",
    "/CN=broker authority",
    "-keyout",
    "ca.key",
    "-out",
    "ca.pem",
  );
}

function certify(directory: string, name: string, commonName: string, extension: string): void {
  openssl(
    directory,
    "req",
    "-new",
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-subj",
    `/CN=${commonName}`,
    "-keyout",
    `${name}.key`,
    "-out",
    `${name}.csr`,
  );
  writeFileSync(join(directory, `${name}.ext`), `${extension}\n`);
  openssl(
    directory,
    "x509",
    "-req",
    "-in",
    `${name}.csr`,
    "-CA",
    "ca.pem",
    "-CAkey",
    "ca.key",
    "-CAcreateserial",
    "-days",
    "30",
    "-extfile",
    `${name}.ext`,
    "-out",
    `${name}.pem`,
  );
}

function openssl(directory: string, ...args: string[]): void {
  execFileSync("openssl", args, { cwd: directory, stdio: "pipe" });
}

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
