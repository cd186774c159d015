import { lines } from "../text.ts";
import { type Channel, type Secret, secretsOf } from "./channel.ts";
import { sendJson } from "./http.ts";

/**
 * An incoming webhook of Slack, or of what understands it (Mattermost, Rocket.Chat). Its URL is the secret. One that is
 * sent twice is shown twice: there is no way to tell it the id.
 * @see https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
 */
export function slackChannel({ name, url }: { readonly name: string; readonly url: Secret }): Channel {
  return {
    name,
    kind: "slack",
    async send(notice, call) {
      const secret = await url();
      // No markup, no links made of words, no mentions of those who read.
      const plainly = { mrkdwn: false, parse: "none", link_names: false, unfurl_links: false, unfurl_media: false };
      await sendJson(
        {
          ...{ channel: name, method: "POST", url: secret, secrets: secretsOf(secret) },
          body: JSON.stringify({ text: escaped(lines(notice).join("\n")), ...plainly }),
        },
        call,
      );
    },
  };
}

/** The three that begin something in Slack: `<!channel>` and links are written with them. */
function escaped(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}
