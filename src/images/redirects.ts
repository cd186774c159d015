/**
 * Which redirects a download follows. A public mirror must not be able to make a worker ask its own network
 * (metadata services, databases) or fall from https to http.
 */
import { lookup as dnsLookup } from "node:dns/promises";
import { BlockList, isIP } from "node:net";
import { SlipwayError } from "../lib/errors.ts";

/** Addresses of a host name; empty if it cannot be resolved here (behind a proxy that resolves for us). */
export type Lookup = (host: string) => Promise<readonly string[]>;

export const publicLookup: Lookup = async (host) => {
  const found = await dnsLookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => address);
};

export interface RedirectRules {
  /** For errors: the URL as asked for. */
  readonly url: string;
  readonly lookup: Lookup;
  readonly allowPrivate: readonly string[];
}

/**
 * Where to go next.
 * @throws SlipwayError `invalid` when the redirect leaves https, http(s) altogether, or the public network.
 */
export async function judgeRedirect(
  origin: URL,
  from: URL,
  location: string | undefined,
  rules: RedirectRules,
): Promise<URL> {
  const to = location === undefined ? null : URL.parse(location, from.href);
  if (to === null) throw refused(rules, "The server redirects without saying where to.");
  to.username = "";
  to.password = "";
  if (to.protocol !== "https:" && to.protocol !== "http:") {
    throw refused(rules, `The server redirects to ${to.protocol}, which is not followed.`);
  }
  if (from.protocol === "https:" && to.protocol === "http:") {
    throw refused(rules, `The server redirects from https to http (${to.host}), which is not followed.`);
  }
  if (to.host === from.host || rules.allowPrivate.some((host) => host === to.host || host === to.hostname)) return to;
  if ((await isPrivateHost(to.hostname, rules.lookup)) && !(await isPrivateHost(origin.hostname, rules.lookup))) {
    throw refused(
      rules,
      `A public server redirects to the private address of ${to.host}, which is not followed.`,
      `If that is meant, list ${to.hostname} among the hosts that may be private.`,
    );
  }
  return to;
}

/** Private, loopback, link-local (metadata services), shared, multicast, documentation and reserved ranges. */
const PRIVATE = new BlockList();
for (const [net, prefix] of [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["224.0.0.0", 4],
  ["240.0.0.0", 4],
] as const) {
  PRIVATE.addSubnet(net, prefix, "ipv4");
}
for (const [net, prefix] of [
  ["::", 128],
  ["::1", 128],
  ["64:ff9b::", 96],
  ["fc00::", 7],
  ["fe80::", 10],
  ["ff00::", 8],
] as const) {
  PRIVATE.addSubnet(net, prefix, "ipv6");
}

export function isPrivateAddress(address: string): boolean {
  const version = isIP(address);
  // BlockList compares IPv4 mapped into IPv6 (::ffff:10.0.0.1) with the IPv4 ranges by itself.
  return version !== 0 && PRIVATE.check(address, version === 6 ? "ipv6" : "ipv4");
}

async function isPrivateHost(hostname: string, lookup: Lookup): Promise<boolean> {
  const bare = hostname.replace(/^\[|\]$/g, "");
  if (isIP(bare)) return isPrivateAddress(bare);
  if (bare === "localhost" || bare.endsWith(".localhost")) return true;
  return (await lookup(bare)).some(isPrivateAddress);
}

function refused(rules: RedirectRules, message: string, next?: string): SlipwayError {
  return new SlipwayError("invalid", message, { subject: rules.url, next });
}
