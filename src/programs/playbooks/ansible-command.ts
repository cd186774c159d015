/** How Ansible is called: arguments, environment and the files it wants. */
import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SlipwayError } from "../../lib/errors.ts";
import { KiB } from "../../lib/units.ts";
import { isFile } from "../find-program.ts";
import type { Place } from "../private-place.ts";
import type { Playbook } from "./find-playbook.ts";

export interface AnsibleOptions {
  /** A file, a directory, or hosts with commas as Ansible takes them. The configuration's if absent. */
  readonly inventory?: string;
  readonly vaultPasswordFile?: string;
  readonly remoteUser?: string;
  readonly privateKeyFile?: string;
  /** Become root, or who the playbook says, on the hosts. */
  readonly become?: boolean;
  /** Which of the inventory's hosts. */
  readonly limit?: string;
  readonly tags?: readonly string[];
  /** Say what would change, change nothing. */
  readonly check?: boolean;
}

export const VARIABLES = "event.yml";

/** Arguments that ansible-playbook and ansible-runner share. A value is never an argument of its own: it may begin with a dash. */
export function ansibleArguments(options: AnsibleOptions, place: Place): string[] {
  if (options.limit?.startsWith("@")) {
    throw new SlipwayError("invalid", "a limit that begins with @ would read a file", { subject: options.limit });
  }
  const flag = (name: string, value: string | undefined) => (value === undefined ? [] : [`--${name}=${value}`]);
  return [
    `--extra-vars=@${join(place.work, VARIABLES)}`,
    ...flag("inventory", options.inventory),
    ...flag("vault-password-file", options.vaultPasswordFile),
    ...flag("user", options.remoteUser),
    ...flag("private-key", options.privateKeyFile),
    ...flag("limit", options.limit),
    ...flag("tags", options.tags?.length ? options.tags.join(",") : undefined),
    ...(options.become ? ["--become"] : []),
    ...(options.check ? ["--check"] : []),
  ];
}

/** The runner's private_data_dir is the program's directory; its arguments for Ansible stand in a file there. */
export async function prepareRunner(options: AnsibleOptions, place: Place): Promise<void> {
  await mkdir(join(place.work, "env"));
  const quoted = ansibleArguments(options, place).map((word) => `'${word.replaceAll("'", `'"'"'`)}'`);
  await writeFile(join(place.work, "env/cmdline"), quoted.join(" "), { mode: 0o600 });
}

export function runnerArguments({ file }: Playbook, place: Place): string[] {
  return ["run", place.work, "--json", "--project-dir", dirname(file), "--playbook", basename(file), "--ident", "play"];
}

export async function ansibleEnvironment({ file, directory }: Playbook): Promise<Record<string, string>> {
  const configs = [join(dirname(file), "ansible.cfg"), join(directory, "ansible.cfg")];
  let config: string | undefined;
  for (const path of configs) if (config === undefined && (await isFile(path))) config = path;
  return {
    ...(config === undefined ? {} : { ANSIBLE_CONFIG: config }),
    // What is read has to be in the form that is read, whatever the configuration says; more words print variables.
    ...{ ANSIBLE_STDOUT_CALLBACK: "default", ANSIBLE_CALLBACK_RESULT_FORMAT: "json", ANSIBLE_NOCOLOR: "1" },
    ...{ ANSIBLE_DISPLAY_SKIPPED_HOSTS: "1", ANSIBLE_DISPLAY_OK_HOSTS: "1", ANSIBLE_VERBOSITY: "0" },
    ...{ ANSIBLE_RETRY_FILES_ENABLED: "0", PYTHONUNBUFFERED: "1" },
  };
}

const MOST_SECRET = 64 * KiB;

/**
 * What stands in the files of secrets, so that it can be masked. A password file that is a program has nothing to mask.
 * @throws SlipwayError `unauthenticated`, naming the file
 */
export async function secretsIn({ vaultPasswordFile, privateKeyFile }: AnsibleOptions): Promise<string[]> {
  const secrets: string[] = [];
  for (const path of [vaultPasswordFile, privateKeyFile]) {
    if (path === undefined) continue;
    try {
      const { mode, size } = await stat(path);
      const isProgram = path === vaultPasswordFile && (mode & 0o111) !== 0;
      if (!isProgram && size <= MOST_SECRET) secrets.push((await readFile(path, "utf8")).trim());
    } catch (cause) {
      throw new SlipwayError("unauthenticated", `the file of secrets ${path} cannot be read`, {
        subject: path,
        next: "Check that the file is there and that Slipway may read it.",
        cause,
      });
    }
  }
  return secrets;
}
