/** `npm start`: the tour of all systems, then the studio. */
import { start } from "./start/index.ts";

process.exitCode = await start(process.argv.slice(2));
