import { createHmac } from "node:crypto";
import { headline } from "../text.ts";
import { type Channel, type Secret, secretsOf } from "./channel.ts";
import { sendJson } from "./http.ts";

export interface WebhookSettings {
  readonly name: string;
  readonly url: Secret;
  /** Signs the body, so that the other side knows whose it is. */
  readonly secret?: Secret | undefined;
  readonly ca?: string | undefined;
}

/**
 * The notice as JSON, with `text` for people. `x-slipway-delivery` is its id: one that comes twice has the same.
 * `x-slipway-signature-256` is `sha256=` and the HMAC-SHA256 of the body in hex, as GitHub's receivers check it.
 */
export function webhookChannel({ name, url, secret, ca }: WebhookSettings): Channel {
  return {
    name,
    kind: "webhook",
    async send(notice, call) {
      const [address, key] = await Promise.all([url(), secret?.()]);
      const body = JSON.stringify({ ...notice, text: headline(notice) });
      const signature =
        key === undefined
          ? {}
          : { "x-slipway-signature-256": `sha256=${createHmac("sha256", key).update(body).digest("hex")}` };
      const secrets = [...secretsOf(address), ...(key === undefined ? [] : [key])];
      await sendJson(
        {
          ...{ channel: name, method: "POST", url: address, body, secrets, ca },
          headers: { "x-slipway-event": `alarm.${notice.what}`, "x-slipway-delivery": notice.id, ...signature },
        },
        call,
      );
    },
  };
}
