import type { Notice } from "../alarm.ts";
import { lines } from "../text.ts";
import type { Channel, Secret } from "./channel.ts";
import { sendJson } from "./http.ts";

export interface MatrixSettings {
  readonly name: string;
  /** `https://matrix.example.org` */
  readonly homeserver: string;
  /** `!abc:example.org` */
  readonly room: string;
  readonly token: Secret;
  readonly ca?: string | undefined;
}

/**
 * A Matrix room. The notice's id is the transaction's: the homeserver shows one that comes twice once.
 * @see https://spec.matrix.org/v1.11/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid
 */
export function matrixChannel({ name, homeserver, room, token, ca }: MatrixSettings): Channel {
  const base = homeserver.replace(/\/+$/, "");
  return {
    name,
    kind: "matrix",
    async send(notice, call) {
      const secret = await token();
      const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${notice.id}`;
      await sendJson(
        {
          ...{ channel: name, method: "PUT", url: `${base}${path}`, secrets: [secret], ca },
          headers: { authorization: `Bearer ${secret}` },
          body: JSON.stringify(messageOf(notice)),
        },
        call,
      );
    },
  };
}

/** Plain text alone, without the form that may hold HTML. */
function messageOf(notice: Notice) {
  return {
    msgtype: "m.notice",
    // Older servers wake everybody for "@room" wherever it stands; a character nobody sees makes another word of it.
    body: lines(notice)
      .join("\n")
      .replace(/@room/gi, (word) => `@\u2060${word.slice(1)}`),
    // Who is meant is said here alone, and nobody is.
    "m.mentions": {},
  };
}
