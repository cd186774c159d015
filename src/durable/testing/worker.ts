// A process of its own for tests: an engine on the database given, killed at a step's boundary if told so.
import { openDatabase } from "../../database/index.ts";
import { silent } from "../../lib/call.ts";
import { type CrashPoint, openEngine } from "../index.ts";
import { allWorkflows, story, storyOptions } from "./story.ts";

const { url, crash, leaseMs } = JSON.parse(process.argv[2] ?? "{}") as {
  url: string;
  crash?: { at: CrashPoint["at"]; step: string };
  leaseMs?: number;
};

const database = await openDatabase({ url, dataDir: "/nonexistent", log: silent });
const engine = await openEngine({
  ...storyOptions(database),
  ...(leaseMs ? { leaseMs } : {}),
  crashPoint: ({ at, step }) => {
    if (at === crash?.at && step === crash.step) process.kill(process.pid, "SIGKILL");
  },
});
engine.register(allWorkflows);
await engine.launch();
process.send?.({ executor: engine.executorId });
process.on("message", async ({ start }: { start?: string }) => {
  if (start !== undefined) {
    const run = await engine.start(story, null, { runId: start, queue: "stories" });
    process.send?.({ result: await run.result() });
    return;
  }
  await engine.close();
  await database.close();
  process.disconnect();
});
