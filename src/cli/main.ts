#!/usr/bin/env node
/** The command `tweedie`. */
import { tweedie } from "./commands/index.ts";
import { runCli } from "./run.ts";
import { endWithReader, guardTerminal } from "./terminal.ts";

endWithReader();
guardTerminal();
process.exitCode = await runCli(tweedie, process.argv.slice(2));
