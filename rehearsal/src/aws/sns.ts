/**
 * The Simple Notification Service, as far as whoever publishes sees it: topics that take messages. Nothing is delivered;
 * what was published is kept for tests to read.
 * @see https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
 */
import { randomUUID } from "node:crypto";
import { authorize, type Caller } from "./accounts.ts";
import { AwsFault, SNS_NAMESPACE, unknownOperation } from "./fault.ts";
import { partitionOf } from "./partition.ts";
import type { Query } from "./query.ts";
import type { AwsState } from "./state.ts";
import { element, type XmlValue } from "./xml.ts";

export interface AwsTopic {
  readonly arn: string;
  readonly account: string;
  readonly region: string;
  readonly messages: AwsMessage[];
}

export interface AwsMessage {
  readonly id: string;
  readonly subject: string | undefined;
  readonly message: string;
  /** What subscriptions may filter by. */
  readonly attributes: Readonly<Record<string, string>>;
}

/** SNS takes messages of 256 KiB. */
const MESSAGE_BYTES = 256 * 1024;

interface SnsCall {
  readonly state: AwsState;
  readonly caller: Caller;
  readonly query: Query;
}

const OPERATIONS: Readonly<Record<string, (call: SnsCall) => XmlValue>> = {
  CreateTopic: createTopic,
  DeleteTopic: deleteTopic,
  Publish: publish,
};

/** The answer's document. @throws AwsFault */
export function handleSns(state: AwsState, caller: Caller, query: Query, requestId: string): string {
  const action = query.required("Action");
  const operation = Object.hasOwn(OPERATIONS, action) ? OPERATIONS[action] : undefined;
  if (operation === undefined) throw unknownOperation("sns", action);
  authorize(caller, "sns", action, query.text("TopicArn") ?? "*");
  const result = operation({ state, caller, query });
  state.count("sns", action, caller.region);
  const body: XmlValue = {
    ...(result === undefined ? {} : { [`${action}Result`]: result }),
    ResponseMetadata: { RequestId: requestId },
  };
  return element(`${action}Response`, body, SNS_NAMESPACE);
}

function createTopic({ state, caller, query }: SnsCall): XmlValue {
  const name = query.text("Name") ?? "";
  if (!/^[A-Za-z0-9_-]{1,256}$/.test(name)) {
    const fifo = /^[A-Za-z0-9_-]{1,251}\.fifo$/.test(name);
    throw fifo ? unknownOperation("sns", "CreateTopic of a FIFO topic") : invalid("Topic Name");
  }
  const { account, region } = caller;
  const arn = `arn:${partitionOf(region)}:sns:${region}:${account}:${name}`;
  if (!state.topics.has(arn)) state.topics.set(arn, { arn, account, region, messages: [] });
  return { TopicArn: arn };
}

function deleteTopic({ state, caller, query }: SnsCall): XmlValue {
  const topic = state.topics.get(query.text("TopicArn") ?? "");
  if (topic !== undefined && topic.account !== caller.account) throw notAllowed(caller, "DeleteTopic", topic.arn);
  // Deleting one that is not there is no error.
  if (topic !== undefined) state.topics.delete(topic.arn);
  return undefined;
}

function publish(call: SnsCall): XmlValue {
  const { query } = call;
  if (query.text("TopicArn") === undefined && query.text("TargetArn") === undefined) {
    throw new AwsFault(
      "InvalidParameter",
      "Invalid parameter: TopicArn or TargetArn Reason: no value for required parameter",
    );
  }
  const topic = topicOf(call, "Publish");
  const message = query.text("Message") ?? "";
  if (message === "") throw invalid("Empty message");
  if (Buffer.byteLength(message) > MESSAGE_BYTES) throw invalid("Message too long");
  const subject = query.text("Subject");
  if (subject !== undefined && !/^[\x21-\x7e][\x20-\x7e]{0,99}$/.test(subject)) throw invalid("Subject");
  if (query.text("MessageGroupId") !== undefined) {
    throw invalid(
      "MessageGroupId Reason: The request includes MessageGroupId parameter that is not valid for this topic type",
    );
  }
  const structure = query.text("MessageStructure");
  if (structure !== undefined && (structure !== "json" || !hasDefault(message))) {
    throw invalid("Message Structure - No default entry in JSON message body");
  }
  const id = randomUUID();
  topic.messages.push({ id, subject, message, attributes: attributesOf(query) });
  return { MessageId: id };
}

/** @see https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html */
function attributesOf(query: Query): Record<string, string> {
  const attributes: Record<string, string> = {};
  for (const entry of query.structures("MessageAttributes.entry")) {
    const name = entry.text("Name") ?? "";
    const value = entry.under("Value");
    const type = value.text("DataType") ?? "";
    const text = value.text("StringValue") ?? value.text("BinaryValue") ?? "";
    if (!/^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,255}$/.test(name) || !/^(String|String\.Array|Number|Binary)$/.test(type)) {
      throw new AwsFault("ParameterValueInvalid", `The message attribute '${name}' has an invalid name or type.`);
    }
    if (text === "") {
      throw new AwsFault("ParameterValueInvalid", `The message attribute '${name}' must contain a non-empty value.`);
    }
    attributes[name] = text;
  }
  return attributes;
}

function topicOf({ state, caller, query }: SnsCall, action: string): AwsTopic {
  const arn = query.text("TopicArn") ?? query.text("TargetArn") ?? "";
  const [, , service, region, account] = arn.split(":");
  if (service !== "sns" || region !== caller.region || arn.split(":").length !== 6) throw invalid("TopicArn");
  if (account !== caller.account) throw notAllowed(caller, action, arn);
  const topic = state.topics.get(arn);
  if (topic === undefined) throw new AwsFault("NotFound", "Topic does not exist", 404);
  return topic;
}

function hasDefault(message: string): boolean {
  try {
    return typeof JSON.parse(message).default === "string";
  } catch {
    return false;
  }
}

function notAllowed(caller: Caller, action: string, arn: string): AwsFault {
  return new AwsFault(
    "AuthorizationError",
    `User: ${caller.arn} is not authorized to perform: SNS:${action} on resource: ${arn} because no resource-based policy allows the SNS:${action} action`,
    403,
  );
}

function invalid(what: string): AwsFault {
  return new AwsFault("InvalidParameter", `Invalid parameter: ${what}`);
}
