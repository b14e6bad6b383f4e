/** Runs one case in a process of its own, so that its peak memory is its own: `tsx bench/measure.ts INDEX SECONDS`. */
import { CASES } from "./cases.ts";

const [index, budget] = process.argv.slice(2).map(Number) as [number, number];
const { run, flops } = await CASES[index]!.build();
await run();
await run();
const times: number[] = [];
const end = performance.now() + budget * 1000;
while (performance.now() < end || times.length < 3) {
  const start = performance.now();
  await run();
  times.push((performance.now() - start) / 1000);
}
console.log(
  JSON.stringify({ seconds: Math.min(...times), peakBytes: process.resourceUsage().maxRSS * 1024, flops }),
);
