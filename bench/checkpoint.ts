/** Peak memory of one gradient of a deep network, with `checkpoint` around each block or without: `tsx bench/checkpoint.ts yes|no`. */
import { checkpoint, conv, jit, type Tensor, valueAndGrad } from "../src/tensor/index.ts";
import { random } from "./models.ts";

const recompute = process.argv[2] === "yes";
const DEPTH = 24;
const layers = Array.from({ length: DEPTH }, () => random([32, 32, 3, 3], 0.05));
const block = (x: Tensor, pair: Tensor[]): Tensor =>
  pair.reduce((h, w) => conv(h.silu(), w, undefined, { padding: 1 }), x).add(x);
const loss = (ws: Tensor[], x: Tensor): Tensor => {
  let h = x;
  for (let i = 0; i < DEPTH; i += 4) {
    const part = ws.slice(i, i + 4);
    h = recompute ? checkpoint(block)(h, part) : block(h, part);
  }
  return h.square().mean();
};
const step = jit((ws: Tensor[], x: Tensor) => {
  const [value, gradients] = valueAndGrad(loss)(ws, x);
  return [value, gradients.map((g) => g.square().sum()).reduce((a, b) => a.add(b))] as const;
});
const x = random([16, 32, 64, 64]);
let out = await step(layers, x);
out = await step(layers, x);
const start = performance.now();
out = await step(layers, x);
const seconds = (performance.now() - start) / 1000;
console.log(
  JSON.stringify({
    value: await out[0].item(),
    norm: await out[1].item(),
    seconds,
    peakBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
