/** Runs commands one after the other in a folder; prints a line of JSON for each. `commands.child.ts FOLDER LISTS-AS-JSON` */
import { tweedie } from "../../src/cli/commands/index.ts";
import { runCli } from "../../src/cli/run.ts";

const [folder, lists] = process.argv.slice(2) as [string, string];
process.chdir(folder);
const print = process.stdout.write.bind(process.stdout);
// What commands print is theirs; this process prints how they ended.
process.stdout.write = (() => true) as typeof process.stdout.write;
for (const args of JSON.parse(lists) as string[][]) {
  const said: string[] = [];
  const startedAt = performance.now();
  const code = await runCli(tweedie, args, {
    out: (text) => said.push(text),
    error: (text) => said.push(text),
  });
  const seconds = (performance.now() - startedAt) / 1000;
  print(`${JSON.stringify({ args, code, said: said.join("\n").slice(-20_000), seconds })}\n`);
}
process.exit(0);
