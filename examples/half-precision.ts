/** Half precision: weights as f16 in forward and backward, and masters in f32 whose network computes with f16 copies. */
import { createNoise, fromHost, jit, type Tensor, tensor, valueAndGrad } from "tweedie";
import { createUNet2D, type UNet2DModel } from "tweedie/networks";
import { createRng, mapParameters } from "tweedie/nn";

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
const halved = (m: UNet2DModel): UNet2DModel => mapParameters(m, (p) => p.cast("f16"));

const forward = jit((m: UNet2DModel, input: Tensor, at: Tensor) => m.call(input, at));
const full = await forward(model, x, t);
const half = await forward(halved(model), x.cast("f16"), t);
console.log(`outputs as ${half.dtype}: largest difference ${(await half.cast("f32").sub(full).abs().max().item()).toFixed(4)}`);

// A loss is a mean of squares: in f32, for f16 ends at 65504.
const loss = (m: UNet2DModel, input: Tensor): Tensor => m.call(input, t).cast("f32").square().mean();
const step = jit((m: UNet2DModel, input: Tensor) => valueAndGrad(loss)(m, input));
const mixed = jit((m: UNet2DModel, input: Tensor) =>
  valueAndGrad((masters: UNet2DModel) => loss(halved(masters), input.cast("f16")))(m),
);
const [exact, slopes] = await step(model, x);
const [near, masters] = await mixed(model, x);
console.log(
  `losses ${(await exact.item()).toFixed(4)} and ${(await near.item()).toFixed(4)} with masters in ${masters.convIn.weight.dtype}`,
);
const [a, b] = [slopes.convIn.weight, masters.convIn.weight];
console.log(`gradients differ by ${((await a.sub(b).norm().item()) / (await a.norm().item())).toFixed(4)} of their norm`);

// Types are not mixed by accident, and what f16 cannot hold is seen.
try {
  tensor([1]).add(tensor([1], { dtype: "f16" }));
} catch (error) {
  console.log(`${(error as Error).name}: ${(error as Error).message}`);
}
console.log(`1.5, 70000, 1e-8 as f16: ${await tensor([1.5, 70000, 1e-8], { dtype: "f16" }).toArray()}`);
