/** Who a playbook acts as, and whether it may: decided before anything is started. Pure. */
import { matchesAny } from "../compose/wildcard.ts";
import type { PlaybookAction } from "../config/index.ts";
import { SlipwayError } from "../lib/errors.ts";
import type { Playbooks } from "./services.ts";

export interface ActsAs {
  /** In `automation.users`; undefined: nobody in particular, with the rights of the process. */
  readonly user?: string;
  readonly remoteUser?: string;
  readonly privateKeyFile?: string;
  /** In Kubernetes. */
  readonly serviceAccount?: string;
  readonly become: boolean;
  /** For Ansible's --limit; undefined: the whole inventory. */
  readonly limit?: string;
}

/**
 * @param playbook below the directory of playbooks
 * @throws SlipwayError `forbidden` for what the user may not do, and for no user where one is required
 */
export function actsAs(
  action: Pick<PlaybookAction, "user" | "limit">,
  playbook: string,
  { users, requireUser }: Pick<Playbooks, "users" | "requireUser">,
): ActsAs {
  const { user: name, limit } = action;
  if (name === undefined) {
    if (requireUser) throw refused("the rule names no automation user", playbook, "Set `user` of the rule's playbook.");
    return { become: false, ...(limit === undefined ? {} : { limit: limit.join(",") }) };
  }
  const user = Object.hasOwn(users, name) ? users[name] : undefined;
  if (user === undefined) throw refused(`there is no automation user ${name}`, playbook, "See automation.users.");
  if (!user.playbooks.some((pattern) => matchesPath(pattern, playbook))) {
    const next = `Have it allowed by whoever reviews automation.users.${name}.playbooks: slipway automation request.`;
    throw refused(`the automation user ${name} may not run ${playbook}`, playbook, next);
  }
  const elsewhere = limit?.find((host) => !user.hosts.includes(host));
  if (elsewhere !== undefined) {
    const next = `It may act on ${user.hosts.join(", ")}.`;
    throw refused(`the automation user ${name} may not act on ${elsewhere}`, playbook, next);
  }
  return {
    user: name,
    remoteUser: user.account,
    ...(user.key_file === undefined ? {} : { privateKeyFile: user.key_file }),
    ...(user.service_account === undefined ? {} : { serviceAccount: user.service_account }),
    become: user.become,
    limit: (limit ?? user.hosts).join(","),
  };
}

function refused(message: string, playbook: string, next: string): SlipwayError {
  return new SlipwayError("forbidden", message, { subject: playbook, next });
}

/** `*` is any part of one name, never a slash. */
export function matchesPath(pattern: string, path: string): boolean {
  const [wanted, given] = [pattern.split("/"), path.split("/")];
  return wanted.length === given.length && wanted.every((part, at) => matchesAny([part], given[at]!));
}
