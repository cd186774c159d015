import { expect } from "vitest";
import type { Stage } from "./stage.ts";

/**
 * Runs a command again and again, killed once at every step's boundary, until it ends by itself and well.
 * @returns how often it was killed
 */
export async function untilDone(stage: Stage, args: readonly string[]): Promise<number> {
  for (let kills = 0; kills < 100; kills++) {
    // `done`: the effect has happened, nobody wrote it down. `kept`: it is on record, the next step has not begun.
    const at = kills % 2 === 0 ? "done" : "kept";
    const ended = await stage.slipway([...args, "--output", "json"], { crash: { at, nth: 1 } });
    if (ended.signal === "SIGKILL") continue;
    expect(ended.stderr).not.toContain("error");
    expect(ended.code, ended.stdout).toBe(0);
    return kills;
  }
  throw new Error(`${args.join(" ")} does not end`);
}
