import { defineConfig } from "vitest/config";

/** The Node suite first, then the browser suite, which is skipped with a message where there is no Chromium. */
export default defineConfig({
  test: {
    // A test file uses little more than one core: as many at a time as there are cores.
    maxWorkers: "100%",
    projects: [
      {
        test: {
          name: "node",
          include: ["test/**/*.test.ts"],
          exclude: ["test/browser/**"],
          testTimeout: 60_000,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts"],
          testTimeout: 60_000,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
