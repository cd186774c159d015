import { type ConnectionOptions, connect } from "node:tls";
import { seconds } from "../lib/units.ts";

/** A server that shows a certificate. */
export interface Peer {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** What we show it: one that wants a certificate of ours ends the handshake without. Files, read each time. */
  tls(): Promise<Pick<ConnectionOptions, "ca" | "cert" | "key">>;
}

const DEADLINE_MS = seconds(10);

/**
 * When the certificate ends that a server shows, in milliseconds since 1970. Nothing is sent, so it is not held against
 * any authority: one that has ended, or that we do not trust, is to be seen too.
 * @throws why there was no handshake
 */
export async function endOfPeer(peer: Peer, deadlineMs = DEADLINE_MS): Promise<number> {
  const { host, port } = peer;
  const named = /[a-z]/i.test(host) && !host.includes(":") ? { servername: host } : {};
  const options = { host, port, ...named, ...(await peer.tls()), rejectUnauthorized: false };
  return new Promise((resolve, reject) => {
    const socket = connect(options);
    const late = setTimeout(() => socket.destroy(new Error("no handshake in time")), deadlineMs);
    socket.once("secureConnect", () => {
      const ends = Date.parse(socket.getPeerCertificate().valid_to);
      if (Number.isNaN(ends)) reject(new Error("it shows no certificate"));
      else resolve(ends);
      // Not torn down: the other side would note a handshake that broke off.
      socket.end();
    });
    socket.on("error", reject);
    socket.once("close", () => {
      clearTimeout(late);
      reject(new Error("the connection was closed"));
    });
  });
}
