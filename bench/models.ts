/** The two networks of the benchmark as plain functions over trees of tensors, layer for layer as in peers/torch_peer.py. */
import {
  concat,
  conv,
  fillNormal,
  fromHost,
  groupNorm,
  headsAttention,
  layerNorm,
  linear,
  ones,
  type Tensor,
  upsample,
  zeros,
} from "../src/tensor/index.ts";

interface Affine {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

let drawn = 0;

/** Standard normals, scaled. */
export function random(shape: readonly number[], scale = 1): Tensor {
  const data = fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 0, step: drawn++ });
  for (let i = 0; i < data.length; i++) data[i]! *= scale;
  return fromHost("f32", shape, data);
}

const affine = (...shape: number[]): Affine => ({
  weight: random(shape, shape.slice(1).reduce((a, b) => a * b, 1) ** -0.5),
  bias: random([shape[0]!], 0.1),
});
const norm = (c: number): Affine => ({ weight: ones([c]), bias: zeros([c]) });
const conv3 = (x: Tensor, p: Affine, stride = 1): Tensor => conv(x, p.weight, p.bias, { padding: 1, stride });
const dense = (x: Tensor, p: Affine): Tensor => linear(x, p.weight, p.bias);
const normed = (x: Tensor, p: Affine): Tensor => groupNorm(x, 32, p.weight, p.bias);

interface Res {
  readonly norm1: Affine;
  readonly conv1: Affine;
  readonly emb: Affine;
  readonly norm2: Affine;
  readonly conv2: Affine;
  readonly skip: Affine | undefined;
}

const makeRes = (i: number, o: number, t: number): Res => ({
  norm1: norm(i),
  conv1: affine(o, i, 3, 3),
  emb: affine(o, t),
  norm2: norm(o),
  conv2: affine(o, o, 3, 3),
  skip: i === o ? undefined : affine(o, i, 1, 1),
});

function res(p: Res, x: Tensor, t: Tensor): Tensor {
  const shift = dense(t.silu(), p.emb).unsqueeze(-1).unsqueeze(-1);
  const h = conv3(normed(x, p.norm1).silu(), p.conv1).add(shift);
  const skip = p.skip ? conv(x, p.skip.weight, p.skip.bias) : x;
  return skip.add(conv3(normed(h, p.norm2).silu(), p.conv2));
}

interface Attention {
  readonly norm: Affine;
  readonly qkv: Affine;
  readonly out: Affine;
}

/** Self attention from joined projections: [N, L, 3 C] gives [N, L, C]. */
function selfAttention(qkv: Tensor, heads: number): Tensor {
  const [q, k, v] = qkv.split(3, -1) as [Tensor, Tensor, Tensor];
  return headsAttention(q, k, v, heads);
}

function attend(p: Attention, x: Tensor, heads: number): Tensor {
  const [n, c, h, w] = x.shape as [number, number, number, number];
  const tokens = normed(x, p.norm)
    .reshape([n, c, h * w])
    .transpose([0, 2, 1]);
  return x.add(
    dense(selfAttention(dense(tokens, p.qkv), heads), p.out)
      .transpose([0, 2, 1])
      .reshape(x.shape),
  );
}

export function makeUNet(channels: readonly number[], inChannels: number) {
  const [c0, t] = [channels[0]!, channels[0]! * 4];
  const skips = [c0];
  let c = c0;
  const down = channels.map((width, i) => {
    const blocks = [0, 1].map(() => {
      const block = makeRes(c, width, t);
      c = width;
      skips.push(c);
      return block;
    });
    if (i < channels.length - 1) skips.push(c);
    return { res: blocks, down: i < channels.length - 1 ? affine(c, c, 3, 3) : undefined };
  });
  const middle = {
    res1: makeRes(c, c, t),
    attention: { norm: norm(c), qkv: affine(3 * c, c), out: affine(c, c) },
    res2: makeRes(c, c, t),
  };
  const up = [...channels.entries()].reverse().map(([i, width]) => {
    const blocks = [0, 1, 2].map(() => {
      const block = makeRes(c + skips.pop()!, width, t);
      c = width;
      return block;
    });
    return { res: blocks, up: i > 0 ? affine(c, c, 3, 3) : undefined };
  });
  return {
    time1: affine(t, c0),
    time2: affine(t, t),
    convIn: affine(c0, inChannels, 3, 3),
    down,
    middle,
    up,
    norm: norm(c),
    convOut: affine(inChannels, c, 3, 3),
  };
}

/** x [N, C, H, W], t [N] gives [N, C, H, W]. */
export function unet(p: ReturnType<typeof makeUNet>, x: Tensor, t: Tensor): Tensor {
  const half = p.convIn.weight.shape[0]! / 2;
  const frequencies = fromHost(
    "f32",
    [1, half],
    Float32Array.from({ length: half }, (_, i) => Math.exp((-i * Math.log(10000)) / half)),
    "literal",
  );
  const angles = t.unsqueeze(1).mul(frequencies);
  const e = dense(dense(concat(angles.cos(), angles.sin(), 1), p.time1).silu(), p.time2);
  let h = conv3(x, p.convIn);
  const skips = [h];
  for (const level of p.down) {
    for (const block of level.res) skips.push((h = res(block, h, e)));
    if (level.down) skips.push((h = conv3(h, level.down, 2)));
  }
  h = res(p.middle.res2, attend(p.middle.attention, res(p.middle.res1, h, e), 4), e);
  for (const level of p.up) {
    for (const block of level.res) h = res(block, concat(h, skips.pop()!, 1), e);
    if (level.up) h = conv3(upsample(h, 2), level.up);
  }
  return conv3(normed(h, p.norm).silu(), p.convOut);
}

const makeBlock = (d: number) => ({
  ada: affine(6 * d, d),
  qkv: affine(3 * d, d),
  out: affine(d, d),
  fc1: affine(4 * d, d),
  fc2: affine(d, 4 * d),
});

export const makeDiT = (d: number, depth: number, patchDim: number) => ({
  input: affine(d, patchDim),
  condition: affine(d, d),
  blocks: Array.from({ length: depth }, () => makeBlock(d)),
  out: affine(patchDim, d),
});

function ditBlock(p: ReturnType<typeof makeBlock>, x: Tensor, c: Tensor, heads: number): Tensor {
  const [s1, b1, g1, s2, b2, g2] = dense(c.silu(), p.ada).unsqueeze(1).split(6, 2) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const h = layerNorm(x, undefined, undefined, 1e-6).mul(s1.add(1)).add(b1);
  const y = x.add(g1.mul(dense(selfAttention(dense(h, p.qkv), heads), p.out)));
  const m = layerNorm(y, undefined, undefined, 1e-6).mul(s2.add(1)).add(b2);
  return y.add(g2.mul(dense(dense(m, p.fc1).gelu("tanh"), p.fc2)));
}

/** x [N, L, patch], c [N, D] gives [N, L, patch]. */
export function dit(p: ReturnType<typeof makeDiT>, x: Tensor, c: Tensor, heads: number): Tensor {
  let h = dense(x, p.input);
  const condition = dense(c, p.condition);
  for (const block of p.blocks) h = ditBlock(block, h, condition, heads);
  return dense(layerNorm(h, undefined, undefined, 1e-6), p.out);
}
