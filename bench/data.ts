/**
 * The suite `data`: views of the scene world per second, and how much of a training step is spent waiting for its
 * batch when pictures are decoded and augmented beside it.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Dataset,
  loadBatches,
  openInWorkers,
  picturesToTensor,
  type SceneSample,
  tensorToPictures,
} from "../src/data/index.ts";
import { encodePicture } from "../src/io/index.ts";
import { adamW, initialState, makeTrainStep } from "../src/nn/index.ts";
import { createNoise, fromHost, type Tensor } from "../src/tensor/index.ts";
import type { AugmentedSample } from "./data-source.ts";
import { makeUNet, unet } from "./models.ts";
import type { SuiteOptions, SuiteResult } from "./suite.ts";

interface DataRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly target: string;
}

const source = new URL("./data-source.ts", import.meta.url);

/** Views of 64x64 rendered in two threads. */
async function worldSpeed(seconds: number): Promise<DataRow[]> {
  const rows: DataRow[] = [];
  for (const light of ["flat", "lamp", "either"] as const) {
    const recipe = { module: source, name: "scenes", args: [{ seed: 0, count: 100_000, size: 64, light }] };
    const scenes = await openInWorkers<SceneSample>(recipe, 2);
    let [count, started] = [0, 0];
    for await (const batch of loadBatches(scenes, { batchSize: 16, prefetch: 2 })) {
      if (started === 0)
        started = performance.now(); // the first batch waits for the threads to start
      else count += batch.samples.length;
      if (performance.now() - started > seconds * 1000) break;
    }
    const rate = count / ((performance.now() - started) / 1000);
    await scenes.close();
    rows.push({
      name: `scene world, ${light === "either" ? "half flat, half lamp" : `${light} light`}, 64x64, two threads`,
      value: rate,
      unit: "views/s",
      target: ">= 200",
    });
  }
  return rows;
}

/** 64 PNG files of 96x96 in a folder of their own. */
async function pictureFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "tweedie-bench-"));
  const noise = createNoise("philox", 1);
  const x = fromHost("f32", [64, 3, 96, 96], noise.uniform([64, 3, 96, 96]));
  for (const [i, picture] of (await tensorToPictures(x, "unit")).entries())
    await writeFile(join(folder, `${i}.png`), await encodePicture(picture));
  return folder;
}

/** Share of the time of training steps that goes by before their batch is there. */
async function waiting(seconds: number): Promise<DataRow[]> {
  const folder = await pictureFolder();
  const model = makeUNet([64, 96, 160], 3);
  const optimizer = adamW({ learningRate: 1e-4 });
  const times = fromHost("f32", [16], new Float32Array(16).fill(500));
  const loss = (m: typeof model, x: Tensor): Tensor => unet(m, x, times).sub(x).square().mean();
  const step = makeTrainStep({ loss, optimizer, clipNorm: 1 });
  const pictures: Dataset<AugmentedSample> & { close(): Promise<void> } = await openInWorkers(
    { module: source, name: "augmentedFolder", args: [folder] },
    1,
  );
  let state = initialState(model, optimizer);
  let [waited, total, steps] = [0, 0, 0];
  let before = performance.now();
  for await (const batch of loadBatches(pictures, { batchSize: 16, shuffle: 1 })) {
    const arrived = performance.now();
    const out = await step(state, picturesToTensor(batch.samples.map((s) => s.image)));
    state = out.state;
    await out.loss.item();
    const end = performance.now();
    if (steps > 1) {
      waited += arrived - before;
      total += end - before;
    }
    before = end;
    if (++steps > 3 && total > seconds * 1000) break;
  }
  await pictures.close();
  await step.close();
  await rm(folder, { recursive: true });
  const share = (100 * waited) / total;
  return [
    {
      name: "waiting for data, U-Net 5M step, 16 PNG files decoded, cropped, flipped, jittered",
      value: share,
      unit: "% of the step",
      target: "< 5",
    },
  ];
}

export async function dataSuite({ seconds }: SuiteOptions): Promise<SuiteResult> {
  const rows = [...(await worldSpeed(seconds)), ...(await waiting(seconds))];
  for (const { name, value, unit } of rows) console.log(`${name}: ${value.toFixed(1)} ${unit}`);
  const lines = rows.map((r) => `| ${r.name} | ${r.value.toFixed(1)} | ${r.unit} | ${r.target} |`);
  const page = `# Data benchmark

Measured on ${new Date().toISOString().slice(0, 10)}, Node ${process.version}, 2 cores. Command: \`npm run bench -- data\`.

| case | measured | unit | target |
|---|--:|---|--:|
${lines.join("\n")}
`;
  return { rows, page };
}
