/** The cases of the core benchmark: what each one runs here, and which case of peers/torch_peer.py it is compared with. */
import { adamW, initialState, makeTrainStep } from "../src/nn/index.ts";
import {
  attention,
  conv,
  groupNorm,
  jit,
  matmul,
  ones,
  type Tensor,
  treeLeaves,
  vjp,
  zeros,
} from "../src/tensor/index.ts";
import { countFlops } from "./flops.ts";
import { dit, makeDiT, makeUNet, random, unet } from "./models.ts";

export interface Case {
  readonly name: string;
  /** What the peer runs: kind and arguments of torch_peer.py. */
  readonly peer: { readonly kind: string; readonly args: readonly unknown[] };
  /** Builds the work; `run` does it once. */
  build(): Promise<{ run: () => Promise<unknown>; flops: number }>;
}

type Run = () => Promise<unknown>;
const made = (run: Run, flops = 0): { run: Run; flops: number } => ({ run, flops });

const sizes = [
  [64, 32],
  [128, 16],
  [256, 8],
] as const;

const convForward = (c: number, size: number): Case => ({
  name: `conv3x3 ${c} channels ${size}x${size} forward`,
  peer: { kind: "conv", args: [16, c, size, c] },
  async build() {
    const [x, w, b] = [random([16, c, size, size]), random([c, c, 3, 3]), random([c])];
    const f = jit((input: Tensor) => conv(input, w, b, { padding: 1 }));
    return made(() => f(x), 2 * 16 * size * size * c * c * 9);
  },
});

const convStep = (c: number, size: number): Case => ({
  name: `conv3x3 ${c} channels ${size}x${size} forward+backward`,
  peer: { kind: "conv_step", args: [16, c, size, c] },
  async build() {
    const args = [random([16, c, size, size]), random([c, c, 3, 3]), random([c])] as const;
    const dy = random([16, c, size, size]);
    const layer = (x: Tensor, w: Tensor, b: Tensor): Tensor => conv(x, w, b, { padding: 1 });
    const f = jit((x: Tensor, w: Tensor, b: Tensor, ct: Tensor) => {
      const [y, pullback] = vjp(layer, x, w, b);
      return [y.sum(), pullback(ct)]; // torch does not hand the result out either
    });
    return made(() => f(...args, dy), 3 * 2 * 16 * size * size * c * c * 9);
  },
});

const UNET = { channels: [64, 96, 128], inChannels: 3, batch: 16, size: 32 };
const DIT = { dim: 384, depth: 6, heads: 6, batch: 16, tokens: 64, patch: 48 };
/** As in the small trainings of the systems. */
const SMALL_DIT = { dim: 96, depth: 8, heads: 4, batch: 128, tokens: 36, patch: 48 };

function unetCase(kind: "step" | "forward"): Case {
  const { channels, inChannels, batch, size } = UNET;
  return {
    name: kind === "step" ? "unet 5M 32x32 batch 16 step" : "unet 5M 32x32 batch 16 forward",
    peer: { kind: "unet", args: [kind, channels, batch, size, inChannels] },
    async build() {
      const shape = [batch, inChannels, size, size];
      const [x, t, y] = [random(shape), random([batch]).abs().mul(300), random(shape)];
      await t.eval();
      const model = makeUNet(channels, inChannels);
      if (kind === "forward") {
        const f = jit((input: Tensor, level: Tensor) => unet(model, input, level));
        return made(() => f(x, t), countFlops(unet(model, x, t)));
      }
      const loss = (m: typeof model, b: { x: Tensor; t: Tensor; y: Tensor }): Tensor =>
        unet(m, b.x, b.t).sub(b.y).square().mean();
      return trainingCase(model, loss, { x, t, y });
    },
  };
}

function ditCase(name: string, sizes: typeof DIT, kind: "step" | "forward"): Case {
  const { dim, depth, heads, batch, tokens, patch } = sizes;
  return {
    name: `${name} ${kind}`,
    peer: { kind: "dit", args: [kind, dim, depth, heads, batch, tokens, patch] },
    async build() {
      const shape = [batch, tokens, patch];
      const [x, c, y] = [random(shape), random([batch, dim]), random(shape)];
      const model = makeDiT(dim, depth, patch);
      if (kind === "forward") {
        const f = jit((input: Tensor, condition: Tensor) => dit(model, input, condition, heads));
        return made(() => f(x, c), countFlops(dit(model, x, c, heads)));
      }
      const loss = (m: typeof model, b: { x: Tensor; c: Tensor; y: Tensor }): Tensor =>
        dit(m, b.x, b.c, heads).sub(b.y).square().mean();
      return trainingCase(model, loss, { x, c, y });
    },
  };
}

/** A whole training step: forward, backward, clipping, AdamW. */
async function trainingCase<M, B>(
  model: M,
  loss: (m: M, b: B) => Tensor,
  batch: B,
): Promise<{ run: Run; flops: number }> {
  const optimizer = adamW({ learningRate: 1e-4 });
  const step = makeTrainStep({ loss, optimizer, clipNorm: 1 });
  const [result, pullback] = vjp(loss, model, batch);
  const flops = countFlops(...[pullback(ones(result.shape))[0]].flatMap((tree) => treeLeaves(tree)));
  let state = initialState(model, optimizer);
  const run = async (): Promise<number> => {
    const out = await step(state, batch);
    state = out.state;
    return out.loss.item();
  };
  return made(run, flops);
}

export const CASES: readonly Case[] = [
  {
    name: "matmul 1024x1024x1024",
    peer: { kind: "matmul", args: [1024, 1024, 1024] },
    async build() {
      const [a, b] = [random([1024, 1024]), random([1024, 1024])];
      const f = jit(matmul);
      return made(() => f(a, b), 2 * 1024 ** 3);
    },
  },
  {
    name: "matmul 1024x1024x1024, eight compiled functions in turn",
    peer: { kind: "matmul", args: [1024, 1024, 1024] },
    async build() {
      const [a, b] = [random([1024, 1024]), random([1024, 1024])];
      const functions = Array.from({ length: 8 }, () => jit(matmul));
      let calls = 0;
      return made(() => functions[calls++ % functions.length]!(a, b), 2 * 1024 ** 3);
    },
  },
  ...sizes.map(([c, s]) => convForward(c, s)),
  ...sizes.map(([c, s]) => convStep(c, s)),
  {
    name: "attention 16x6 heads 256 tokens 64 deep forward",
    peer: { kind: "attention", args: [16, 6, 256, 64] },
    async build() {
      const [q, k, v] = [0, 1, 2].map(() => random([16, 6, 256, 64])) as [Tensor, Tensor, Tensor];
      const f = jit((a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c));
      return made(() => f(q, k, v), 4 * 16 * 6 * 256 * 256 * 64);
    },
  },
  {
    name: "groupnorm+silu 128 channels 32x32 forward",
    peer: { kind: "norm_silu", args: [16, 128, 32] },
    async build() {
      const [x, w, b] = [random([16, 128, 32, 32]), ones([128]), zeros([128])];
      const f = jit((input: Tensor) => groupNorm(input, 32, w, b).silu());
      return made(() => f(x));
    },
  },
  {
    name: "adamw 10M parameters update",
    peer: { kind: "adamw", args: [10_000_000, 40] },
    async build() {
      const parameters = Array.from({ length: 40 }, () => random([250_000]));
      const gradients = Array.from({ length: 40 }, () => random([250_000]));
      const optimizer = adamW({ learningRate: 1e-4 });
      const f = jit(
        (s: { parameters: Tensor[]; state: ReturnType<typeof optimizer.init> }, g: Tensor[]) =>
          optimizer.update(s.parameters, g, s.state),
        { donate: [0] },
      );
      let s = { parameters, state: optimizer.init(parameters) };
      return made(async () => {
        s = await f(s, gradients);
      });
    },
  },
  unetCase("forward"),
  unetCase("step"),
  ditCase("dit 16M 64 tokens batch 16", DIT, "forward"),
  ditCase("dit 16M 64 tokens batch 16", DIT, "step"),
  ditCase("dit 1.4M 36 tokens batch 128", SMALL_DIT, "step"),
];
