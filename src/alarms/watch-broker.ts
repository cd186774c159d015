import { type Alarm, alarmKey } from "./alarm.ts";
import { forPeople, plain } from "./text.ts";

/** How the doors to the broker are. Undefined: nothing is configured to go through that one. */
export interface BrokerState {
  readonly consuming: boolean | undefined;
  readonly publishing: boolean | undefined;
  /** Why not, in words without secrets. */
  readonly trouble: string | undefined;
}

/** Since when this process has seen each door shut: milliseconds since 1970. */
export type ShutSince = Map<"consuming" | "publishing", number>;

const WORDS = {
  consuming: "Events have not been taken from the broker",
  publishing: "Messages could not be sent to the broker",
} as const;

/** `broker`: no connection for `after` milliseconds. `shut` is kept from look to look. */
export function watchBroker(now: Date, state: BrokerState, after: number, shut: ShutSince): Alarm[] {
  const alarms: Alarm[] = [];
  for (const door of ["consuming", "publishing"] as const) {
    if (state[door] !== false) {
      shut.delete(door);
      continue;
    }
    const since = shut.get(door) ?? now.getTime();
    shut.set(door, since);
    const lasted = now.getTime() - since;
    if (lasted < after) continue;
    alarms.push({
      ...{ key: alarmKey("broker", door), kind: "broker", severity: "error", subject: door },
      message: `${WORDS[door]} for ${forPeople(lasted)}: ${plain(state.trouble ?? "no reason is known", 250)}`,
      next: "Slipway connects again by itself, and nothing of ours is lost. Is the broker up, the way to it open, the certificate good? slipway doctor",
    });
  }
  return alarms;
}
