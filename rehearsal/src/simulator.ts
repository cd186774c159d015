import type http from "node:http";

/**
 * One vendor's service, pretended: state and protocol, nothing else.
 *
 * A simulator keeps what the vendor would keep and answers as the vendor would answer. It is never slow, never lies and
 * never breaks by chance: that is the business of the proxy in front (`proxy.ts`), so that the same scenario also runs
 * against other emulators and real accounts. What it does not know it refuses with 501 and the operation's name, so
 * that a client that leaves the known path is noticed at once.
 */
export interface Simulator {
  /** `aws`, `azure`, `gcp`, `registry`. */
  readonly name: string;
  /** Serves every host the simulator has; which one is meant is in the request. */
  readonly handler: http.RequestListener;
  /** Forgets everything that was created. Accounts and settings stay. */
  reset(): void;
}
