/** `npm start`: the tour of all systems, then the studio. */
import { start } from "./start/index.ts";
import { endWithReader, guardTerminal } from "./terminal.ts";

endWithReader();
guardTerminal();
process.exitCode = await start(process.argv.slice(2));
