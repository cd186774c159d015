import { createSecureContext, rootCertificates, type SecureContext } from "node:tls";

/** TLS settings as Node, undici and the vendors' agents take them. */
export interface Trust {
  readonly secureContext?: SecureContext;
}

/** By what is trusted. A process knows a handful of private authorities at most. */
const known = new Map<string, SecureContext>();

/**
 * Settings that trust private authorities beside the public ones; nothing for none.
 *
 * One context for all connections: given as `ca`, Node would parse all public certificates anew for every connection,
 * which costs each some 20 ms of processor time and megabytes until they are collected.
 * @param authorities PEM of certificates
 */
export function trusting(...authorities: readonly (string | undefined)[]): Trust {
  const extra = authorities.filter((pem) => pem !== undefined);
  if (extra.length === 0) return {};
  const name = extra.join("\n");
  let secureContext = known.get(name);
  if (secureContext === undefined) {
    secureContext = createSecureContext({ ca: [...rootCertificates, ...extra] });
    known.set(name, secureContext);
  }
  return { secureContext };
}
