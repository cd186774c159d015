/**
 * Which playbook an event's topic means, as loopabull had it: the file of that name.
 *
 * Whoever may publish chooses the topic, so the name is confined: no topic leads out of the directory.
 */
import { realpath, stat } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { SlipwayError } from "../../lib/errors.ts";
import { MiB } from "../../lib/units.ts";

export interface Playbook {
  /** Absolute, without links. */
  readonly file: string;
  /** The directory it was looked for in, absolute, without links. */
  readonly directory: string;
  /** As it was asked for, relative to the directory. */
  readonly name: string;
}

/** `name`: `DIR/org.example.thing.yml` (loopabull's rkname) · `directories`: `DIR/org/example/thing.yml` (rkdirectory). */
export type TopicLayout = "name" | "directories";

const MOST_BYTES = 4 * MiB;
const MOST_TOPIC_BYTES = 255;
/** Of one name in a directory. */
const MOST_NAME_BYTES = 255;

/**
 * The playbook of exactly this topic. Reads nothing but names.
 * @throws SlipwayError `invalid` for a topic that names no file, `not-found` if there is none,
 * `forbidden` if it is a link out of the directory
 */
export async function playbookForTopic(
  directory: string,
  topic: string,
  layout: TopicLayout = "name",
): Promise<Playbook> {
  const problem = problemWithTopic(topic, layout);
  if (problem !== undefined) {
    throw new SlipwayError("invalid", `the topic cannot name a playbook: ${problem}`, { subject: topic.slice(0, 300) });
  }
  const name = `${layout === "name" ? topic : topic.replaceAll(".", sep)}.yml`;
  return findInside(directory, name, `Put the playbook for this topic there, or name another one in the rule.`);
}

/**
 * The playbook a rule names, relative to the directory; it may be in a folder below.
 * @throws SlipwayError as `playbookForTopic`; `forbidden` for a path with `..`, or an absolute one
 */
export async function namedPlaybook(directory: string, path: string): Promise<Playbook> {
  const words = path.split("/");
  if (path.startsWith("/") || words.includes("..")) {
    throw new SlipwayError("forbidden", `the playbook ${JSON.stringify(path)} is outside of its directory`, {
      subject: path,
      next: "Name it relative to the directory of playbooks.",
    });
  }
  if (path.includes("\0") || words.some((word) => word === "" || word === ".") || !/\.ya?ml$/.test(path)) {
    throw new SlipwayError("invalid", `${JSON.stringify(path)} is no path of a playbook`, {
      subject: path,
      next: "A playbook's name ends with .yml or .yaml.",
    });
  }
  return findInside(directory, path, "Check the playbook's name in the rule.");
}

function problemWithTopic(topic: string, layout: TopicLayout): string | undefined {
  const bytes = Buffer.byteLength(topic);
  if (bytes > MOST_TOPIC_BYTES) return `it has ${bytes} bytes, more than ${MOST_TOPIC_BYTES}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  if (/[\0-\u001f\u007f/\\]/.test(topic)) return "it holds a slash or a control character";
  if (!topic.isWellFormed()) return "it is no well-formed text";
  // Covers `..` and a name that begins with a dot, which is hidden.
  if (topic.split(".").includes("")) return "a word of it is empty";
  if (layout === "name" && bytes + ".yml".length > MOST_NAME_BYTES) {
    return `a file's name has at most ${MOST_NAME_BYTES} bytes, with .yml it would have ${bytes + 4}`;
  }
  return undefined;
}

async function findInside(directory: string, name: string, next: string): Promise<Playbook> {
  const missing = (cause: unknown, what: string) =>
    new SlipwayError("not-found", what, { subject: join(directory, name), next, cause });
  const inside = await realpath(directory).catch((cause: unknown) => {
    throw missing(cause, `the directory of playbooks ${directory} is not there`);
  });
  const file = await realpath(join(inside, name)).catch((cause: unknown) => {
    throw missing(cause, `there is no playbook ${name} in ${directory}`);
  });
  if (!file.startsWith(inside.endsWith(sep) ? inside : inside + sep)) {
    throw new SlipwayError("forbidden", `the playbook ${name} is a link out of ${directory}`, {
      subject: join(directory, name),
      next: `Put the file itself there, or name ${dirname(file)} as the directory of playbooks.`,
    });
  }
  const found = await stat(file);
  if (!found.isFile() || found.size > MOST_BYTES) {
    const what = found.isFile() ? `larger than ${MOST_BYTES} bytes` : "no plain file";
    throw new SlipwayError("invalid", `the playbook ${name} is ${what}`, { subject: file });
  }
  return { file, directory: inside, name };
}
