/** ONNX: a network and a whole training step as files that need no Tweedie, and a file that is run. */
import { readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNoise, exportOnnx, fromHost, importOnnx, jit, type Tensor, tensor, valueAndGrad } from "tweedie";
import { createUNet2D, type UNet2DModel } from "tweedie/networks";
import { createRng } from "tweedie/nn";

const model = createUNet2D(createRng(0), {
  inChannels: 1,
  outChannels: 1,
  channels: [16, 16],
  downBlocks: ["DownBlock2D", "AttnDownBlock2D"],
  upBlocks: ["AttnUpBlock2D", "UpBlock2D"],
  layers: 1,
  groups: 8,
});
const x = fromHost("f32", [2, 1, 8, 8], createNoise("philox", 3).normal([2, 1, 8, 8]));
const t = tensor([3, 7]);

// What a function takes from outside, here the weights, lies in the file.
const path = process.argv[2] ?? join(tmpdir(), `tweedie-${process.pid}.onnx`);
const network = (sample: Tensor, timestep: Tensor): Tensor => model.call(sample, timestep);
await writeFile(path, await exportOnnx(network, [x, t], { inputNames: ["sample", "timestep"], outputNames: ["noise"] }));
const file = await importOnnx(await readFile(path));
console.log(`inputs ${file.inputs.map(({ name, shape }) => `${name} [${shape}]`).join(", ")}`);
const { noise } = await file.run({ sample: x, timestep: t });
const expected = await jit(network)(x, t);
console.log(`largest difference ${(await noise!.sub(expected).abs().max().item()).toExponential(1)}`);
await file.close();

// Arguments are inputs: here all parameters, and their gradients are outputs.
const loss = (m: UNet2DModel, sample: Tensor, timestep: Tensor): Tensor => m.call(sample, timestep).square().mean();
const step = await exportOnnx(
  (m: UNet2DModel, sample: Tensor, timestep: Tensor) => valueAndGrad(loss)(m, sample, timestep),
  [model, x, t],
);
const training = await importOnnx(step);
console.log(`a training step: ${training.inputs.length} inputs, ${training.outputs.length} outputs`);
await training.close();

// Files say what is wrong with what they are given.
const again = await importOnnx(await readFile(path));
await again.run({ sample: x }).catch((error: Error) => console.log(`${error.name}: ${error.message}`));
await again.close();
