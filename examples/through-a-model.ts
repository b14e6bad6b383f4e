/** Gradients through a frozen network: a loss in its features trains a restorer, a reward of four sampling steps its adapters. */
import { checkpoint, createNoise, fromHost, jit, type Tensor, tensor, valueAndGrad } from "tweedie";
import { edmPrediction, euler, finalSample, karrasSigmas, networkDenoiser, withZero } from "tweedie/diffusion";
import { createUNet2D, type UNet2DModel } from "tweedie/networks";
import { addLora, Conv2d, captureFeatures, createRng, frozen, loraParameters, Module, withLoraParameters } from "tweedie/nn";

const unet = createUNet2D(createRng(0), {
  inChannels: 1,
  outChannels: 1,
  channels: [16, 16],
  downBlocks: ["DownBlock2D", "AttnDownBlock2D"],
  upBlocks: ["AttnUpBlock2D", "UpBlock2D"],
  layers: 1,
  groups: 8,
});
const clean = fromHost("f32", [2, 1, 8, 8], createNoise("philox", 3).normal([2, 1, 8, 8]));

class Restorer extends Module {
  first = new Conv2d(1, 8, 3, createRng(9), { padding: 1 });
  last = new Conv2d(8, 1, 3, createRng(10), { padding: 1 });
  call(x: Tensor): Tensor {
    return this.last.call(this.first.call(x).silu());
  }
}
/** How far the restored picture's features in the middle of the U-Net are from the clean one's. */
const featureLoss = (r: Restorer, prior: UNet2DModel, x: Tensor): Tensor => {
  const features = (picture: Tensor): Tensor =>
    captureFeatures(frozen(prior), ["mid_block"], (m) => m.call(picture, tensor([3, 3])))[1].mid_block!;
  return features(r.call(x)).sub(features(clean)).square().mean();
};
const [distance, slopes] = await jit((r: Restorer, prior: UNet2DModel, x: Tensor) => valueAndGrad(featureLoss)(r, prior, x))(
  new Restorer(),
  unet,
  clean.mul(0.9),
);
console.log(
  `feature loss ${(await distance.item()).toFixed(4)}, gradient ${(await slopes.first.weight.norm().item()).toFixed(4)}`,
);

// Four steps of Euler's method with adapters, unrolled; `checkpoint` computes each step again instead of keeping it.
const adapted = addLora(unet, { rank: 2, match: /to_q|to_v/, rng: createRng(2) });
const sigmas = withZero(karrasSigmas(4, { min: 0.05, max: 5 }));
const parameterization = edmPrediction(0.5);
const timestep = (sigma: number): number => Math.log(sigma) * 250;
const denoised = (m: UNet2DModel, x: Tensor, sigma: number): Tensor => {
  const { input, skip, output } = parameterization(sigma);
  return x.mul(skip).add(m.call(x.mul(input), tensor([timestep(sigma)])).mul(output));
};
const reward = (adapters: Record<string, Tensor>, start: Tensor): Tensor => {
  let x = start.mul(sigmas[0]!);
  for (let i = 0; i + 1 < sigmas.length; i++) {
    const [now, next] = [sigmas[i]!, sigmas[i + 1]!];
    const step = (a: Record<string, Tensor>, y: Tensor): Tensor =>
      y.add(y.sub(denoised(withLoraParameters(frozen(adapted), a), y, now)).mul((next - now) / now));
    x = checkpoint(step)(adapters, x);
  }
  return x.square().mean().neg();
};
const [value, gains] = await jit((a: Record<string, Tensor>, z: Tensor) => valueAndGrad(reward)(a, z))(
  loraParameters(adapted),
  clean,
);
const norms = await Promise.all(Object.values(gains).map((g) => g.norm().item()));
const network = jit((m: UNet2DModel, x: Tensor, t: Tensor) => m.call(x, t));
const denoise = networkDenoiser((x, t) => network(adapted, x, tensor([t])), { parameterization, timestep });
const library = await (await finalSample(euler(denoise, clean.mul(sigmas[0]!), sigmas))).square().mean().item();
console.log(
  `reward ${(await value.item()).toFixed(4)}, as the library's sampler: ${Math.abs((await value.item()) + library) < 1e-4}`,
);
console.log(`adapters with a gradient: ${norms.filter((n) => n > 0).length} of ${norms.length}`);
