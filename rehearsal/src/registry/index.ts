/**
 * A container registry in memory: the OCI distribution protocol, strictly.
 *
 * It takes nothing a careful registry would not take: every digest is computed, chunks must follow each other, a
 * manifest needs its blobs (and an index its manifests) to be there with the sizes it says, an upload's Location is good
 * for one answer. What it does not know is refused with 501 and its name. State only: faults are the proxy's.
 */
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { readBody } from "../body.ts";
import type { Simulator } from "../simulator.ts";
import { createGate, type GateOptions } from "./gate.ts";
import { deleteManifest, getManifest, putManifest } from "./manifests.ts";
import { listReferrers, noSuchPage } from "./referrers.ts";
import { createState, type RegistryState } from "./state.ts";
import { deleteUpload, getBlob, getUpload, patchUpload, putUpload, startUpload } from "./uploads.ts";
import { type Asked, Refusal, sendJson } from "./wire.ts";

export type { RegistryState } from "./state.ts";

export interface RegistrySimulatorOptions extends GateOptions {
  /** False: DELETE of a manifest is refused with 405, as docker-registry does by default. Default true. */
  readonly deletion?: boolean;
  /** False: a `subject` is stored and not noted, and there is no referrers API, as in docker-registry 2. Default true. */
  readonly referrers?: boolean;
}

export interface RegistrySimulator extends Simulator {
  /** What the registry holds, for tests and for the rehearsal's report. */
  readonly state: RegistryState;
}

/** Other clients send a whole layer in one PATCH; everything is kept in memory. */
const MAX_BODY_BYTES = 2 ** 31;

type Verb = (asked: Asked) => void;

const REPOSITORY = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*)*";

export function createRegistrySimulator(options: RegistrySimulatorOptions = {}): RegistrySimulator {
  const state = createState();
  const { referrers = true } = options;
  const gate = createGate(options);

  /** Every operation there is. `pull` and `push` say what a token must allow. */
  const routes: readonly [method: RegExp, path: RegExp, action: string, verb: Verb][] = [
    [/^POST$/, route("blobs/uploads/"), "push", startUpload],
    [/^GET$/, route("blobs/uploads/([\\w-]+)"), "push", getUpload],
    [/^PATCH$/, route("blobs/uploads/([\\w-]+)"), "push", patchUpload],
    [/^PUT$/, route("blobs/uploads/([\\w-]+)"), "push", putUpload],
    [/^DELETE$/, route("blobs/uploads/([\\w-]+)"), "push", deleteUpload],
    [/^(GET|HEAD)$/, route("blobs/([^/]+)"), "pull", getBlob],
    [/^(GET|HEAD)$/, route("manifests/([^/]+)"), "pull", getManifest],
    [/^PUT$/, route("manifests/([^/]+)"), "push", (asked) => putManifest(asked, referrers)],
    [/^DELETE$/, route("manifests/([^/]+)"), "delete", options.deletion === false ? refuseDeletion : deleteManifest],
    [/^GET$/, route("tags/list"), "pull", listTags],
    [/^GET$/, route("referrers/([^/]+)"), "pull", referrers ? listReferrers : noSuchPage],
  ];

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://registry");
    const method = request.method ?? "GET";
    const body = await readBody(request, MAX_BODY_BYTES);
    response.setHeader("Docker-Distribution-Api-Version", "registry/2.0");
    if (url.pathname === "/token") return gate.token(request, url, response);
    if (url.pathname === "/v2/" && method === "GET") {
      gate.admit(request, []);
      return sendJson(response, 200, {});
    }
    if (url.pathname === "/v2/_catalog" && method === "GET") {
      gate.admit(request, []);
      return sendJson(response, 200, { repositories: [...state.repositories.keys()].sort() });
    }
    for (const [methods, path, action, verb] of routes) {
      const match = path.exec(url.pathname);
      if (!match || !methods.test(method)) continue;
      const [, name = "", rest = ""] = match;
      const scopes = action === "push" ? ["push", "pull"] : [action];
      const from = url.searchParams.get("from");
      gate.admit(request, [{ name, actions: scopes }, ...(from ? [{ name: from, actions: ["pull"] }] : [])]);
      return verb({ state, request, response, url, name, rest: decodeURIComponent(rest), body });
    }
    throw new Refusal(501, "UNSUPPORTED", `the simulated registry does not know ${method} ${url.pathname}`);
  }

  const handler: RequestListener = (request, response) => {
    serve(request, response).catch((error: unknown) => {
      if (response.headersSent) return void response.destroy();
      // A client that hangs up in the middle of its body gets no answer; anything else is a fault of this simulator.
      if (!(error instanceof Refusal)) {
        if (!request.complete) return void response.destroy();
        return sendJson(response, 500, { errors: [{ code: "UNKNOWN", message: String(error), detail: null }] });
      }
      for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
      sendJson(response, error.status, { errors: [{ code: error.code, message: error.message, detail: null }] });
    });
  };

  return { name: "registry", handler, state, reset: () => state.clear() };
}

function route(rest: string): RegExp {
  return new RegExp(`^/v2/(${REPOSITORY})/${rest}$`);
}

function listTags({ state, response, url, name }: Asked): void {
  const repository = state.repositories.get(name);
  if (!repository || repository.manifests.size === 0) throw new Refusal(404, "NAME_UNKNOWN", "no such repository");
  const last = url.searchParams.get("last") ?? "";
  const limit = Number(url.searchParams.get("n") ?? Number.POSITIVE_INFINITY);
  const after = [...repository.tags.keys()].sort().filter((tag) => tag > last);
  const tags = after.slice(0, limit);
  if (tags.length < after.length) {
    response.setHeader("Link", `</v2/${name}/tags/list?n=${limit}&last=${tags.at(-1)}>; rel="next"`);
  }
  sendJson(response, 200, { name, tags });
}

function refuseDeletion(): never {
  throw new Refusal(405, "UNSUPPORTED", "The operation is unsupported.");
}
