import type { FreezeWindow } from "./services.ts";

/** The window that is now, the one that lasts longest if there are several. Without a system: any. Pure. */
export function windowAt(windows: readonly FreezeWindow[], now: Date, system?: string): FreezeWindow | undefined {
  const at = now.getTime();
  return windows
    .filter(({ from, until }) => from <= at && at < until)
    .filter(({ systems }) => systems === undefined || system === undefined || systems.includes(system))
    .reduce<FreezeWindow | undefined>(
      (one, other) => (one === undefined || other.until > one.until ? other : one),
      undefined,
    );
}
