/** Child process of the kill tests: saves checkpoints until killed, printing each step that `save` acknowledged. */

import { openRunDirectory } from "../../src/io/run-directory.ts";

const [path, mode] = process.argv.slice(2) as [string, string];
const run = await openRunDirectory(path, { keep: 2 });
process.stdout.write("open\n");
if (mode === "hold") await new Promise(() => setInterval(() => {}, 60_000)); // until it is killed
const latest = await run.latest();
for (let step = (latest?.step ?? 0) + 1; ; step++) {
  // Every third save writes the same step again, to be killed while a checkpoint is replaced.
  for (let again = step % 3 === 0 ? 2 : 1; again > 0; again--) {
    const data = new Float32Array(20_000).fill(step);
    await run.save(step, {
      "model.safetensors": { tensors: { weights: { dtype: "f32", shape: [20_000], data } } },
      "state.json": new TextEncoder().encode(JSON.stringify({ step })),
    });
    process.stdout.write(`saved ${step}\n`);
  }
}
