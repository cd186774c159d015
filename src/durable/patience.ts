import { databaseError, isDisconnected } from "../database/index.ts";
import type { Lease } from "./lease.ts";
import type { Room } from "./room.ts";

const RECONNECT_MS = 100;
const ROOM_MS = 2000;

/** Thrown when this process must not go on, because its lease is gone. */
export class NoLease extends Error {}

/**
 * Talks to the database on behalf of a run. Neither a broken connection nor a full disk is a reason to fail it: the
 * lease decides how long to go on trying.
 * @throws NoLease, and what the database says otherwise
 */
export async function patiently<T>(lease: Lease, room: Room, action: () => Promise<T>): Promise<T> {
  for (;;) {
    if (!lease.held()) throw new NoLease();
    try {
      return await action();
    } catch (error) {
      const full = room.notice(error);
      if (!full && !isDisconnected(error)) throw databaseError(error);
      await new Promise((resolve) => setTimeout(resolve, full ? ROOM_MS : RECONNECT_MS));
    }
  }
}
