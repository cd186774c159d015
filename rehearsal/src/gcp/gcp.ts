/**
 * Google Cloud, pretended: a service account's tokens, one bucket of Cloud Storage, the images of one Compute project.
 * Keeps state and speaks the vendor's protocol; what it does not know it refuses with 501 and the operation's name.
 */
import { generateKeyPairSync } from "node:crypto";
import type http from "node:http";
import { type Answer, type Exchange, readExchange, readHead, send } from "../azure/exchange.ts";
import type { Simulator } from "../simulator.ts";
import { asOutsider, type ComputeState, compute, type Image, settle } from "./compute.ts";
import { createContentStore } from "./content.ts";
import { faultAnswer, GcpFault, json, notBuilt } from "./fault.ts";
import { type BucketState, remove, type StoredObject } from "./objects.ts";
import { createSessions } from "./resumable.ts";
import { storage } from "./storage.ts";
import { createTokens } from "./tokens.ts";

export interface GcpOptions {
  readonly project: string;
  readonly bucket: string;
  /** Default US. */
  readonly location?: string;
  /** Default 2000, as a new project has. */
  readonly imageLimit?: number;
  /** Where objects are kept, a file each. Absent: in memory, 2 GiB at most. */
  readonly blobDir?: string;
}

export interface KeyFile {
  readonly client_email: string;
  readonly private_key: string;
  readonly [field: string]: string;
}

export interface GcpSimulator extends Simulator {
  readonly name: "gcp";
  /** The key file of the one account that may do everything. Its token_uri is the real one's. */
  readonly serviceAccount: KeyFile;
  /** That of an account of another project, without rights here: what it sees, everybody sees. */
  readonly outsider: KeyFile;
  objects(): StoredObject[];
  images(): Image[];
  /** Accepted uploads, composed objects not counted. */
  uploads(): readonly { readonly name: string; readonly bytes: number }[];
  /** Permissions that are refused from the next request on. */
  deny(permissions: readonly string[]): void;
  /** How many images the project may have, from the next one on. */
  limitImages(count: number): void;
}

/**
 * An upload in one request is held in memory: 4 MiB from our driver, up to 8 MiB from Google's clients. What comes in
 * a session is not.
 */
const MOST_BODY = 64 * 1024 * 1024;

export function createGcpSimulator(options: GcpOptions): GcpSimulator {
  const publisher = makeAccount("publisher", options.project);
  const outsider = makeAccount("outsider", "somebody-else");
  const tokens = createTokens({
    [publisher.keyFile.client_email]: publisher.publicKey,
    [outsider.keyFile.client_email]: outsider.publicKey,
  });
  let refused: readonly string[] = [];
  let generation = 1_700_000_000_000_000;
  const denied = (permission: string) => refused.includes(permission);
  const uploads: { name: string; bytes: number }[] = [];
  const bucket: BucketState = {
    bucket: options.bucket,
    location: options.location ?? "US",
    store: createContentStore(options.blobDir),
    objects: new Map(),
    uploads,
    denied,
    nextGeneration: () => ++generation,
  };
  const sessions = createSessions(bucket);
  const state: ComputeState = {
    project: options.project,
    imageLimit: options.imageLimit ?? 2000,
    images: new Map(),
    operations: new Map(),
    storage: bucket,
    denied,
  };

  async function answer(request: http.IncomingMessage): Promise<Answer> {
    // The API's description has a path of its own for sessions, which apitools, and so gsutil, takes; it is the same.
    request.url = request.url?.replace(/^\/resumable\/upload\//, "/upload/");
    const head = readHead(request, Date.now());
    // Who knows a session's address may use it: the vendor asks for no token there.
    if (head.path[0] === "upload" && head.query.has("upload_id")) return await sessions.use(head, request);
    return await answerWhole(await readExchange(request, MOST_BODY, head.now));
  }

  async function answerWhole(exchange: Exchange): Promise<Answer> {
    const [first, second] = exchange.path;
    if (first === "token" && exchange.method === "POST") return tokens.token(exchange);
    const isOwner = tokens.check(exchange) === publisher.keyFile.client_email;
    if (!isOwner) return asOutsider(state, exchange);
    if (first === "storage" || ((first === "upload" || first === "download") && second === "storage"))
      return await storage(bucket, sessions, exchange);
    if (first === "compute") {
      const said = await compute(state, exchange);
      // Operations go on whether or not somebody looks at them: any other look is time passing.
      if (exchange.method === "GET" && !exchange.rawPath.includes("/operations/")) await settle(state);
      return said;
    }
    const asked = /^\/v1\/projects\/([^/:]+):testIamPermissions$/.exec(exchange.rawPath);
    if (asked && exchange.method === "POST") {
      const { permissions = [] } = JSON.parse(exchange.body.toString()) as { permissions?: string[] };
      return json({ permissions: permissions.filter((one) => !denied(one)) });
    }
    throw notBuilt(`${exchange.method} ${exchange.rawPath}`);
  }

  return {
    name: "gcp",
    handler: listener(answer),
    serviceAccount: publisher.keyFile,
    outsider: outsider.keyFile,
    objects: () => [...bucket.objects.values()],
    images: () => [...state.images.values()],
    uploads: () => bucket.uploads,
    deny(permissions) {
      refused = permissions;
    },
    limitImages(count) {
      state.imageLimit = count;
    },
    reset() {
      for (const name of [...bucket.objects.keys()]) remove(bucket, name);
      sessions.clear();
      uploads.length = 0;
      state.images.clear();
      state.operations.clear();
    },
  };
}

function makeAccount(name: string, project: string): { readonly keyFile: KeyFile; readonly publicKey: string } {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  const keyFile = {
    type: "service_account",
    project_id: project,
    private_key_id: "rehearsal",
    client_email: `${name}@${project}.iam.gserviceaccount.com`,
    // gsutil wants one to be there; nobody looks at it.
    client_id: "100000000000000000001",
    private_key: privateKey,
    token_uri: "https://oauth2.googleapis.com/token",
  };
  return { keyFile, publicKey };
}

function listener(answer: (request: http.IncomingMessage) => Promise<Answer>): http.RequestListener {
  return (request, response) => {
    (async () => {
      let said: Answer;
      try {
        said = await answer(request);
      } catch (error) {
        if (!request.complete && request.destroyed) throw error;
        // What was not read of a refused body: the client hears the answer only when it has sent it.
        request.resume();
        // A fault of ours must not look like one of Google's that a retry would cure.
        const fault =
          error instanceof GcpFault
            ? error
            : new GcpFault(
                501,
                "simulatorError",
                `The simulator failed: ${error instanceof Error ? error.stack : error}`,
              );
        said = faultAnswer(fault);
      }
      await send(response, said);
      // A client that goes away in the middle of a request is ordinary here.
    })().catch(() => response.destroy());
  };
}
