import { access, constants, stat } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { SlipwayError } from "../lib/errors.ts";

/** What is used when the caller gives no PATH. */
export const USUAL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Debian's and Fedora's packages of what Slipway may be asked to run. */
const PACKAGES: Readonly<Record<string, string>> = {
  "ansible-playbook": "ansible-core",
  "ansible-runner": "python3-ansible-runner (Fedora: python3-ansible-runner, or pip: ansible-runner)",
  buildah: "buildah",
  packer: "packer (from HashiCorp's repository)",
  podman: "podman",
  skopeo: "skopeo",
  ssh: "openssh-client (Fedora: openssh-clients)",
};

/** Absolute path of a program, or undefined. A name with a slash has to be absolute. */
export async function findProgram(name: string, path: string): Promise<string | undefined> {
  if (isAbsolute(name)) return (await isExecutable(name)) ? name : undefined;
  if (name === "" || name.includes("/")) return undefined;
  for (const directory of path.split(delimiter)) {
    // An empty or relative entry means the current directory, which is the program's own.
    if (isAbsolute(directory) && (await isExecutable(join(directory, name)))) return join(directory, name);
  }
  return undefined;
}

/** @throws SlipwayError `not-found`, naming the package */
export async function needProgram(name: string, path: string): Promise<string> {
  const found = await findProgram(name, path);
  if (found !== undefined) return found;
  throw new SlipwayError("not-found", `the program ${name} is not installed on this worker`, {
    subject: name,
    tried: isAbsolute(name) ? "its path" : `looked in ${path}`,
    next: `Install ${PACKAGES[name] ?? `the package that has ${name}`}, or add its directory to the PATH of the program.`,
  });
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

export async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}
