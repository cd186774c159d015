import { z } from "zod";
import { duration, endpoint, isLoopback, noRepeats, ownName, secret } from "./values.ts";

const path = z.string().min(1);
const caFile = path.optional().describe("PEM file of a private authority, trusted beside the public ones.");

/** No line ends, no lists, no names around it: what stands in a header is one address. */
const address = z
  .string()
  .max(254)
  .regex(/^[^\s@<>,;:"()[\]\\]+@[A-Za-z0-9.-]+$/, "expected one mail address, such as ops@example.org");

const matrix = z.strictObject({
  kind: z.literal("matrix"),
  homeserver: endpoint.describe("`https://matrix.example.org`"),
  room: z
    .string()
    .regex(/^![^\s/]{1,254}$/, "expected a room's id, which begins with `!`; an alias is not one")
    .describe("The room's id: `!abc:example.org`. The token's user must be in it."),
  token: secret.describe("Access token of the user that speaks."),
  ca_file: caFile,
});

const slack = z.strictObject({
  kind: z.literal("slack"),
  url: secret.describe("The incoming webhook's URL. Whoever knows it may write there, so it is a secret."),
});

const webhook = z.strictObject({
  kind: z.literal("webhook"),
  url: z
    .union([endpoint, ...secret.options], { error: "expected an https URL, {env: NAME} or {file: PATH}" })
    .describe("Where a notice is sent to as JSON, by POST."),
  secret: secret.optional().describe("Signs the body: `x-slipway-signature-256`."),
  ca_file: caFile,
});

const mail = z.strictObject({
  kind: z.literal("mail"),
  host: z
    .string()
    .regex(/^[A-Za-z0-9.:-]{1,253}$/, "is not the name of a host")
    .describe("The mail server that takes our mail."),
  port: z
    .int()
    .min(1)
    .max(65_535)
    .optional()
    .describe("Default: 587 for `starttls`, 465 for `implicit`, 25 for `none`."),
  tls: z
    .enum(["starttls", "implicit", "none"])
    .default("starttls")
    .describe("`starttls` sends nothing without it; `none` is for a server on this machine or a network of its own."),
  username: z.string().min(1).optional(),
  password: secret.optional(),
  from: address,
  to: z.array(address).min(1).max(50),
  ca_file: caFile,
});

const bus = z.strictObject({
  kind: z.literal("bus").describe("Messages `slipway.alarm.v1.<kind>.raised` and `.recovered` on the broker."),
});

const channel = z.discriminatedUnion("kind", [bus, mail, matrix, slack, webhook]).superRefine((given, context) => {
  if (given.kind !== "mail") return;
  if ((given.username === undefined) !== (given.password === undefined)) {
    context.addIssue({ code: "custom", message: "username and password belong together" });
  }
  if (given.tls === "none" && given.password !== undefined && !isLoopback(given.host)) {
    const message = "a password is not sent without TLS to another machine";
    context.addIssue({ code: "custom", path: ["tls"], message });
  }
  noRepeats(given.to, context, "address");
});

const who = {
  enabled: z.boolean().default(true),
  channels: z.array(ownName).optional().describe("Default: all."),
};

const alarm = (after: string, words: string) =>
  z.strictObject({ ...who, after: duration.prefault(after).describe(words) }).prefault({});

const alarms = z
  .strictObject({
    "compose-missing": alarm("0s", "Grace on top of a system's `expect.every`."),
    "queue-age": z
      .strictObject({
        ...who,
        after: duration
          .prefault("15m")
          .describe("How old the oldest event not looked at, or message not sent, may be."),
        runs_after: duration.prefault("6h").describe("How long a run may wait for its place: uploads do by design."),
      })
      .prefault({}),
    quarantine: alarm("24h", "For how long what arrived there is news."),
    undelivered: alarm("1h", "How long the broker may refuse a message. Those given up are told of at once."),
    "rule-failing": z
      .strictObject({
        ...who,
        failures: z.int().min(1).max(20).default(3).describe("Times in a row."),
      })
      .prefault({}),
    credentials: alarm("21d", "How long before a certificate's end."),
    broker: alarm("10m", "How long there may be no connection."),
    "run-failed": alarm("7d", "For how long a release that failed, or is out in part, is news."),
  })
  .prefault({})
  .describe("What is told of, by kind; docs/alarms.md says what each means.");

export const notifications = z
  .strictObject({
    channels: z
      .record(ownName, channel)
      .default({})
      .describe("Ways to people, by names of your choice. None: alarms are in `slipway alarms list` only."),
    alarms,
    remind: z
      .union([z.literal("off"), z.literal(false), duration])
      .transform((given) => (given === false ? ("off" as const) : given))
      .prefault("off")
      .describe("How often what lasts is told again."),
    settle: duration.prefault("5m").describe("How long it must have been over before that is believed and told."),
    keep: duration.prefault("90d").describe("How long what is over is remembered."),
  })
  .prefault({})
  .describe("What people are told when something is wrong, and how.");
