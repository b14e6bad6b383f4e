#!/usr/bin/env node
// The command: the built one in a package, the sources in a clone, which need no build.
import { existsSync } from "node:fs";

const source = new URL("../src/cli/main.ts", import.meta.url);
if (existsSync(source)) {
  const { register } = await import("tsx/esm/api");
  register();
  await import(source.href);
} else await import("../dist/cli/main.js");
