/** Other ways to adapt a network to real pictures: a penalty of slopes, adversaries of features and of pictures, self-supervision. */
import { totalVariation } from "../../metrics/index.ts";
import { type RestorationUNet, UNetBlock } from "../../networks/index.ts";
import {
  Conv2d,
  captureFeatures,
  charbonnier,
  createRng,
  Linear,
  type LossParts,
  Module,
} from "../../nn/index.ts";
import { avgPool, randomUniform, type Seed, type Tensor, where } from "../../tensor/index.ts";
import { diffusionTerms, type JointBatch, type JointOptions } from "./method.ts";
import type { NoiseGuesser } from "./model.ts";
import type { Pair, Way } from "./train.ts";

/** Range in which losses are taken: pictures are in [0, 1], or moved to [-1, 1]. */
export type Range = NonNullable<JointOptions["range"]>;
const ranged = (x: Tensor, range: Range): Tensor => (range === "signed" ? x.mul(2).sub(1) : x);

/** L_pix alone, as every way has it. */
const pixelsOf = (s: Tensor, { clean }: JointBatch, range: Range): Tensor =>
  charbonnier(ranged(s, range), ranged(clean, range));

const summed = (pixels: Tensor, name: string, term: Tensor, weight: number | Tensor): LossParts => ({
  loss: pixels.add(term.mul(weight)),
  metrics: { pixels, [name]: term },
});

/** L_pix + weight TV(real, restored): does the diffusion model do more than smooth? */
export const tvWay = (weight: number, range: Range): Way<object> => ({
  loss: ({ restorer }, batch) =>
    summed(
      pixelsOf(restorer.restore(batch.synthetic), batch, range),
      "variation",
      totalVariation(ranged(restorer.restore(batch.real), range)).mean(),
      weight,
    ),
});

/** Tells whether features come from real pictures: one logit a picture. */
export class DomainClassifier extends Module {
  readonly conv: Conv2d;
  readonly linear: Linear;

  constructor(channels: number, seed: Seed) {
    super();
    const rng = createRng(seed);
    this.conv = new Conv2d(channels, 32, 3, rng, { padding: 1 });
    this.linear = new Linear(32, 1, rng);
  }

  /** x [N, C, H, W] gives [N, 1]. */
  call(x: Tensor): Tensor {
    return this.linear.call(this.conv.call(x).leakyRelu(0.2).mean([2, 3]));
  }
}

/** The same value; its gradient comes back reversed and times lambda. */
export const reversed = (x: Tensor, lambda: Tensor | number): Tensor => {
  const flipped = x.mul(lambda);
  return x.stopGradient().add(flipped.stopGradient()).sub(flipped);
};

/** -log sigmoid of the logits, or of their negatives. */
const logLoss = (logits: Tensor, sign: 1 | -1): Tensor => logits.mul(-sign).softplus().mean();

/** DANN (Ganin et al. 2016) on the U-Net's lowest maps; the batch's alpha is its lambda. */
export const dannWay = (net: RestorationUNet, seed: Seed, range: Range): Way<DomainClassifier> => {
  const key = `down_path.${net.config.depth - 1}`;
  const width = net.config.base * 2 ** (net.config.depth - 1);
  return {
    helper: new DomainClassifier(width, seed),
    loss: ({ restorer, helper }, batch) => {
      const seen = (y: Tensor) => captureFeatures(restorer, [key], (one) => one.restore(y));
      const [s, { [key]: synthetic }] = seen(batch.synthetic);
      const [, { [key]: real }] = seen(batch.real);
      const logits = (map: Tensor | undefined): Tensor => helper!.call(reversed(map!, batch.alpha));
      const domain = logLoss(logits(synthetic), -1)
        .add(logLoss(logits(real), 1))
        .mul(0.5);
      return summed(pixelsOf(s, batch, range), "domain", domain, 1);
    },
  };
};

/** Tells restored real pictures from clean ones, part by part. */
export class PatchDiscriminator extends Module {
  readonly blocks: readonly UNetBlock[];
  readonly last: Conv2d;

  constructor(seed: Seed) {
    super();
    const rng = createRng(seed);
    this.blocks = [new UNetBlock(3, 24, rng), new UNetBlock(24, 48, rng)];
    this.last = new Conv2d(48, 1, 3, rng, { padding: 1 });
  }

  /** x [N, 3, H, W] gives [N, 1, H/4, W/4]. */
  call(x: Tensor): Tensor {
    return this.last.call(this.blocks.reduce((h, block) => avgPool(block.call(h), 2), x));
  }
}

/** An adversary of pictures with squared errors (LSGAN), the pixels' stand-in for PixelDA and CyCADA. */
export const ganWay = (weight: number, seed: Seed, range: Range): Way<PatchDiscriminator> => ({
  helper: new PatchDiscriminator(seed),
  held: "helper",
  loss: ({ restorer, helper }, batch) => {
    const fooled = helper!
      .call(ranged(restorer.restore(batch.real), range))
      .sub(1)
      .square()
      .mean();
    return summed(pixelsOf(restorer.restore(batch.synthetic), batch, range), "fooled", fooled, weight);
  },
  further: [
    {
      name: "discriminator",
      loss: ({ restorer, helper }: Pair<PatchDiscriminator>, { real, clean }: JointBatch) => {
        const made = helper!.call(ranged(restorer.restore(real).stopGradient(), range));
        const true_ = helper!.call(ranged(clean, range));
        return true_.sub(1).square().mean().add(made.square().mean()).mul(0.5);
      },
    },
  ],
});

/** Of every 2 x 2 pixels one, and one beside it: two pictures of half the size. Both from one draw. // [N, C, H, W] */
export function neighbours(key: Tensor, y: Tensor): (x: Tensor) => readonly [Tensor, Tensor] {
  const [n, c, height, width] = y.shape as [number, number, number, number];
  const [h, w] = [height / 2, width / 2];
  const draw = (purpose: string): Tensor => randomUniform(key, [n, 1, h, w], { purpose });
  const first = draw("first").mul(4).floor(); // 0 1 over 2 3
  const across = draw("side").less(0.5);
  const right = first.sub(first.div(2).floor().mul(2)); // 1 in the right column
  const low = first.div(2).floor(); // 1 in the lower row
  const second = where(across, first.add(1).sub(right.mul(2)), first.add(2).sub(low.mul(4)));
  return (x) => {
    const cells = x.reshape([n, c, h, 2, w, 2]);
    const pixel = (k: number): Tensor => cells.select(3, k >> 1).select(4, k % 2); // [N, C, h, w]
    const taken = (index: Tensor): Tensor =>
      [0, 1, 2, 3]
        .map((k) => pixel(k).mul(index.sub(k).abs().less(0.5).cast("f32")))
        .reduce((sum, part) => sum.add(part));
    return [taken(first), taken(second)];
  };
}

/** Neighbor2Neighbor (Huang et al. 2021) on real pictures alone: right where the noise of neighbours is independent. */
export const neighbourWay = (): Way<object> => ({
  loss: ({ restorer }, { real, keys }) => {
    const pair = neighbours(keys!.good, real);
    const [a, b] = pair(real);
    const [u, v] = pair(restorer.restore(real).stopGradient());
    const error = restorer.restore(a).sub(b);
    const consistency = error.sub(u.sub(v)).square().mean();
    return { loss: error.square().mean().add(consistency), metrics: { consistency } };
  },
});

/** Updates of a strong diffusion model for each of the network. */
const AHEAD = 4;

/** A diffusion model that is ahead: it learns from every batch four times. */
export const strongWay = (
  diffusion: NoiseGuesser,
  options: JointOptions,
  way: Way<NoiseGuesser>,
): Way<NoiseGuesser> => ({
  ...way,
  helper: diffusion,
  further: Array.from({ length: AHEAD - 1 }, (_, i) => ({
    name: `diffusion ${i + 1}`,
    loss: aheadLoss(options),
  })),
});

/** The loss of the diffusion model alone, on what the network restores as it is. */
export const aheadLoss =
  (options: JointOptions) =>
  ({ restorer, helper }: Pair<NoiseGuesser>, batch: JointBatch): Tensor => {
    const [s, r] = [batch.synthetic, batch.real].map((y) => restorer.restore(y).stopGradient()) as [
      Tensor,
      Tensor,
    ];
    return diffusionTerms(helper!, batch, [s, r], options).diffusion;
  };
