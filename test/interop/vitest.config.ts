import { defineConfig } from "vitest/config";

// Suites against real servers and real clients, each on ports and in folders of its own. Each skips itself when what it
// needs is not here, except in CI. Two at a time: most wait for their servers, one decodes disks.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 2,
    // To ask a server how it is takes rabbitmqctl alone more than the usual second beside another suite.
    expect: { poll: { timeout: 20_000 } },
  },
});
