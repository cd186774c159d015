/** What a message says about a compose: pungi's status changes, and ODCS' for ELN. Pure. */
import { SlipwayError } from "../lib/errors.ts";
import type { Json } from "../model.ts";

export interface EventCompose {
  /** As the message says; the metadata decides. */
  readonly id: string | undefined;
  /** The `compose/` directory. */
  readonly location: string;
}

/** Statuses with which everything required is there. */
export const FINISHED: ReadonlySet<string> = new Set(["FINISHED", "FINISHED_INCOMPLETE"]);

/** ODCS' states are numbers with names. */
const ODCS_DONE = "done";

/**
 * @returns where the compose is, or why there is nothing to release
 * @throws SlipwayError `invalid` for a message that names no place, or one that no message may name
 */
export function composeOfEvent(body: Readonly<Record<string, Json>>): EventCompose | { readonly not: string } {
  const odcs = body.compose;
  if (typeof odcs === "object" && odcs !== null && !Array.isArray(odcs)) {
    const { state_name: state, pungi_compose_id: id, toplevel_url: url } = odcs as Record<string, Json>;
    if (state !== ODCS_DONE) return { not: `the compose is ${word(state)}` };
    return { id: textOf(id), location: locationOf(textOf(url) && `${textOf(url)!.replace(/\/+$/, "")}/compose`) };
  }
  const status = body.status;
  if (typeof status !== "string" || !FINISHED.has(status)) return { not: `the compose is ${word(status)}` };
  return { id: textOf(body.compose_id), location: locationOf(textOf(body.location)) };
}

function locationOf(text: string | undefined): string {
  const url = text !== undefined && URL.canParse(text) ? new URL(text) : undefined;
  if (url !== undefined && (url.protocol === "https:" || url.protocol === "http:") && !url.username && !url.password) {
    // Seen in real messages: …/compose/cloud//Fedora-Cloud-…
    url.pathname = url.pathname.replace(/\/{2,}/g, "/");
    return url.href.replace(/\/+$/, "");
  }
  throw new SlipwayError("invalid", "the message does not say where the compose is", {
    subject: "location",
    next: "A message may name an http or https URL. Release it by hand: slipway release COMPOSE.",
  });
}

function textOf(value: Json | undefined): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

function word(value: Json | undefined): string {
  return typeof value === "string" ? value.slice(0, 40) : "in no state that is told";
}
