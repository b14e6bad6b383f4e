/** Data larger than memory: rows of a file are read by their number, shuffled, in batches that are pure functions of the step. */
import { open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromHost, type Tensor } from "tweedie";
import { dataset } from "tweedie/data";
import { adamW, createRng, MLP, train } from "tweedie/nn";
import { epochIndices } from "tweedie/training";

const [ROWS, WIDTH, BATCH] = [Number(process.argv[2] ?? 200_000), 64, 64];
const path = join(tmpdir(), `tweedie-rows-${process.pid}.bin`);
const writing = await open(path, "w");
const pattern = Float32Array.from({ length: WIDTH * 1000 }, (_, i) => Math.sin(i % WIDTH) + Math.sin(i / WIDTH) / 2);
for (let row = 0; row < ROWS; row += 1000)
  await writing.write(new Uint8Array(pattern.buffer), 0, Math.min(1000, ROWS - row) * WIDTH * 4);
await writing.close();

const file = await open(path, "r");
try {
  const rows = dataset(ROWS, async (index) => {
    const row = new Float32Array(WIDTH);
    await file.read(new Uint8Array(row.buffer), 0, WIDTH * 4, index * WIDTH * 4);
    return row;
  });
  const indices = epochIndices(rows.length, BATCH, 1);
  /** Rows of a step. Nothing is remembered between steps, so that a training that was killed goes on bit for bit. */
  const batch = async (step: number): Promise<{ x: Tensor }> => {
    const found = await Promise.all(Array.from(indices(step), (i) => rows.get(i)));
    const x = new Float32Array(BATCH * WIDTH);
    for (const [i, row] of found.entries()) x.set(row, i * WIDTH);
    return { x: fromHost("f32", [BATCH, WIDTH], x) };
  };
  const megabytes = (): number => process.memoryUsage().rss / 2 ** 20;
  let before = 0;
  for await (const event of train({
    model: new MLP([WIDTH, 16, WIDTH], createRng(0)),
    optimizer: adamW({ learningRate: 1e-2 }),
    steps: 200,
    batch,
    loss: (net, { x }: { x: Tensor }) => net.call(x).sub(x).square().mean(),
  })) {
    if (event.type !== "step" || event.step % 100 !== 0) continue;
    before ||= megabytes();
    console.log(`step ${event.step}: loss ${event.loss.toFixed(4)}`);
  }
  console.log(
    `memory grew by ${Math.max(0, megabytes() - before).toFixed(0)} MiB over the last 100 steps; the file has ${((ROWS * WIDTH * 4) / 2 ** 20).toFixed(0)}`,
  );
} finally {
  await file.close();
  await rm(path);
}
