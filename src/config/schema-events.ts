import { z } from "zod";
import { problemWithPattern } from "../rules/index.ts";
import { duration, ownName, secret, template, urlWithoutSecret, valueOrRef } from "./values.ts";

const path = z.string().min(1);

export const topicPattern = z
  .string()
  .min(1)
  .superRefine((text, context) => {
    const wrong = problemWithPattern(text);
    if (wrong !== undefined) context.addIssue(wrong);
  });

/** One exactly, as it is published: no wildcards, nothing a file system or a broker would stumble over. */
export const topic = z
  .string()
  .max(200)
  .regex(/^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/, "expected words of letters, digits, _ and -, with dots between them");

/** What may stand in the topic of a published image. */
export const TOPIC_FIELDS = ["cloud", "kind", "subvariant", "arch", "release", "system"] as const;

export const bus = z.strictObject({
  fedora_messaging: path
    .optional()
    .describe("fedora-messaging's own config.toml. What it says is the default of everything below."),
  url: z
    .union([urlWithoutSecret(["amqp:", "amqps:"]), ...secret.options], {
      error: "expected a URL, {env: NAME} or {file: PATH}",
    })
    .optional()
    .describe("Address of the broker. Its path is the vhost: `amqps://rabbitmq.example.org/%2Fpubsub`."),
  username: valueOrRef.optional(),
  password: secret.optional(),
  ca_file: path.optional().describe("PEM file of the authority that signed the broker's certificate."),
  cert_file: path.optional().describe("Client certificate, for SASL EXTERNAL."),
  key_file: path.optional(),
  exchange: z.string().min(1).optional().describe("Where messages go and the queue is bound. Default: `amq.topic`."),
  queue: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe("Bus queue to read from. Default: one the broker names, which goes with the connection."),
  topics: z
    .array(topicPattern)
    .default([])
    .describe("Patterns the queue is bound to. None, and no file that names some: nothing is consumed."),
  topic_prefix: z
    .union([z.literal(""), topic])
    .optional()
    .describe("Stands before the topics of our own messages. Default: `org.fedoraproject.dev`."),
  declare: z
    .enum(["active", "passive", "none"])
    .optional()
    .describe("`passive` only looks whether the queue is there, as Fedora's broker wants it; `none` does not look."),
  prefetch: z.int().min(1).max(65_535).optional().describe("Deliveries under way at once. Default: 250."),
  publish: z.boolean().default(true).describe("`false`: messages wait in the outbox and are shown, never sent."),
  published_topic: template(TOPIC_FIELDS)
    .default("fedora_image_uploader.published.v1.{cloud}.{kind}.{subvariant}.{arch}")
    .describe("Topic of a published image's message, behind the prefix."),
  fedimg_messages: z
    .boolean()
    .default(false)
    .describe("Send the older `fedimg.image.publish` too, one for each region, for readers that know nothing else."),
});

const forge = z.enum(["github", "forgejo", "gitea", "gitlab", "quay"]);

export const webhooks = z
  .record(
    ownName,
    z.strictObject({
      forge,
      secret: z
        .union([secret, z.array(secret).min(1).max(5)])
        .describe("What both sides know. Several while one is being replaced."),
      topic_prefix: topic.optional().describe("Stands before `forgejo.push`."),
      events: z.array(z.string().min(1).max(60)).optional().describe("Only these. Default: all."),
      event: z.string().min(1).max(60).optional().describe("What a call means, for a forge that does not say: Quay."),
    }),
  )
  .default({})
  .describe("Who may POST to `/webhooks/<name>`. A call whose signature is right becomes an event.");

export const timers = z
  .record(
    ownName,
    z.strictObject({
      cron: z.string().min(1).max(200).describe("`0 3 * * *`: minute, hour, day, month, weekday."),
      zone: z.string().default("UTC").describe("`Europe/Prague`"),
      topic: topic.optional().describe("Default: `slipway.timer.<name>`."),
      body: z.record(z.string(), z.json()).default({}),
      catch_up: z.enum(["latest", "none"]).default("latest").describe("What was missed while nothing ran."),
    }),
  )
  .default({})
  .describe("Events by the clock.");

export const shadow = z.strictObject({
  topics: z
    .array(topicPattern)
    .min(1)
    .default(["org.fedoraproject.prod.fedora_image_uploader.published.v1.#"])
    .describe("The other service's messages: compared with those we would publish, and never acted on."),
  within: duration.prefault("12h").describe("So long after a compose has finished its messages are waited for."),
  systems: z.array(ownName).min(1).optional().describe("Compare these only. Default: all."),
});
