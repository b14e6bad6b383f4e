/** Runs one case of the diffusion suite in a process of its own: `tsx bench/diffusion-measure.ts JSON`. */
import { writeSafetensors } from "../src/io/index.ts";
import { DIFFUSION_CASES, mapSafetensors, readInputs } from "./diffusion-cases.ts";

export interface MeasureRequest {
  readonly index: number;
  readonly weights: string;
  readonly inputs: string;
  readonly output: string;
  readonly budget: number;
}

const request: MeasureRequest = JSON.parse(process.argv[2]!);
const started = performance.now();
const item = DIFFUSION_CASES[request.index]!;
const weights = item.inMemory
  ? new Map(Object.entries(await readInputs(request.weights)))
  : await mapSafetensors(request.weights);
const run = item.open(weights, await readInputs(request.inputs));
const first = await run();
const firstSeconds = (performance.now() - started) / 1000;
const data = new Float32Array(await first.toArray());
await writeSafetensors(request.output, { output: { dtype: "f32", shape: first.shape, data } });
const times: number[] = [];
const end = performance.now() + request.budget * 1000;
while (performance.now() < end || times.length < 2) {
  const start = performance.now();
  await run();
  times.push((performance.now() - start) / 1000);
}
const peakBytes = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ seconds: Math.min(...times), firstSeconds, peakBytes }));
