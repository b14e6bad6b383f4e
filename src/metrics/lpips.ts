/**
 * Learned perceptual distance (Zhang et al., 2018, LPIPS v0.1) and its unlearned relative over any feature network.
 * Only with the public heads and their backbone is the number called LPIPS; anything else is a feature distance.
 */
import { FormatError, ShapeError } from "../errors.ts";
import { isRawTensor, readSafetensors } from "../io/index.ts";
import { type PerceptualBackbone, PerceptualNetwork } from "../networks/perceptual.ts";
import { blankRng, loadParameters, Module, type Rng, withFields } from "../nn/index.ts";
import { constant, fromHost, type Tensor } from "../tensor/index.ts";

/** Keeps the root's gradient finite where all channels are 0; far below a bit of what features measure elsewhere. */
const LEAST = 1e-20;

/** Features with unit length over the channels. */
const unitChannels = (f: Tensor): Tensor => f.div(f.square().sum(1, true).add(LEAST).sqrt().add(1e-10));

/** One channel weighting, with the keys of the public heads: `lin0.model.1.weight`. */
class Head extends Module {
  readonly model: { readonly 1: { readonly weight: Tensor } }; // [1, C, 1, 1]
  constructor(channels: number, rng: Rng) {
    super();
    this.model = { 1: { weight: rng.uniform([1, channels, 1, 1], 0, 2 / channels) } };
  }
}

/** LPIPS: `loadParameters` the backbone into `network` and the heads into `heads`. */
export class Lpips extends Module {
  readonly network: PerceptualNetwork;
  readonly heads: Readonly<Record<string, Head>>;

  constructor(backbone: PerceptualBackbone, rng: Rng) {
    super();
    this.network = new PerceptualNetwork(backbone, rng);
    this.heads = Object.fromEntries(this.network.channels.map((c, i) => [`lin${i}`, new Head(c, rng)]));
  }

  /** Distance of a and b [N, 3, H, W] in [-1, 1]; 0 for equal pictures. // [N] */
  call(a: Tensor, b: Tensor): Tensor {
    if (a.rank !== 4 || a.shape[1] !== 3 || a.shape.some((d, i) => d !== b.shape[i]))
      throw new ShapeError(`Lpips: expected two tensors [N, 3, H, W] of one shape, got ${a} and ${b}`);
    const shift = constant("f32", [1, 3, 1, 1], [-0.03, -0.088, -0.188]);
    const scale = constant("f32", [1, 3, 1, 1], [0.458, 0.448, 0.45]);
    const [fa, fb] = [a, b].map((x) => this.network.call(x.sub(shift).div(scale))) as [Tensor[], Tensor[]];
    return fa
      .map((f, i) => {
        const gap = unitChannels(f).sub(unitChannels(fb[i]!)).square();
        return gap.mul(this.heads[`lin${i}`]!.model[1].weight).sum(1).mean([1, 2]);
      })
      .reduce((sum, x) => sum.add(x));
  }
}

/** The same distance without learned weights: mean over layers of the squared gap of unit features. // [N] */
export function featureDistance(fa: readonly Tensor[], fb: readonly Tensor[]): Tensor {
  if (fa.length === 0 || fa.length !== fb.length)
    throw new ShapeError(`featureDistance: ${fa.length} and ${fb.length} layers of features`);
  const gaps = fa.map((f, i) => unitChannels(f).sub(unitChannels(fb[i]!)).square().sum(1).mean([1, 2]));
  return gaps.reduce((sum, x) => sum.add(x)).div(fa.length);
}

/** Tensors of a safetensors file by name. */
async function weightsIn(path: string): Promise<Map<string, Tensor>> {
  const { tensors } = await readSafetensors(path);
  return new Map(
    [...tensors].map(([key, stored]) => {
      if (isRawTensor(stored)) throw new FormatError(`${path}: ${key} is of type ${stored.dtype}`);
      return [key, fromHost(stored.dtype, stored.shape, stored.data)];
    }),
  );
}

/**
 * LPIPS from a folder with `squeezenet1_1_torchvision_f16.safetensors` and `lpips_v0.1/squeeze.safetensors`, under the names of
 * torchvision and of the public heads. @throws FormatError for other files
 */
export async function openLpips(folder: string): Promise<Lpips> {
  const model = new Lpips("squeezenet", blankRng);
  const backbone = await weightsIn(`${folder}/squeezenet1_1_torchvision_f16.safetensors`);
  const network = loadParameters(model.network, backbone, {
    widen: true,
    ignore: (key) => key.startsWith("classifier."),
  });
  const heads = loadParameters(model.heads, await weightsIn(`${folder}/lpips_v0.1/squeeze.safetensors`));
  return withFields(model, { network, heads });
}
