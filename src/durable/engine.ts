import { SlipwayError } from "../lib/errors.ts";
import type { Engine, EngineOptions } from "./types.ts";

export async function openEngine<S>(options: EngineOptions<S>): Promise<Engine<S>> {
  throw new SlipwayError("unsupported", "the engine cannot be opened yet", { subject: options.role });
}
