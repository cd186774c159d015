/** The room of alarms: what it is, and where to start reading, is in alarm.ts. */
export { ALARM_KINDS, type Alarm, type AlarmKind, type Notice } from "./alarm.ts";
export { type KeptAlarm, listAlarms, snoozeAlarm, type Told } from "./book.ts";
export { busChannel } from "./channels/bus.ts";
export type { Channel, Secret } from "./channels/channel.ts";
export { mailChannel } from "./channels/mail.ts";
export { matrixChannel } from "./channels/matrix.ts";
export { slackChannel } from "./channels/slack.ts";
export { webhookChannel } from "./channels/webhook.ts";
export { lastLook } from "./keep.ts";
export type { AlarmSettings } from "./look.ts";
export { type AlarmLoop, watchAlarms } from "./loop.ts";
export type { Peer } from "./peer-certificate.ts";
export { ALARM_MIGRATIONS, type AlarmTables } from "./schema.ts";
export { testNotice } from "./test-notice.ts";
export { forPeople } from "./text.ts";
export type { BrokerState } from "./watch-broker.ts";
export type { Certificate } from "./watch-credentials.ts";
