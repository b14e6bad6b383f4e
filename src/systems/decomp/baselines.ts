/** What the method is compared with: COMET, which composes energies without diffusion, and the beta-VAE. */
import { ArgumentError } from "../../errors.ts";
import {
  adam,
  binaryCrossEntropyWithLogits,
  blankRng,
  Conv2d,
  ConvTranspose,
  constantDecay,
  createRng,
  Linear,
  Module,
  type Rng,
  withFields,
} from "../../nn/index.ts";
import { avgPool, createNoise, fromHost, full, grad, type Seed, type Tensor } from "../../tensor/index.ts";
import {
  epochIndices,
  modelFile,
  type PhaseResult,
  type PhaseSettings,
  runPhase,
  type TrainingRun,
} from "../../training/index.ts";
import type { Work } from "../../work.ts";
import type { DecompSet } from "./data.ts";
import { checkSet } from "./train.ts";

const conv = (from: number, to: number, rng: Rng, stride = 1): Conv2d =>
  new Conv2d(from, to, 3, rng, { padding: 1, stride });

const linear = (from: number, to: number, rng: Rng): Linear => new Linear(from, to, rng);

// ---- COMET (Du et al. 2021)

export interface CometConfig {
  readonly size: number;
  readonly components: number;
  readonly latent: number;
  readonly filters: number;
  /** n, steps down the energy from noise. */
  readonly steps: number;
  /** lambda, the length of a step. */
  readonly rate: number;
}

/** Two convolutions under gains and shifts of a latent, beside a shortcut; a third at half the size. */
class EnergyBlock extends Module {
  readonly conv1: Conv2d;
  readonly film1: Linear;
  readonly conv2: Conv2d;
  readonly film2: Linear;
  readonly conv3: Conv2d;

  constructor(from: number, to: number, latent: number, rng: Rng) {
    super();
    this.conv1 = conv(from, from, rng);
    this.film1 = linear(latent, 2 * from, rng);
    const second = conv(from, from, rng);
    this.conv2 = withFields<Conv2d>(second, { weight: rng.normal(second.weight.shape, 1e-5) });
    this.film2 = linear(latent, 2 * from, rng);
    this.conv3 = conv(from, to, rng);
  }

  /** x [N, C, H, W], z [N, d]. */
  call(x: Tensor, z: Tensor): Tensor {
    const film = (h: Tensor, layer: Linear): Tensor => {
      const [gain, bias] = layer.call(z).unsqueeze(2).unsqueeze(3).split(2, 1) as [Tensor, Tensor];
      return h.mul(gain).add(bias).silu();
    };
    const h = film(this.conv2.call(film(this.conv1.call(x), this.film1)), this.film2);
    return avgPool(this.conv3.call(x.add(h)).silu(), 3, { stride: 2, padding: 1 });
  }
}

/** E(x, z_k), a number for each picture: low where the picture has what the latent says. */
class Energy extends Module {
  readonly first: Conv2d;
  readonly blocks: readonly EnergyBlock[];
  readonly last: Linear;

  constructor({ filters, latent }: CometConfig, rng: Rng) {
    super();
    this.first = conv(3, filters, rng);
    this.blocks = [filters, filters, 2 * filters].map((to) => new EnergyBlock(filters, to, latent, rng));
    this.last = linear(2 * filters, 1, rng);
  }

  /** x [N, 3, S, S] in [0, 1], z [N, d] give [N]. */
  call(x: Tensor, z: Tensor): Tensor {
    const first = avgPool(this.first.call(x).silu(), 3, { stride: 2, padding: 1 });
    const h = this.blocks.reduce((y, block) => block.call(y, z), first);
    return this.last.call(h.mean([2, 3])).reshape([-1]);
  }
}

/** A residual block at half the size. */
class DownBlock extends Module {
  readonly conv1: Conv2d;
  readonly conv2: Conv2d;
  readonly shortcut: Conv2d;

  constructor(from: number, to: number, rng: Rng) {
    super();
    this.conv1 = conv(from, to, rng);
    this.conv2 = conv(to, to, rng, 2);
    this.shortcut = new Conv2d(from, to, 1, rng, { stride: 2 });
  }

  /** x [N, C, H, W]. */
  call(x: Tensor): Tensor {
    return this.conv2.call(this.conv1.call(x).relu()).add(this.shortcut.call(x)).relu();
  }
}

/** COMET: a picture is what minimises the sum of K energies, one for each of its latents. */
export class Comet extends Module {
  readonly first: Conv2d;
  readonly down: readonly DownBlock[];
  readonly hidden: Linear;
  readonly last: Linear;
  readonly energy: Energy;
  readonly config: CometConfig;

  constructor(config: CometConfig, rng: Rng) {
    super();
    const { filters, components, latent } = config;
    this.first = conv(3, filters, rng);
    this.down = [1, 2, 2].map((wide, i) => new DownBlock(filters * (i === 2 ? 2 : 1), filters * wide, rng));
    this.hidden = linear(2 * filters, 4 * filters, rng);
    this.last = linear(4 * filters, components * latent, rng);
    this.energy = new Energy(config, rng);
    this.config = config;
  }

  /** Latents: x [N, 3, S, S] in [0, 1] gives [N, K, d]. */
  encode(x: Tensor): Tensor {
    const { components, latent } = this.config;
    const h = this.down.reduce((y, block) => block.call(y), this.first.call(x).relu());
    const z = this.last.call(this.hidden.call(h.mean([2, 3])).relu());
    return z.reshape([-1, components, latent]);
  }

  /** Σ over pictures and components of E(x, z_k); z [N, K', d]. */
  total(x: Tensor, z: Tensor): Tensor {
    const [n, k, d] = z.shape as [number, number, number];
    const [, c, h, w] = x.shape as [number, number, number, number];
    const copies = x
      .unsqueeze(1)
      .broadcastTo([n, k, c, h, w])
      .reshape([n * k, c, h, w]);
    return this.energy.call(copies, z.reshape([n * k, d])).sum();
  }

  /** One step down: x - lambda ∇_x Σ_k E(x, z_k), in [0, 1]. The gradient is exact, and can be differentiated again. */
  step(x: Tensor, z: Tensor): Tensor {
    const slope = grad((at: Tensor) => this.total(at, z))(x);
    return x.sub(slope.mul(this.config.rate)).clip(0, 1);
  }

  /** n steps from x, of which the last one alone carries gradients. */
  refine(x: Tensor, z: Tensor): Tensor {
    let at = x;
    for (let i = 0; i < this.config.steps; i++) at = this.step(at.stopGradient(), z);
    return at;
  }
}

export interface CometBatch {
  readonly x: Tensor; // [N, 3, S, S]
  /** Where generation begins: uniform in [0, 1]. */
  readonly start: Tensor; // [N, 3, S, S]
}

/** Mean squared error of what n steps make of noise. */
export const cometLoss = (model: Comet, { x, start }: CometBatch): Tensor =>
  model.refine(start, model.encode(x)).sub(x).square().mean();

/**
 * A number whose gradient is that of `cometLoss` by finite differences, without a gradient of a gradient: with the last step's
 * x and v = -lambda dL/dx_n where nothing is clipped, (E(x + h v) - E(x - h v)) / 2h.
 */
export function cometSurrogate(model: Comet, { x, start }: CometBatch, width = 1e-2): Tensor {
  const z = model.encode(x);
  const { steps, rate } = model.config;
  let at = start;
  for (let i = 1; i < steps; i++) at = model.step(at.stopGradient(), z);
  const last = at.stopGradient();
  const slope = grad((y: Tensor) => model.total(y, z))(last);
  const free = last.sub(slope.mul(rate));
  const end = free.clip(0, 1);
  const open = free.equal(end).cast("f32");
  const v = end
    .sub(x)
    .mul((-2 * rate) / x.size)
    .mul(open)
    .stopGradient();
  const h = full([1, 1, 1, 1], width)
    .div(v.abs().max().reshape([1, 1, 1, 1]))
    .stopGradient();
  const [up, down] = [last.add(v.mul(h)), last.sub(v.mul(h))];
  return model.total(up, z).sub(model.total(down, z)).div(h.mul(2).reshape([]));
}

export const cometFile = modelFile<Comet>({
  ...{ format: "tweedie.comet", name: "COMET" },
  describe: ({ config }) => ({ config: JSON.stringify(config) }),
  blank: (field) => new Comet(JSON.parse(field("config")!), blankRng),
});

// ---- beta-VAE (Higgins et al. 2017)

export interface VAEConfig {
  readonly size: number;
  /** Numbers of the latent. */
  readonly latent: number;
  readonly beta: number;
}

const WIDTHS = [32, 32, 64, 64];
const HIDDEN = 256;

/** Convolutions of stride 2 until 2 pixels are left, at most four. */
const halvings = (size: number): number => Math.min(WIDTHS.length, Math.floor(Math.log2(size)) - 1);

/** An autoencoder whose latents are pressed towards independent normals. */
export class BetaVAE extends Module {
  readonly down: readonly Conv2d[];
  readonly flat: Conv2d;
  readonly moments: Linear;
  readonly spread: Linear;
  readonly unfold: ConvTranspose;
  readonly up: readonly ConvTranspose[];
  readonly config: VAEConfig;

  constructor(config: VAEConfig, rng: Rng) {
    super();
    const { size, latent } = config;
    const times = halvings(size);
    const left = size / 2 ** times;
    if (times < 1 || !Number.isInteger(left))
      throw new ArgumentError(`beta-VAE: expected a size that can be halved to 2, got ${size}`);
    const widths = [3, ...WIDTHS.slice(0, times)];
    const halving = { stride: 2, padding: 1 };
    this.down = widths.slice(1).map((to, i) => new Conv2d(widths[i]!, to, 4, rng, halving));
    this.flat = new Conv2d(widths.at(-1)!, HIDDEN, left, rng);
    this.moments = linear(HIDDEN, 2 * latent, rng);
    this.spread = linear(latent, HIDDEN, rng);
    this.unfold = new ConvTranspose(HIDDEN, widths.at(-1)!, left, rng);
    const back = [...widths].reverse();
    this.up = back.slice(1).map((to, i) => new ConvTranspose(back[i]!, to, 4, rng, halving));
    this.config = config;
  }

  /** Means and logarithms of variances: x [N, 3, S, S] in [0, 1] gives twice [N, latent]. */
  encode(x: Tensor): [mean: Tensor, logVariance: Tensor] {
    const h = this.down.reduce((y, layer) => layer.call(y).relu(), x);
    const hidden = this.flat.call(h).relu().reshape([x.shape[0]!, HIDDEN]);
    return this.moments.call(hidden).split(2, 1) as [Tensor, Tensor];
  }

  /** Logits of pixels. // [N, 3, S, S] */
  decode(z: Tensor): Tensor {
    const hidden = this.spread.call(z).relu().reshape([z.shape[0]!, HIDDEN, 1, 1]);
    const first = this.unfold.call(hidden);
    return this.up.reduce((y, layer) => layer.call(y.relu()), first);
  }
}

export interface VAEBatch {
  readonly x: Tensor; // [N, 3, S, S]
  readonly noise: Tensor; // [N, latent]
}

/** Cross entropy of all pixels and beta times the divergence, of a picture in the mean. */
export function vaeLoss(model: BetaVAE, { x, noise }: VAEBatch): Tensor {
  const [mean, logVariance] = model.encode(x);
  const z = mean.add(logVariance.mul(0.5).exp().mul(noise));
  const pixels = x.size / x.shape[0]!;
  const error = binaryCrossEntropyWithLogits(model.decode(z), x).mean().mul(pixels);
  const divergence = mean.square().add(logVariance.exp()).sub(logVariance).sub(1).mul(0.5).sum(1).mean();
  return error.add(divergence.mul(model.config.beta));
}

export const vaeFile = modelFile<BetaVAE>({
  ...{ format: "tweedie.beta-vae", name: "beta-VAE" },
  describe: ({ config }) => ({ config: JSON.stringify(config) }),
  blank: (field) => new BetaVAE(JSON.parse(field("config")!), blankRng),
});

// ---- training of both

export interface BaselineSettings extends PhaseSettings {
  readonly seed: Seed;
  readonly ema: number;
}

/** Adam as published: 1e-4, gradients of at most 10. */
export const baselineTraining = (
  given: Pick<BaselineSettings, "steps" | "seed" | "batch"> & Partial<BaselineSettings>,
): BaselineSettings => ({
  ...{ learningRate: 1e-4, warmup: 0, schedule: "constant", clip: 10, ema: 0.999 },
  ...given,
});

export interface BaselineInputs<M> extends Omit<TrainingRun<M>, "look" | "lookEvery" | "saveEvery"> {
  readonly model: M;
  readonly set: DecompSet;
  readonly settings: BaselineSettings;
}

function rowsOf({ pictures: { values, size } }: DecompSet, chosen: Int32Array): Tensor {
  const plane = 3 * size * size;
  const rows = new Float32Array(chosen.length * plane);
  for (const [i, index] of chosen.entries())
    rows.set(values.subarray(index * plane, (index + 1) * plane), i * plane);
  return fromHost("f32", [chosen.length, 3, size, size], rows);
}

async function* trainBaseline<M extends Comet | BetaVAE, B>(
  { settings, model, set, ...rest }: BaselineInputs<M>,
  loss: (model: M, batch: B) => Tensor,
  drawn: (x: Tensor, step: number) => B,
): Work<PhaseResult<M>> {
  checkSet(set, model.config);
  const indices = epochIndices(set.pictures.count, settings.batch, settings.seed);
  return yield* runPhase<M, B>({
    ...rest,
    settings: { ...settings, config: model.config } as PhaseSettings,
    model,
    loss,
    batch: (step) => drawn(rowsOf(set, indices(step)), step),
    optimizer: adam({ learningRate: settings.learningRate }),
    ema: constantDecay(settings.ema),
  });
}

export const freshComet = (config: CometConfig, seed: Seed): Comet => new Comet(config, createRng(seed));
export const freshVAE = (config: VAEConfig, seed: Seed): BetaVAE => new BetaVAE(config, createRng(seed));

/** Trains COMET. @throws as `runPhase` and `checkSet` do */
export function trainComet(inputs: BaselineInputs<Comet>): Work<PhaseResult<Comet>> {
  const source = createNoise("philox", inputs.settings.seed);
  return trainBaseline(inputs, cometLoss, (x, step): CometBatch => {
    const values = source.uniform(x.shape, { sample: 0, purpose: "comet start", step });
    return { x, start: fromHost("f32", x.shape, values as Float32Array) };
  });
}

/** Trains a beta-VAE. @throws as `runPhase` and `checkSet` do */
export function trainVAE(inputs: BaselineInputs<BetaVAE>): Work<PhaseResult<BetaVAE>> {
  const source = createNoise("philox", inputs.settings.seed);
  const { latent } = inputs.model.config;
  return trainBaseline(inputs, vaeLoss, (x, step): VAEBatch => {
    const shape = [x.shape[0]!, latent];
    const values = source.normal(shape, { sample: 0, purpose: "latent noise", step });
    return { x, noise: fromHost("f32", shape, values as Float32Array) };
  });
}
