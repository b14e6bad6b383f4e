import { expect, it } from "vitest";
import { unet2DCondition } from "../../src/networks/unet/unet-2d-condition.ts";
import { adamW, blankRng, initialState, makeTrainStep, parameters } from "../../src/nn/index.ts";
import { jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { expectRelative, networkOf, readJson, readTensors } from "./conformance.ts";

type UNet = ReturnType<typeof unet2DCondition>;
const loadUNet = () => networkOf("unet2d-condition", (config) => unet2DCondition(config, blankRng));

/** ᾱ of the schedule "scaled_linear 0.00085..0.012" of Stable Diffusion. */
const signal = (() => {
  const [from, to] = [Math.sqrt(0.00085), Math.sqrt(0.012)];
  const kept: number[] = [];
  for (let t = 0; t < 1000; t++) kept.push((kept[t - 1] ?? 1) * (1 - (from + ((to - from) * t) / 999) ** 2));
  return kept;
})();

it("ten DDIM steps with guidance follow the reference's latents (Song et al. 2020, equation 12)", async () => {
  const tensors = readTensors("ddim-loop", "expected.safetensors");
  const { timesteps, guidanceScale } = readJson("ddim-loop", "config.json") as {
    timesteps: number[];
    guidanceScale: number;
  };
  const unet = loadUNet();
  const context = tensors.get("in.uncond")!.concat(tensors.get("in.cond")!, 0);
  const step = jit((net: UNet, x: Tensor, t: Tensor, kept: Tensor, keptNext: Tensor) => {
    const [plain, told] = net.call(x.concat(x, 0), t, context).split(2, 0) as [Tensor, Tensor];
    const noise = plain.add(told.sub(plain).mul(guidanceScale));
    const clean = x.sub(noise.mul(kept.neg().add(1).sqrt())).div(kept.sqrt());
    return clean.mul(keptNext.sqrt()).add(noise.mul(keptNext.neg().add(1).sqrt()));
  });
  let x = tensors.get("in.latents")!;
  for (const [i, t] of timesteps.entries()) {
    const next = timesteps[i + 1] ?? 0; // the last step ends at the first ᾱ
    x = await step(unet, x, tensor([t]), tensor(signal[t]!), tensor(signal[next]!));
    await expectRelative(x, tensors.get(`out.step${i}`)!, 1e-3, `step ${i}`);
  }
  expect(step.signatures).toBe(1);
  await step.close();
});

it("five AdamW steps have the reference's losses, gradient norms and parameters", async () => {
  const tensors = readTensors("adamw-training", "expected.safetensors");
  const { losses, gradNormsBeforeClip, clip, lr, weightDecay, paramAfter } = readJson(
    "adamw-training",
    "config.json",
  ) as Record<"losses" | "gradNormsBeforeClip", number[]> &
    Record<"clip" | "lr" | "weightDecay", number> & { paramAfter: string };
  const context = tensors.get("in.encoder_hidden_states")!;
  type Batch = { noisy: Tensor; noise: Tensor; timestep: Tensor };
  const optimizer = adamW({ learningRate: lr, weightDecay });
  const loss = (net: UNet, { noisy, noise, timestep }: Batch): Tensor =>
    net.call(noisy, timestep, context).sub(noise).square().mean();
  const step = makeTrainStep<UNet, Batch>({ loss, optimizer, clipNorm: clip });
  let state = initialState(loadUNet(), optimizer);
  for (const [i, expected] of losses.entries()) {
    const [noise, timestep] = [tensors.get(`in.noise${i}`)!, tensors.get(`in.timestep${i}`)!];
    const kept = tensor((await timestep.toArray()).map((t) => signal[t]!)).reshape([2, 1, 1, 1]);
    const noisy = tensors
      .get("in.x0")!
      .mul(kept.sqrt())
      .add(noise.mul(kept.neg().add(1).sqrt()));
    const out = await step(state, { noisy, noise, timestep });
    state = out.state;
    expect(Math.abs((await out.loss.item()) / expected - 1), `loss ${i}`).toBeLessThan(1e-4);
    const norm = await out.norm.item();
    expect(Math.abs(norm / gradNormsBeforeClip[i]! - 1), `norm ${i}`).toBeLessThan(1e-3);
  }
  const after = parameters(state.model).get(paramAfter)!;
  await expectRelative(after, tensors.get(`out.${paramAfter}`)!, 1e-4, paramAfter);
  await step.close();
});
