import { defineConfig } from "vitest/config";

// Tests live beside the code. Interop suites (real servers, real clients) run by `make test` through
// test/interop/run, which names every one that could not run; they are not part of this project.
export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "rehearsal/src/**/*.test.ts", "test/*.test.ts", "test/release/**/*.test.ts"],
    setupFiles: ["test/setup.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
  },
});
