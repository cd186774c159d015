import { createTransport } from "nodemailer";
import { messageId } from "../../bus/outbox.ts";
import { type ErrorCode, SlipwayError } from "../../lib/errors.ts";
import { seconds } from "../../lib/units.ts";
import { headline, lines, plain } from "../text.ts";
import { type Channel, DEADLINE_MS, masked, type Secret, stopped } from "./channel.ts";

export interface MailSettings {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  /** `implicit`: TLS from the first byte · `starttls`: asked for, and nothing is sent without · `none`: never. */
  readonly tls: "implicit" | "starttls" | "none";
  readonly username?: string | undefined;
  readonly password?: Secret | undefined;
  readonly from: string;
  readonly to: readonly string[];
  readonly ca?: string | undefined;
  /** Default: half a minute. */
  readonly deadlineMs?: number;
}

const GREETING_MS = seconds(15);

/**
 * Mail in plain text. The Message-ID is made of the notice's, so that a second copy is seen as one; all mails about an
 * alarm, from its beginning to its end, are one thread.
 */
export function mailChannel(settings: MailSettings): Channel {
  const { name, host, port, tls, username, password, from, to, ca, deadlineMs = DEADLINE_MS } = settings;
  const domain = from.slice(from.lastIndexOf("@") + 1).replace(/[^A-Za-z0-9.-]/g, "") || "slipway.invalid";
  return {
    name,
    kind: "mail",
    async send(notice, { signal, log }) {
      const secret = await password?.();
      if (signal.aborted) throw stopped(name);
      const transport = createTransport({
        ...{ host, port, secure: tls === "implicit", requireTLS: tls === "starttls", ignoreTLS: tls === "none" },
        ...(username === undefined ? {} : { auth: { user: username, pass: secret ?? "" } }),
        ...(ca === undefined ? {} : { tls: { ca } }),
        ...{ connectionTimeout: GREETING_MS, greetingTimeout: GREETING_MS, socketTimeout: deadlineMs },
        // Nothing in a notice names a file or a page to be put into a mail.
        ...{ disableFileAccess: true, disableUrlAccess: true },
      });
      const late = AbortSignal.timeout(deadlineMs);
      const ended = AbortSignal.any([signal, late]);
      const thread = `<${messageId("alarm-thread", notice.key, notice.since)}@${domain}>`;
      try {
        const sent = await Promise.race([
          transport.sendMail({
            ...{ from, to: [...to], subject: plain(headline(notice), 150), text: `${lines(notice).join("\n\n")}\n` },
            ...{ messageId: `<${notice.id}@${domain}>`, references: thread, date: new Date(notice.at) },
            headers: { "Auto-Submitted": "auto-generated", "X-Slipway-Alarm": notice.key },
          }),
          new Promise<never>((_, reject) => {
            ended.addEventListener("abort", () => reject(new Error("it took too long")), { once: true });
          }),
        ]);
        // To send it again would send it twice to all others.
        if (sent.rejected.length > 0) {
          log.warn("a mail server took a notification for some only", { channel: name, refused: sent.rejected.length });
        }
      } catch (error) {
        if (signal.aborted) throw stopped(name);
        const said = late.aborted ? `no end within ${deadlineMs / 1000} s` : (error as Error).message;
        // The password, and as the login says it (RFC 4616): a server may say back what it was told.
        const secrets = secret === undefined ? [] : [secret, `\0${username}\0${secret}`];
        const words = plain(masked(said, secrets), 200);
        throw new SlipwayError(codeOf(error), `channel ${name}: mail through ${host}:${port}: ${words}`, {
          subject: name,
          next: `Correct notifications.channels.${name}, then: slipway alarms test ${name}`,
        });
      } finally {
        transport.close();
      }
    },
  };
}

/** What the server's three digits mean; of anything else, that it may go away. */
function codeOf(error: unknown): ErrorCode {
  const { code, responseCode = 0 } = error as { code?: string; responseCode?: number };
  if (code === "EAUTH" || responseCode === 535 || responseCode === 530) return "unauthenticated";
  if (responseCode >= 500 && responseCode < 600) return "invalid";
  return "unavailable";
}
