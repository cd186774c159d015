import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Authority, createAuthority } from "../../../rehearsal/src/tls.ts";
import { quietCall } from "../../lib/call.ts";
import type { Notice } from "../alarm.ts";
import { type SmtpOptions, type SmtpServer, startSmtp } from "../testing/smtp-server.ts";
import { type MailSettings, mailChannel } from "./mail.ts";

const NOTICE: Notice = {
  ...{ id: "0f0e0d0c-0b0a-8908-8706-050403020100", what: "raised", key: "broker:consuming", kind: "broker" },
  ...{ severity: "error", subject: "consuming" },
  message: "Events have not been taken from the broker for 12 min.",
  next: "slipway doctor",
  ...{ since: "2026-04-20T03:00:00.000Z", at: "2026-04-20T03:12:00.000Z" },
};
const PASSWORD = "mail-password-0123";

let authority: Authority;
let server: SmtpServer | undefined;

beforeAll(async () => {
  authority = await createAuthority();
});
afterEach(() => server?.close());

async function open(smtp: SmtpOptions = {}, more: Partial<MailSettings> = {}) {
  server = await startSmtp(smtp);
  const channel = mailChannel({
    ...{ name: "post", host: "127.0.0.1", port: server.port, tls: "none", from: "slipway@example.org" },
    to: ["ops@example.org", "night@example.org"],
    ...more,
  });
  return { channel, server };
}

const encrypted = () => ({ tls: authority, login: ["slipway", PASSWORD] as const });
const login = () => ({ username: "slipway", password: async () => PASSWORD, ca: authority.ca });

/** Header lines by name, unfolded. */
function headersOf(data: string): Record<string, string> {
  const head = data.slice(0, data.indexOf("\r\n\r\n")).replace(/\r\n[ \t]+/g, " ");
  return Object.fromEntries(head.split("\r\n").map((line) => [line.split(":")[0]!, line.slice(line.indexOf(":") + 2)]));
}

test("plain text, from one to all, under an id of the notice's", async () => {
  const { channel, server } = await open();
  await channel.send(NOTICE, quietCall());
  const [mail] = server.mails;
  expect(mail).toMatchObject({ from: "slipway@example.org", to: ["ops@example.org", "night@example.org"] });
  expect(headersOf(mail!.data)).toMatchObject({
    From: "slipway@example.org",
    To: "ops@example.org, night@example.org",
    Subject: "Slipway error: Events have not been taken from the broker for 12 min.",
    "Message-ID": "<0f0e0d0c-0b0a-8908-8706-050403020100@example.org>",
    "Auto-Submitted": "auto-generated",
    "X-Slipway-Alarm": "broker:consuming",
    "Content-Type": "text/plain; charset=utf-8",
    Date: "Mon, 20 Apr 2026 03:12:00 +0000",
  });
  expect(mail!.data.slice(mail!.data.indexOf("\r\n\r\n")).replace(/=\r\n/g, "")).toContain(
    "Next: slipway doctor\r\n\r\nSilence: slipway alarms snooze broker:consuming --for 2h --reason TEXT",
  );
});

test("the beginning and the end of one alarm are one thread", async () => {
  const { channel, server } = await open();
  await channel.send(NOTICE, quietCall());
  await channel.send({ ...NOTICE, id: "1f0e0d0c-0b0a-8908-8706-050403020100", what: "recovered" }, quietCall());
  const [first, second] = server.mails.map(({ data }) => headersOf(data));
  expect(second!.References).toBe(first!.References);
  expect(second!["Message-ID"]).not.toBe(first!["Message-ID"]);
  expect(second!.Subject).toMatch(/^Slipway: over after 12 min: /);
});

test.each(["starttls", "implicit"] as const)("%s: encrypted, and logged in", async (tls) => {
  const { channel, server } = await open({ ...encrypted(), implicit: tls === "implicit" }, { ...login(), tls });
  await channel.send(NOTICE, quietCall());
  expect(server.mails).toMatchObject([{ encrypted: true, user: "slipway" }]);
});

describe("when it goes wrong", () => {
  test("nothing is sent, and no password, where STARTTLS is not offered", async () => {
    const { channel, server } = await open({ login: ["slipway", PASSWORD] }, { ...login(), tls: "starttls" });
    await expect(channel.send(NOTICE, quietCall())).rejects.toMatchObject({ code: "unavailable" });
    expect(server.mails).toEqual([]);
  });

  test("a certificate nobody vouches for", async () => {
    const { channel, server } = await open(encrypted(), { ...login(), tls: "starttls", ca: undefined });
    await expect(channel.send(NOTICE, quietCall())).rejects.toMatchObject({ code: "unavailable" });
    expect(server.mails).toEqual([]);
  });

  test("a wrong password is not said, though the server says it back", async () => {
    const password = async () => "wrong-password-0123";
    const { channel } = await open(encrypted(), { ...login(), tls: "starttls", password });
    const error = await channel.send(NOTICE, quietCall()).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: "unauthenticated", subject: "post" });
    expect((error as Error).message).toContain("no: slipway … ");
    const said = `${String(error)} ${JSON.stringify(error)} ${(error as Error).stack}`;
    expect(said).not.toContain("wrong-password-0123");
    expect(said).not.toContain(Buffer.from("\0slipway\0wrong-password-0123").toString("base64"));
  });

  test.each([
    ["RCPT", "550 nobody here", "invalid"],
    ["RCPT", "451 greylisted", "unavailable"],
    ["MAIL", "530 log in", "unauthenticated"],
    ["*", "554 go away", "invalid"],
  ])("%s %s is %s", async (verb, said, code) => {
    const { channel, server } = await open();
    server.answers[verb] = said;
    await expect(channel.send(NOTICE, quietCall())).rejects.toMatchObject({ code });
  });

  test("silence is unavailable after the deadline, and what is stopped says so", async () => {
    const { channel, server } = await open({}, { deadlineMs: 50 });
    // A greeting that is not finished.
    server.answers["*"] = "220-wait";
    await expect(channel.send(NOTICE, quietCall())).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringContaining("no end within 0.05 s"),
    });
    const stop = AbortSignal.abort();
    await expect(channel.send(NOTICE, quietCall(stop))).rejects.toMatchObject({ code: "cancelled" });
  });
});

test("text from elsewhere writes no header, ends no mail and calls no command", async () => {
  const { channel, server } = await open();
  const message = "x\r\nBcc: evil@example.org\r\n\r\n.\r\nRCPT TO:<evil@example.org>\r\n<b>@room</b> é";
  await channel.send({ ...NOTICE, message, key: "quarantine:a\r\nBcc: evil@example.org" }, quietCall());
  const [mail, ...others] = server.mails;
  expect(others).toEqual([]);
  expect(mail!.to).toEqual(["ops@example.org", "night@example.org"]);
  const headers = headersOf(mail!.data);
  expect(Object.keys(headers)).not.toContain("Bcc");
  expect(headers["Content-Type"]).toBe("text/plain; charset=utf-8");
});
