import { defineConfig } from "vitest/config";

// Suites against real servers and real clients. Each skips itself when what it needs is not here, except in CI.
export default defineConfig({
  test: {
    include: ["test/interop/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: "forks",
    maxWorkers: 1,
  },
});
