import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

// Vitest looks its files up by addresses in which these characters mean something else, and then finds none.
const folder = fileURLToPath(new URL(".", import.meta.url));
if (/[#%?]/.test(folder))
  throw new Error(
    `the tests cannot run in a folder with #, % or ? in its name, got ${folder}: move the clone`,
  );

/**
 * The only limit of time that any test has: it finds what hangs, and no machine is too slow for it. So no test has a
 * limit of its own, and none waits for a clock where it can wait for what is to happen.
 */
const LIMIT = 600_000;
const limits = { testTimeout: LIMIT, hookTimeout: LIMIT, teardownTimeout: LIMIT };

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
          ...limits,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: "browser",
          include: ["test/browser/**/*.test.ts"],
          ...limits,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
