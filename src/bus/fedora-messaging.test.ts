import { describe, expect, test } from "vitest";
import { reportOf } from "../lib/errors.ts";
import { readFedoraMessaging } from "./fedora-messaging.ts";

const PATH = "/etc/fedora-messaging/config.toml";
const read = (content: string) => readFedoraMessaging(content, PATH);

function refusal(content: string): string {
  try {
    read(content);
  } catch (error) {
    return reportOf(error).message;
  }
  throw new Error("it was taken");
}

/** As Fedora's uploader has it. */
const UPLOADER = `
amqp_url = "amqps://cloud-image-uploader:@rabbitmq.fedoraproject.org/%2Fpubsub"
passive_declares = true
topic_prefix = "org.fedoraproject.prod."
publish_exchange = "amq.topic"
callback = "fedora_image_uploader:Uploader"

[tls]
ca_cert = "/etc/pki/ca.crt"
keyfile = "/etc/pki/uploader.key"
certfile = "/etc/pki/uploader.crt"

[client_properties]
app = "Cloud Image Uploader"
app_contacts_email = ["cloud@lists.fedoraproject.org"]

[queues.cloud-image-uploader-aws]
durable = true
auto_delete = false
exclusive = false
arguments = { x-max-priority = 5 }

[[bindings]]
queue = "cloud-image-uploader-aws"
exchange = "amq.topic"
routing_keys = ["org.fedoraproject.*.pungi.compose.status.change", "org.fedoraproject.prod.odcs.#"]

[qos]
prefetch_size = 0
prefetch_count = 25

[log_config]
version = 1
`;

describe("the file of a consumer of today", () => {
  test("is understood, and what means nothing here is told", () => {
    expect(read(UPLOADER)).toEqual({
      settings: {
        url: "amqps://cloud-image-uploader:@rabbitmq.fedoraproject.org/%2Fpubsub",
        caFile: "/etc/pki/ca.crt",
        keyFile: "/etc/pki/uploader.key",
        certFile: "/etc/pki/uploader.crt",
        clientProperties: { app: "Cloud Image Uploader", app_contacts_email: ["cloud@lists.fedoraproject.org"] },
        publishExchange: "amq.topic",
        topicPrefix: "org.fedoraproject.prod",
        declare: "passive",
        queues: [
          {
            ...{ name: "cloud-image-uploader-aws", durable: true, autoDelete: false, exclusive: false },
            arguments: { "x-max-priority": 5 },
            bindings: [
              { exchange: "amq.topic", topic: "org.fedoraproject.*.pungi.compose.status.change" },
              { exchange: "amq.topic", topic: "org.fedoraproject.prod.odcs.#" },
            ],
          },
        ],
        prefetch: 25,
      },
      notes: [
        `${PATH}: callback has no effect: rules say what is done about an event`,
        `${PATH}: log_config has no effect: logging is set by Slipway's own flags`,
      ],
    });
  });

  test("an empty one is the defaults: a queue the broker names, bound to everything", () => {
    expect(read("").settings).toEqual({
      url: "amqp://?connection_attempts=3&retry_delay=5",
      clientProperties: { app: "Unknown" },
      publishExchange: "amq.topic",
      topicPrefix: "",
      declare: "active",
      queues: [
        {
          ...{ name: "", durable: false, autoDelete: true, exclusive: true, arguments: {} },
          bindings: [{ exchange: "amq.topic", topic: "#" }],
        },
      ],
      prefetch: 10,
    });
  });

  test("a table in the file stands instead of the whole default table, and keys may be in capitals", () => {
    const { settings } = read('Topic_Prefix = "x"\n[client_properties]\napp_url = "https://example.org"\n');
    expect(settings).toMatchObject({ topicPrefix: "x", clientProperties: { app_url: "https://example.org" } });
    expect(settings.clientProperties).not.toHaveProperty("app");
  });
});

describe("what is wrong with a file is said with its name and place", () => {
  test.each([
    ["broken TOML", "amqp_url = \n", "line 1, column 12"],
    ["an unknown key", "amqp_ulr = 'x'\n", "amqp_ulr is not a setting of fedora-messaging"],
    ["an unknown key of a table", "[tls]\ncertificate = 'x'\n", "tls.certificate is not a setting"],
    ["a key that stands there twice", "qos = {}\nQOS = {}\n", "qos stands there twice"],
    ["a certificate without its key", "[tls]\ncertfile = 'x'\n", "tls.keyfile is missing"],
    ["a key without its certificate", "[tls]\nkeyfile = 'x'\n", "tls.certfile is missing"],
    ["another kind of URL", "amqp_url = 'https://example.org'\n", "neither amqp:// nor amqps://"],
    ["no URL", "amqp_url = 'amqp://a b:c'\n", "is no URL"],
    ["a property of ours", "[client_properties]\nproduct = 'x'\n", "client_properties.product cannot be changed"],
    ["a queue without its settings", "[queues.q]\ndurable = true\n", "queues.q.auto_delete"],
    [
      "a binding of a queue that is not there",
      "[[bindings]]\nqueue = 'other'\nexchange = 'amq.topic'\nrouting_keys = ['#']\n",
      'the queue "other", which is not in queues',
    ],
    ["a prefetch of text", "[qos]\nprefetch_count = 'many'\n", "qos.prefetch_count"],
    ["__proto__ as a key", "__proto__ = { admin = true }\n", "__proto__"],
  ])("%s", (_, content, message) => {
    const said = refusal(content);
    expect(said).toContain(message);
    expect(said).toContain(PATH);
  });

  test("and never with the password in it", () => {
    expect(refusal("amqp_url = 'amqp://me:hunter2@host' x\n")).not.toContain("hunter2");
    expect(refusal("amqp_url = 'amqp://me:hunter2@ho st'\n")).not.toContain("hunter2");
  });
});
