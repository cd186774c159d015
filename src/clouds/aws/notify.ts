/** A notice to an SNS topic: one message for an image version, with its id in every region. */
import type { CallContext } from "../../lib/call.ts";
import type { Region } from "../../model.ts";
import type { Notice } from "../cloud.ts";
import type { Account } from "./account.ts";

/** SNS takes subjects of so many printable ASCII characters. */
const SUBJECT_CHARACTERS = 100;

/** @throws CloudError */
export async function notify(account: Account, topic: string, notice: Notice, call: CallContext): Promise<void> {
  const { change, spec } = notice;
  const attribute = (StringValue: string) => ({ DataType: "String", StringValue });
  const attributes = { change, arch: spec.arch, ...(spec.tags.Channel ? { channel: spec.tags.Channel } : {}) };
  const request = {
    TopicArn: topic,
    Subject: `${spec.name} ${change}`.replace(/[^\x20-\x7e]/g, "?").slice(0, SUBJECT_CHARACTERS),
    Message: messageOf(notice),
    // What subscribers may filter by.
    MessageAttributes: Object.fromEntries(Object.entries(attributes).map(([name, text]) => [name, attribute(text)])),
  };
  await account.connection.sns(regionOf(topic), "Publish", topic, call, (sns, send) => sns.publish(request, send));
}

/** A public interface: fields are added, never renamed. Regions in a stable order. */
function messageOf({ change, spec, images }: Notice): string {
  const sorted = [...images].sort((a, b) => (a.region < b.region ? -1 : 1));
  const amis = Object.fromEntries(sorted.map(({ region, id }) => [region, id]));
  return JSON.stringify({
    change,
    name: spec.name,
    arch: spec.arch,
    ...(spec.tags.ComposeID ? { compose_id: spec.tags.ComposeID } : {}),
    ...(spec.tags.Channel ? { channel: spec.tags.Channel } : {}),
    ...(spec.aws?.parameter ? { parameter: spec.aws.parameter } : {}),
    ...(spec.endOfLife ? { end_of_life: spec.endOfLife } : {}),
    amis,
  });
}

/** `arn:aws:sns:us-east-1:111122223333:images` */
export function regionOf(topic: string): Region {
  return topic.split(":")[3] ?? "";
}
