/** Everything the bus keeps, in the order in which it came to be. */
import { DISPATCH_MIGRATIONS } from "./dispatch/schema.ts";
import { INBOX_MIGRATIONS } from "./inbox.ts";
import { OUTBOX_MIGRATIONS, SENDING_MIGRATIONS } from "./outbox.ts";
import { SHADOW_MIGRATIONS } from "./shadow.ts";

export const BUS_MIGRATIONS = [
  ...OUTBOX_MIGRATIONS,
  ...INBOX_MIGRATIONS,
  ...DISPATCH_MIGRATIONS,
  ...SENDING_MIGRATIONS,
  ...SHADOW_MIGRATIONS,
];
