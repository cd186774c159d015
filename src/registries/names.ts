import type { Digest } from "../images/container.ts";
import { SlipwayError } from "../lib/errors.ts";

/** Where a registry is: `https://quay.io` and a prefix for repositories. */
export interface RegistryAddress {
  /** Scheme, host and port. */
  readonly origin: string;
  /** Path prefix of every repository, without slashes at its ends; may be empty. */
  readonly prefix: string;
  /** As people write it: `quay.io/fedora`. */
  readonly display: string;
}

// The specification's grammars.
// https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#pulling-manifests
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/**
 * Reads `quay.io/fedora`, `https://quay.io/fedora` or, for a registry on this machine, `http://localhost:5000`.
 * @throws SlipwayError `invalid` if it is no such thing, or is http to another machine
 */
export function parseAddress(url: string, insecure: boolean): RegistryAddress {
  const refuse = (why: string, next?: string) => new SlipwayError("invalid", `Registry "${url}": ${why}`, { next });
  let parsed: URL;
  try {
    parsed = new URL(/^[a-z]+:\/\//i.test(url) ? url : `${insecure ? "http" : "https"}://${url}`);
  } catch {
    throw new SlipwayError("invalid", "A registry's address cannot be read", { next: "write it as quay.io/fedora" });
  }
  if (parsed.username || parsed.password) {
    throw new SlipwayError("invalid", `Registry "${parsed.host}": credentials do not belong into the address`, {
      next: "put them under the registry's credentials",
    });
  }
  if (parsed.search || parsed.hash) throw refuse("has a query or fragment", "write it as quay.io/fedora");
  if (parsed.protocol !== "https:" && parsed.protocol !== "http:")
    throw refuse(`${parsed.protocol} is not spoken here`);
  if (parsed.protocol === "http:" && !(insecure && isLoopback(parsed.hostname))) {
    throw refuse("plain http is allowed to this machine only", "use https; a private CA can be given as `ca`");
  }
  const prefix = parsed.pathname.replace(/^\/+|\/+$/g, "");
  if (prefix && !REPOSITORY.test(prefix)) throw refuse(`"${prefix}" cannot begin a repository's name`);
  const display = prefix ? `${parsed.host}/${prefix}` : parsed.host;
  // Docker Hub's API lives beside the name people use for it.
  const origin = parsed.host === "docker.io" ? "https://registry-1.docker.io" : parsed.origin;
  return { origin, prefix, display };
}

/** The registry's own name of a repository of ours: prefix and all. */
export function repositoryPath(address: RegistryAddress, repository: string): string {
  const path = address.prefix ? `${address.prefix}/${repository}` : repository;
  if (path.length > 255 || !REPOSITORY.test(path)) {
    throw new SlipwayError("invalid", `"${repository}" is not a repository's name`, {
      subject: repository,
      next: "use lower-case letters and digits, separated by . _ - or /",
    });
  }
  return path;
}

/** @throws SlipwayError `invalid` if it is neither a tag nor a sha256 digest */
export function checkReference(reference: string): void {
  if (!TAG.test(reference) && !DIGEST.test(reference)) {
    throw new SlipwayError("invalid", `"${reference.slice(0, 140)}" is neither a tag nor a sha256 digest`);
  }
}

export function checkTag(tag: string): void {
  if (!TAG.test(tag)) {
    throw new SlipwayError("invalid", `"${tag.slice(0, 140)}" is not a tag`, {
      next: "1 to 128 letters, digits, '.', '_' or '-', not beginning with '.' or '-'",
    });
  }
}

export function isDigest(text: unknown): text is Digest {
  return typeof text === "string" && DIGEST.test(text);
}

export function isLoopback(hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  return host === "localhost" || host === "::1" || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}
