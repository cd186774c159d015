/**
 * Where a playbook runs. On the worker itself, with the rights of its process; or, where a pod cannot change users, in a
 * job of its own with a service account: whoever has a cluster implements this.
 */
import type { CallContext } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import { type PlayResult, type PlaySpec, playEvent } from "./play.ts";

export interface PlaybookRunner {
  /**
   * Plays it and waits for its end, with the promises of `playEvent`: its log is told line by line, nothing of it is left,
   * a repeated call of one owner ends what the call before left. `serviceAccount`: the one of Kubernetes that it acts with.
   * @throws SlipwayError as `playEvent`; `unsupported` where it cannot act with a service account
   */
  play(spec: PlaySpec & { readonly serviceAccount?: string }, ctx: CallContext): Promise<PlayResult>;
}

export const onThisWorker: PlaybookRunner = {
  async play({ serviceAccount, ...spec }, ctx) {
    if (serviceAccount === undefined) return await playEvent(spec, ctx);
    throw new SlipwayError("unsupported", "a playbook cannot act with a service account on this worker", {
      subject: serviceAccount,
      next: "Take service_account from the automation user, to have it act with the worker's own rights.",
    });
  },
};
