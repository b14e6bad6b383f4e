#!/usr/bin/env node
/** The command `tweedie`. */
import { tweedie } from "./commands/index.ts";
import { runCli } from "./run.ts";

process.exitCode = await runCli(tweedie, process.argv.slice(2));
