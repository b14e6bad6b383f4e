/** A short training run of a denoiser: losses, gradient norms before clipping, and a parameter afterwards. */
import { alphasCumprod, type BetaScheduleName, betas } from "../../src/diffusion/betas.ts";
import { FormatError } from "../../src/errors.ts";
import { adamW, initialState, type Module, makeTrainStep, parameters } from "../../src/nn/index.ts";
import { fromHost, type Tensor } from "../../src/tensor/index.ts";
import { type CaseFolder, type Config, numberOf, numbersOf, tensorOf } from "./cases.ts";
import { type Check, compareNumber, compareTensor, LIMITS } from "./compare.ts";
import { findModel } from "./model-folder.ts";
import { buildNetwork, denoiserOf } from "./networks.ts";

interface Batch {
  /** sqrt(ᾱ) x0 + sqrt(1 - ᾱ) noise, [N, ...]. */
  readonly noisy: Tensor;
  readonly noise: Tensor;
  readonly timestep: Tensor;
  readonly context: Tensor | undefined;
}

/** ᾱ of every training timestep, from a description such as "DDPM scaled_linear 0.00085..0.012, T=1000". */
function signalOf(config: Config): Float32Array {
  const text = String(config.scheduler);
  const found = /(\w+) ([\d.e-]+)\.\.([\d.e-]+), T=(\d+)/.exec(text);
  if (!found)
    throw new FormatError(`config.json: expected "KIND START..END, T=COUNT" as scheduler, got "${text}"`);
  const [kind, start, end, timesteps] = found.slice(1) as [string, string, string, string];
  return alphasCumprod(
    betas({
      schedule: kind as BetaScheduleName,
      start: Number(start),
      end: Number(end),
      timesteps: Number(timesteps),
    }),
  );
}

/** The noisy batch of a step; mixing is the forward process, equation 4 of Ho et al. 2020. */
async function batchOf({ expected }: CaseFolder, step: number, signal: Float32Array): Promise<Batch> {
  const [x0, noise] = [tensorOf(expected, "in.x0"), tensorOf(expected, `in.noise${step}`)];
  const timestep = tensorOf(expected, `in.timestep${step}`);
  const kept = (await timestep.toArray()).map((t) => signal[t]!);
  const spread = (values: number[]): Tensor =>
    fromHost("f32", [values.length, ...x0.shape.slice(1).map(() => 1)], Float32Array.from(values));
  const signalScale = spread(kept.map(Math.sqrt));
  const noiseScale = spread(kept.map((v) => Math.sqrt(1 - v)));
  const noisy = x0.mul(signalScale).add(noise.mul(noiseScale));
  return { noisy, noise, timestep, context: expected.get("in.encoder_hidden_states") };
}

export async function runTrainingCase(folder: CaseFolder, root: string): Promise<Check[]> {
  const { config, expected } = folder;
  const source = await findModel(folder, root);
  const denoise = denoiserOf(source.network);
  const loss = (model: Module, { noisy, timestep, context, noise }: Batch): Tensor =>
    denoise(model, noisy, timestep, context).sub(noise).square().mean();
  const [beta1, beta2] = numbersOf(config, "betas") as [number, number];
  const optimizer = adamW({
    learningRate: numberOf(config, "lr"),
    weightDecay: numberOf(config, "weightDecay"),
    eps: numberOf(config, "eps"),
    beta1,
    beta2,
  });
  const step = makeTrainStep({ loss, optimizer, clipNorm: numberOf(config, "clip") });
  const checks: Check[] = [];
  try {
    let state = initialState(buildNetwork(source), optimizer);
    const signal = signalOf(config);
    const norms = numbersOf(config, "gradNormsBeforeClip");
    for (const [i, reference] of numbersOf(config, "losses").entries()) {
      const result = await step(state, await batchOf(folder, i, signal));
      state = result.state;
      checks.push(compareNumber(`loss ${i}`, "loss", LIMITS.training, await result.loss.item(), reference));
      const norm = await result.norm.item();
      checks.push(compareNumber(`gradient norm ${i}`, "number", LIMITS.training, norm, norms[i]!));
    }
    const after = parameters(state.model);
    for (const [name, reference] of expected) {
      if (!name.startsWith("out.")) continue;
      const got = await tensorOf(after, name.slice(4)).toArray();
      checks.push(compareTensor(name, "parameter", LIMITS.training, got, await reference.toArray()));
    }
  } finally {
    await step.close();
  }
  return checks;
}
