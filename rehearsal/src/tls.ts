/**
 * The rehearsal's own certificate authority, and one way to serve a handler over it.
 *
 * Vendors' clients refuse plain http (Azure's identity library outright), so every rehearsal speaks TLS with a
 * certificate nobody but the caller trusts: the authority lives in memory, is made anew each time and is handed out as
 * PEM. Start reading at `serve`.
 */
import "./reflect.ts";
import { webcrypto } from "node:crypto";
import http from "node:http";
import https from "node:https";
import type { AddressInfo, Socket } from "node:net";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";

/** What a server needs, and what its clients have to trust. All PEM. */
export interface Authority {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

const EC = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;
const DAY = 86_400_000;

/** Makes an authority and a server certificate for this machine; `names` adds DNS names, e.g. `*.blob.localhost`. */
export async function createAuthority(names: readonly string[] = []): Promise<Authority> {
  // A day back, because clocks of containers and virtual machines differ.
  const notBefore = new Date(Date.now() - DAY);
  const notAfter = new Date(Date.now() + 30 * DAY);
  const caKeys = await webcrypto.subtle.generateKey(EC, true, ["sign", "verify"]);
  const ca = await X509CertificateGenerator.createSelfSigned({
    name: "CN=Slipway rehearsal authority",
    serialNumber: serial(),
    notBefore,
    notAfter,
    keys: caKeys,
    signingAlgorithm: EC,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  const serverKeys = await webcrypto.subtle.generateKey(EC, true, ["sign", "verify"]);
  const cert = await X509CertificateGenerator.create({
    subject: "CN=localhost",
    issuer: ca.subject,
    serialNumber: serial(),
    notBefore,
    notAfter,
    publicKey: serverKeys.publicKey,
    signingKey: caKeys.privateKey,
    signingAlgorithm: EC,
    extensions: [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      new ExtendedKeyUsageExtension([ExtendedKeyUsage.serverAuth]),
      new SubjectAlternativeNameExtension([
        { type: "dns", value: "localhost" },
        { type: "dns", value: "*.localhost" },
        ...names.map((value) => ({ type: "dns" as const, value })),
        { type: "ip", value: "127.0.0.1" },
        { type: "ip", value: "::1" },
      ]),
    ],
  });
  const key = PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", serverKeys.privateKey), "PRIVATE KEY");
  return { ca: ca.toString("pem"), cert: cert.toString("pem"), key };
}

function serial(): string {
  return Buffer.from(webcrypto.getRandomValues(new Uint8Array(15))).toString("hex");
}

export interface Served {
  /** `https://127.0.0.1:PORT`, without a slash at the end. */
  readonly url: string;
  readonly port: number;
  /** Ends every connection, idle or not. Safe to repeat. */
  close(): Promise<void>;
}

export interface ServeOptions {
  /** Absent: plain http, for a hop inside one process. */
  readonly tls?: Authority | undefined;
  /** Default: any free one. */
  readonly port?: number | undefined;
  /** Default 127.0.0.1. */
  readonly host?: string | undefined;
}

/** Serves a handler, tuned for thousands of half-megabyte requests a second over few connections. */
export async function serve(handler: http.RequestListener, options: ServeOptions = {}): Promise<Served> {
  const { tls, port = 0, host = "127.0.0.1" } = options;
  const tuning: http.ServerOptions = {
    keepAlive: true,
    keepAliveTimeout: 75_000,
    noDelay: true,
    // The server never gives up on a request by itself: a client that is stopped and continued must find it as it was.
    requestTimeout: 0,
    headersTimeout: 60_000,
    maxHeaderSize: 64 * 1024,
    // One read may bring a good part of a block instead of 64 KiB.
    highWaterMark: 256 * 1024,
  };
  const server = tls
    ? https.createServer({ ...tuning, key: tls.key, cert: `${tls.cert}\n${tls.ca}` }, handler)
    : http.createServer(tuning, handler);
  // A client that hangs up in the middle of anything is ordinary here.
  server.on("clientError", (_error, socket) => socket.destroy());
  server.on("tlsClientError", () => {});
  // Node's own closeAllConnections knows a connection from its first request on: one that is still shaking hands would
  // keep a closing server for as long as keep-alive lasts.
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  let closing: Promise<void> | undefined;
  return {
    url: `${tls ? "https" : "http"}://${host}:${address.port}`,
    port: address.port,
    close() {
      closing ??= new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      });
      return closing;
    },
  };
}
