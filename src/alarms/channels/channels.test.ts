import { createHmac } from "node:crypto";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { listMessages, type OutboxTables } from "../../bus/outbox.ts";
import type { Database } from "../../database/index.ts";
import { quietCall } from "../../lib/call.ts";
import { SlipwayError } from "../../lib/errors.ts";
import type { Notice } from "../alarm.ts";
import { alarmDatabase } from "../testing/database.ts";
import { busChannel } from "./bus.ts";
import type { Channel } from "./channel.ts";
import { sendJson } from "./http.ts";
import { matrixChannel } from "./matrix.ts";
import { slackChannel } from "./slack.ts";
import { webhookChannel } from "./webhook.ts";

interface Heard {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

let server: Server;
let base: string;
let heard: Heard[];
/** What the server says: status and body; undefined: nothing at all. */
let answer: { status: number; body: string; headers?: Record<string, string> } | undefined;

beforeAll(async () => {
  server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const { method = "", url = "", headers } = request;
      heard.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
      if (answer !== undefined) response.writeHead(answer.status, answer.headers).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server?.closeAllConnections();
  server?.close();
});
beforeEach(() => {
  heard = [];
  answer = { status: 200, body: "{}" };
});
afterEach(() => server.closeAllConnections());

const NOTICE: Notice = {
  ...{ id: "0f0e0d0c-0b0a-8908-8706-050403020100", what: "raised", key: "broker:consuming", kind: "broker" },
  ...{ severity: "error", subject: "consuming" },
  message: "Events have not been taken from the broker for 12 min.",
  next: "slipway doctor",
  ...{ since: "2026-04-20T03:00:00.000Z", at: "2026-04-20T03:12:00.000Z" },
};

/** As it would be if nobody had cleaned it on its way here. */
const HOSTILE: Notice = {
  ...NOTICE,
  message: "x\r\nBcc: evil@example.org\r\n\r\n<script>alert(1)</script> @room <!channel> \u001b[31m\u202eabc *b* & `c`",
  next: "\u0000next\u2028line",
};

const UNSEEN = /[\p{Cc}\u202e\u2028]/u;

const TOKEN = "syt_secret-token-0123456789";
const secret = (text: string) => async () => text;
const matrix = () =>
  matrixChannel({ name: "m", homeserver: `${base}/`, room: "!a/b:example.org", token: secret(TOKEN) });
const SLACK_PATH = "/services/T000/B000/slack-secret-path";
const slack = () => slackChannel({ name: "s", url: secret(base + SLACK_PATH) });
const HOOK_KEY = "hook-signing-key";
const webhook = () =>
  webhookChannel({ name: "w", url: secret(`${base}/hook?token=query-secret`), secret: secret(HOOK_KEY) });

const bodyOf = (at = 0) => JSON.parse(heard[at]!.body) as Record<string, unknown>;

test("matrix: one transaction for one notice, however often it is sent", async () => {
  await matrix().send(NOTICE, quietCall());
  await matrix().send(NOTICE, quietCall());
  expect(heard.map(({ method, url }) => `${method} ${url}`)).toEqual(
    Array(2).fill(`PUT /_matrix/client/v3/rooms/!a%2Fb%3Aexample.org/send/m.room.message/${NOTICE.id}`),
  );
  expect(heard[0]!.headers.authorization).toBe(`Bearer ${TOKEN}`);
  expect(bodyOf()).toEqual({
    msgtype: "m.notice",
    body: [
      "Slipway error: Events have not been taken from the broker for 12 min.",
      "Next: slipway doctor",
      "Silence: slipway alarms snooze broker:consuming --for 2h --reason TEXT",
    ].join("\n"),
    "m.mentions": {},
  });
});

test("slack: text without markup", async () => {
  await slack().send(NOTICE, quietCall());
  expect(heard[0]).toMatchObject({ method: "POST", url: SLACK_PATH });
  expect(bodyOf()).toMatchObject({
    text: expect.stringContaining("Next: slipway doctor"),
    mrkdwn: false,
    parse: "none",
  });
});

test("webhook: the notice, with its id and its signature", async () => {
  await webhook().send(NOTICE, quietCall());
  const { headers, body, url } = heard[0]!;
  expect(url).toBe("/hook?token=query-secret");
  expect(JSON.parse(body)).toEqual({ ...NOTICE, text: `Slipway error: ${NOTICE.message}` });
  expect(headers).toMatchObject({
    "x-slipway-event": "alarm.raised",
    "x-slipway-delivery": NOTICE.id,
    "x-slipway-signature-256": `sha256=${createHmac("sha256", HOOK_KEY).update(body).digest("hex")}`,
  });
});

describe("what comes from elsewhere does nothing", () => {
  test("matrix: no HTML form, no word to everybody, no control characters", async () => {
    await matrix().send(HOSTILE, quietCall());
    const said = bodyOf();
    expect(Object.keys(said).sort()).toEqual(["body", "m.mentions", "msgtype"]);
    expect(said.body).not.toContain("@room");
    expect(said.body).toContain("<script>");
    expect((said.body as string).split("\n"), "its own lines only").toHaveLength(3);
    for (const line of (said.body as string).split("\n")) expect(line).not.toMatch(UNSEEN);
  });

  test("slack: what begins a mention or a link is escaped", async () => {
    await slack().send(HOSTILE, quietCall());
    expect(bodyOf().text).not.toMatch(/[<>]/);
    expect(bodyOf().text).toContain("&lt;!channel&gt; [31mabc *b* &amp; `c`");
  });

  test("webhook: it is JSON, and headers are ours", async () => {
    await webhook().send(HOSTILE, quietCall());
    expect(bodyOf().text).not.toMatch(UNSEEN);
    expect(heard[0]!.headers["x-slipway-event"]).toBe("alarm.raised");
  });
});

const ALL: [name: string, open: () => Channel, secrets: readonly string[]][] = [
  ["matrix", matrix, [TOKEN]],
  ["slack", slack, ["slack-secret-path"]],
  ["webhook", webhook, [HOOK_KEY, "query-secret"]],
];

describe.each(ALL)("%s: when it goes wrong", (_, open, secrets) => {
  async function failure(): Promise<SlipwayError> {
    const error = await open()
      .send(NOTICE, quietCall())
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
    expect(error).toBeInstanceOf(SlipwayError);
    const said = JSON.stringify({ ...(error as object), message: String(error), stack: (error as Error).stack });
    for (const one of secrets) expect(said).not.toContain(one);
    expect((error as Error).cause, "it may hold the request").toBeUndefined();
    return error as SlipwayError;
  }

  test.each([
    [301, "invalid", "redirects elsewhere"],
    [400, "invalid", "answers 400"],
    [401, "unauthenticated", "answers 401"],
    [403, "forbidden", "answers 403"],
    [404, "not-found", "answers 404"],
    [429, "throttled", "answers 429"],
    [502, "unavailable", "answers 502"],
  ])("status %i is %s, and what it says back is no secret", async (status, code, words) => {
    const body = `you sent ${heard.length} ${secrets.join(" ")} ${base}${SLACK_PATH}\r\n\u001b[31m`;
    answer = { status, body, headers: { location: `${base}/elsewhere` } };
    const error = await failure();
    expect(error).toMatchObject({ code, message: expect.stringContaining(words) });
    expect(error.message).not.toMatch(UNSEEN);
    expect(heard, "no redirect is followed").toHaveLength(1);
  });

  test("an endless answer is not read to its end", async () => {
    answer = { status: 500, body: "x".repeat(1024 * 1024) };
    expect((await failure()).message.length).toBeLessThan(400);
  });

  test("one that is stopped says so", async () => {
    answer = undefined;
    const stop = new AbortController();
    const sending = open().send(NOTICE, quietCall(stop.signal));
    await expect.poll(() => heard.length).toBe(1);
    stop.abort();
    await expect(sending).rejects.toMatchObject({ code: "cancelled" });
  });
});

test("silence is unavailable after the deadline", async () => {
  answer = undefined;
  const what = { channel: "m", method: "POST" as const, url: base, body: "{}", secrets: [] };
  await expect(sendJson({ ...what, deadlineMs: 50 }, quietCall())).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining("did not answer within 0.05 s"),
  });
});

test("nobody there, and an address that is none", async () => {
  const gone = slackChannel({ name: "s", url: secret("http://127.0.0.1:1/services/very-secret") });
  await expect(gone.send(NOTICE, quietCall())).rejects.toMatchObject({
    code: "unavailable",
    message: "channel s: 127.0.0.1:1 cannot be reached: connect ECONNREFUSED 127.0.0.1:1",
  });
  const none = slackChannel({ name: "s", url: secret("very-secret") });
  await expect(none.send(NOTICE, quietCall())).rejects.toMatchObject({
    code: "invalid",
    message: "channel s: its address is no https URL",
  });
});

describe("bus", () => {
  let database: Database;
  beforeAll(async () => {
    database = await alarmDatabase();
  });
  afterAll(() => database?.close());

  test("a message in the outbox, once", async () => {
    const db = database.kysely<OutboxTables>();
    const channel = busChannel({ name: "b", db });
    await channel.send(NOTICE, quietCall());
    await channel.send(NOTICE, quietCall());
    const { id, what, ...facts } = NOTICE;
    expect(await listMessages(db, { limit: 10 })).toMatchObject([
      {
        id,
        topic: "slipway.alarm.v1.broker.raised",
        headers: { fedora_messaging_severity: 40, "sent-at": "2026-04-20T03:12:00+00:00" },
        body: { what, ...facts },
        summary: `Slipway error: ${NOTICE.message}`,
        state: "waiting",
      },
    ]);
  });
});
