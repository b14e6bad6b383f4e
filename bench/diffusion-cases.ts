/**
 * The cases of the diffusion benchmark. A case is a network by its configuration, files of weights and inputs that both
 * sides read, and what is timed. The peers are in peers/diffusion_peer.py.
 */
import { schedulerFromConfig } from "../src/diffusion/index.ts";
import { mapSafetensors, readSafetensors, safetensorsStream, writeFileAtomic } from "../src/io/index.ts";
import {
  type AutoencoderKL,
  autoencoderKL,
  type DiTTransformer2DModel,
  ditTransformer2D,
  type UNet2DConditionModel,
  unet2DCondition,
} from "../src/networks/index.ts";
import { blankRng, loadParameters, parameterCount, parameters, withFields } from "../src/nn/index.ts";
import { ALPHA_BARS, TRAINED } from "../src/systems/sdseg/method.ts";
import { PRESETS, SDSeg, type SDSegConfig } from "../src/systems/sdseg/model.ts";
import {
  concat,
  convertHost,
  fillNormal,
  fnv1a32,
  fromHost,
  jit,
  sizeOf,
  type Tensor,
  tensor,
} from "../src/tensor/index.ts";

type Config = Readonly<Record<string, unknown>>;
type Inputs = Readonly<Record<string, Tensor>>;
type Run = () => Promise<Tensor>;

export interface DiffusionCase {
  readonly name: string;
  /** What is timed is called so. */
  readonly unit: string;
  /** What torch runs; absent: the case is stated without comparison. */
  readonly peer?: Config;
  /** Element type of the file of weights. */
  readonly storage: "f32" | "f16";
  /** Weights are read into memory, as the system reads its checkpoints, and not mapped from their file. */
  readonly inMemory?: boolean;
  /** The network (or the part of it that is run) without weights. */
  build(): object;
  inputs(): Inputs;
  /** Loads nothing but what is run, and gives what is timed. */
  open(weights: ReadonlyMap<string, Tensor>, inputs: Inputs): Run;
}

/** Normals that depend on the name alone, from one block that is used again and again: large files are made fast. */
const BLOCK = fillNormal(new Float32Array(1 << 20), { seed: 0, purpose: "benchmark" });
export function normals(name: string, shape: readonly number[], scale = 1, mean = 0): Float32Array {
  const start = fnv1a32(name) % BLOCK.length;
  const out = new Float32Array(sizeOf(shape));
  for (let i = 0; i < out.length; i++) out[i] = mean + scale * BLOCK[(start + i) & (BLOCK.length - 1)]!;
  return out;
}
const input = (name: string, shape: readonly number[]): Tensor =>
  fromHost("f32", shape, normals(name, shape));

/** A weight that keeps the size of signals: matrices by their fan-in, gains around 1, biases around 0. */
function weight(name: string, shape: readonly number[]): Float32Array {
  if (shape.length > 1) return normals(name, shape, Math.sqrt(1 / sizeOf(shape.slice(1))));
  return /norm\w*\.weight$/.test(name) ? normals(name, shape, 0.1, 1) : normals(name, shape, 0.02);
}

/** Writes the weights of a case, one after the other. */
export async function writeWeights(path: string, { build, storage }: DiffusionCase): Promise<void> {
  const shapes = new Map([...parameters(build())].map(([name, t]) => [name, t.shape]));
  const dtype = storage === "f16" ? "F16" : "F32";
  const entries = new Map([...shapes].map(([name, shape]) => [name, { dtype, shape }]));
  const read = async (name: string) => {
    const shape = shapes.get(name)!;
    return { dtype: storage, shape, data: convertHost(weight(name, shape), "f32", storage) };
  };
  await writeFileAtomic(path, safetensorsStream(entries, read));
}

/** What `writeSafetensors` wrote, in memory. */
export async function readInputs(path: string): Promise<Inputs> {
  const { tensors } = await readSafetensors(path);
  return Object.fromEntries(
    [...tensors].map(([name, t]) => {
      if ("bytes" in t) throw new Error(`${name} is of type ${t.dtype}`);
      return [name, fromHost(t.dtype, t.shape, t.data)];
    }),
  );
}

export { mapSafetensors };
export const countParameters = (item: DiffusionCase): number => parameterCount(item.build());

const load = <M extends object>(blank: M, weights: ReadonlyMap<string, Tensor>): M =>
  loadParameters(blank, weights, { widen: true });

const UNET_30M = {
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [128, 192, 256],
  down_block_types: ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
  layers_per_block: 2,
  attention_head_dim: 8,
  cross_attention_dim: 768,
  norm_num_groups: 32,
};
const UNET_SD15 = {
  ...UNET_30M,
  block_out_channels: [320, 640, 1280, 1280],
  down_block_types: [...Array(3).fill("CrossAttnDownBlock2D"), "DownBlock2D"],
  up_block_types: ["UpBlock2D", ...Array(3).fill("CrossAttnUpBlock2D")],
};

const STEPS = 20;
const GUIDANCE = 7.5;
const scheduler = () =>
  schedulerFromConfig(
    {
      _class_name: "DDIMScheduler",
      beta_schedule: "scaled_linear",
      beta_start: 0.00085,
      beta_end: 0.012,
      clip_sample: false,
      set_alpha_to_one: false,
      steps_offset: 1,
    },
    { steps: STEPS },
  );

/** Each step as numbers: timestep, and the factors of x and of the predicted noise in the next x. */
function ddimFactors(): [timestep: number, x: number, eps: number][] {
  const { timesteps, sigmas } = scheduler();
  const signal = (sigma: number): number => 1 / Math.sqrt(1 + sigma * sigma);
  return timesteps.map((t, i) => {
    const [from, to] = [sigmas[i]!, sigmas[i + 1]!];
    return [t, signal(to) / signal(from), signal(to) * (to - from)];
  });
}

/** Classifier-free guidance, both halves in one batch. */
function guided(unet: UNet2DConditionModel, x: Tensor, timestep: Tensor, context: Tensor): Tensor {
  const both = unet.call(concat(x, x), timestep, context);
  const [without, with_] = both.split(2) as [Tensor, Tensor];
  return without.add(with_.sub(without).mul(GUIDANCE));
}

const guidedStep = (unet: UNet2DConditionModel, context: Tensor) =>
  jit((x: Tensor, timestep: Tensor) => guided(unet, x, timestep, context));

const timestep = (t: number): Tensor => tensor([t], { dtype: "i64" });

const ddim: DiffusionCase = {
  name: "U-Net of 30 M, 32x32x4, 20 DDIM steps with guidance",
  unit: "20 steps",
  peer: { kind: "ddim", config: UNET_30M, guidance: GUIDANCE, steps: ddimFactors() },
  storage: "f32",
  build: () => unet2DCondition(UNET_30M, blankRng),
  inputs: () => ({ latents: input("latents", [1, 4, 32, 32]), context: input("context", [2, 77, 768]) }),
  open(weights, { latents, context }) {
    const step = guidedStep(load(unet2DCondition(UNET_30M, blankRng), weights), context!);
    return async () => {
      const run = scheduler().sample((x, t) => step(x, timestep(t)), latents!);
      for (;;) {
        const { done, value } = await run.next();
        if (done) return value;
      }
    };
  },
};

const DIT_S2 = {
  in_channels: 4,
  out_channels: 8,
  num_attention_heads: 6,
  attention_head_dim: 64,
  num_layers: 12,
  sample_size: 32,
  patch_size: 2,
  attention_bias: true,
  activation_fn: "gelu-approximate",
  norm_type: "ada_norm_zero",
  num_embeds_ada_norm: 1000,
  norm_elementwise_affine: false,
};

const dit: DiffusionCase = {
  name: "DiT-S/2, 2 x 32x32x4, forward",
  unit: "call",
  peer: { kind: "dit", config: DIT_S2 },
  storage: "f32",
  build: () => ditTransformer2D(DIT_S2, blankRng),
  inputs: () => ({
    latents: input("latents", [2, 4, 32, 32]),
    timestep: tensor([981, 401], { dtype: "i64" }),
    labels: tensor([207, 1000], { dtype: "i64" }),
  }),
  open(weights, { latents, timestep: t, labels }) {
    const model: DiTTransformer2DModel = load(ditTransformer2D(DIT_S2, blankRng), weights);
    const forward = jit((x: Tensor, time: Tensor, classes: Tensor) => model.call(x, time, classes));
    return () => forward(latents!, t!, labels!);
  },
};

const VAE = {
  in_channels: 3,
  out_channels: 3,
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  down_block_types: Array(4).fill("DownEncoderBlock2D"),
  up_block_types: Array(4).fill("UpDecoderBlock2D"),
  layers_per_block: 2,
  norm_num_groups: 32,
};

/** The half of an autoencoder that is run, in the keys of the whole. */
const decoderOf = ({ postQuantConv, decoder }: AutoencoderKL) => ({ postQuantConv, decoder });

const decode: DiffusionCase = {
  name: "AutoencoderKL of SD 1.5, decode to 256x256",
  unit: "picture",
  peer: { kind: "decode", config: VAE },
  storage: "f32",
  build: () => decoderOf(autoencoderKL(VAE, blankRng)),
  inputs: () => ({ latents: input("latents", [1, 4, 32, 32]) }),
  open(weights, { latents }) {
    const blank = autoencoderKL(VAE, blankRng);
    const model = withFields(blank, load(decoderOf(blank), weights));
    const forward = jit((z: Tensor) => model.decode(z));
    return () => forward(latents!);
  },
};

/** SDSeg's miniature, and the same with channels that fill the kernels' blocks of 16. */
const SDSEG_WIDTHS = {
  "8 to 48": PRESETS.mini,
  "16 to 96": {
    ...PRESETS.mini,
    autoencoder: { ...PRESETS.mini.autoencoder, channels: [16, 32, 64] },
    vision: { ...PRESETS.mini.vision, channels: [16, 32, 64] },
    unet: { ...PRESETS.mini.unet, channels: 48 },
  },
} satisfies Record<string, SDSegConfig>;

const sdseg = (widths: keyof typeof SDSEG_WIDTHS): DiffusionCase => {
  const config = SDSEG_WIDTHS[widths];
  const last = ALPHA_BARS[TRAINED - 1]!;
  return {
    name: `SDSeg of ${widths} channels, a picture of 256x256, one step`,
    unit: "picture",
    peer: {
      kind: "sdseg",
      groups: config.unet.groups,
      alpha: Math.sqrt(last),
      sigma: Math.sqrt(1 - last),
      t: TRAINED - 1,
    },
    storage: "f32",
    inMemory: true,
    build: () => new SDSeg(config, blankRng),
    inputs: () => ({ image: input("image", [1, 1, 256, 256]), noise: input("noise", [1, 4, 64, 64]) }),
    open(weights, { image, noise }) {
      const model = load(new SDSeg(config, blankRng), weights);
      const forward = jit((x: Tensor, z: Tensor) => model.probability(model.directLatent(x, z)));
      return () => forward(image!, noise!);
    },
  };
};

/**
 * Half-precision weights as arguments stay halves in memory and are widened where they are used; as constants they are
 * widened once and rearranged for the kernels, which is faster and larger.
 */
const sd15 = (weightsAre: "arguments" | "constants"): DiffusionCase => ({
  name: `U-Net of SD 1.5, f16 weights as ${weightsAre}, 64x64x4, one step with guidance`,
  unit: "step",
  storage: "f16",
  build: () => unet2DCondition(UNET_SD15, blankRng),
  inputs: () => ({ latents: input("latents", [1, 4, 64, 64]), context: input("context", [2, 77, 768]) }),
  open(weights, { latents, context }) {
    const unet = load(unet2DCondition(UNET_SD15, blankRng), weights);
    const fixed = guidedStep(unet, context!);
    const fed = jit((model: UNet2DConditionModel, x: Tensor, t: Tensor, tokens: Tensor) =>
      guided(model, x, t, tokens),
    );
    const [x, t] = [latents!, timestep(981)];
    return () => (weightsAre === "constants" ? fixed(x, t) : fed(unet, x, t, context!));
  },
});

export const DIFFUSION_CASES: readonly DiffusionCase[] = [
  ddim,
  dit,
  decode,
  sdseg("8 to 48"),
  sdseg("16 to 96"),
  sd15("arguments"),
  sd15("constants"),
];
