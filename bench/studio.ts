/** The studio's server under crowds, slow and rude clients: `npm run bench:studio`. The table is bench/results/studio.md. */
import { rm, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { tableMarkdown } from "../src/report/index.ts";
import { footprint, loadTrials, type Trial } from "../test/studio/load.ts";
import { spawnStudio, temporaryFolder } from "../test/studio/server.ts";

const ROUNDS = 5;
const OUT = new URL("./results/studio.md", import.meta.url);

const at = (sorted: readonly number[], share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0;
const ms = (value: number): string => (value < 10 ? value.toFixed(1) : value.toFixed(0));

const row = ({ name, statuses, milliseconds }: Trial): string[] => [
  name,
  Object.entries(statuses)
    .map(([status, count]) => `${count} × ${status}`)
    .join(", "),
  ms(at(milliseconds, 0.5)),
  ms(at(milliseconds, 0.95)),
  ms(at(milliseconds, 1)),
];

const data = await temporaryFolder();
const started = performance.now();
const { child, port } = await spawnStudio(data);
const startSeconds = (performance.now() - started) / 1000;
const target = { port, pid: child.pid! };
const held: [string, ReturnType<typeof footprint>][] = [["start", footprint(target)]];
const trials: Trial[] = []; // of the first round
for (let round = 1; round <= ROUNDS; round++) {
  for await (const trial of loadTrials(target)) if (round === 1) trials.push(trial);
  await delay(2000);
  held.push([`round ${round}`, footprint(target)]);
  console.log(held.at(-1));
}
child.kill("SIGKILL");
await new Promise((resolve) => child.once("exit", resolve));
await rm(data, { recursive: true, force: true });

const text = `# The studio's server under load

\`npm run bench:studio\`: ${cpus().length} cores (${cpus()[0]?.model.trim()}), Node ${process.version}; clients on the same machine. A job runs all the
time in its own process. The first of ${ROUNDS} rounds, in milliseconds:

${tableMarkdown({ columns: ["what", "answers", "median", "95 %", "slowest"], rows: trials.map(row) })}

\`cut\`: the connection was closed while the client was still sending a body that is too large; the answer is lost then.

What the server holds, two seconds after each round (${trials.reduce((n, t) => n + t.milliseconds.length, 0)} requests and connections a round):

${tableMarkdown({
  columns: ["after", "resident MiB", "open handles"],
  rows: held.map(([when, { mebibytes, handles }]) => [when, Math.round(mebibytes), handles]),
})}

From sources, the server answers ${startSeconds.toFixed(1)} s after it was started.
`;
await writeFile(OUT, text);
console.log(text);
