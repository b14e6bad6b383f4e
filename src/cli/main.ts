#!/usr/bin/env node
/** The command `tweedie`. */
import { tweedie } from "./commands/index.ts";
import { runCli } from "./run.ts";
import { endWithReader } from "./terminal.ts";

endWithReader();
process.exitCode = await runCli(tweedie, process.argv.slice(2));
