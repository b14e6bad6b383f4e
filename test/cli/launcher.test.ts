/** What `npx tweedie` starts in a clone without a build, where no package may be downloaded. */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import manifest from "../../package.json" with { type: "json" };

const root = fileURLToPath(new URL("../../", import.meta.url));

test("the launcher that package.json names runs the sources, from any folder", async () => {
  const launcher = join(root, manifest.bin.tweedie);
  const { stdout } = await promisify(execFile)(process.execPath, [launcher, "--version"], { cwd: tmpdir() });
  expect(stdout.trim()).toBe(manifest.version);
});

test("npx finds it with an empty cache", async () => {
  const cache = await mkdtemp(join(tmpdir(), "tweedie-npx-"));
  try {
    const env = { ...process.env, npm_config_cache: cache, npm_config_offline: "true" };
    const { stdout } = await promisify(execFile)("npx", ["tweedie", "--version"], { cwd: root, env });
    expect(stdout.trim()).toBe(manifest.version);
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
});
