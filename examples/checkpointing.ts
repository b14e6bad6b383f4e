/** Memory for time: `checkpoint` around the blocks of a deep network computes them again backward, with the same bits. */
import { checkpoint, createNoise, fromHost, jit, type Tensor, valueAndGrad } from "tweedie";
import { createRng, FeedForward, LayerNorm, Module, MultiHeadAttention, type Rng } from "tweedie/nn";

const [DEPTH, WIDTH, TOKENS] = [Number(process.argv[2] ?? 8), 64, 64];

class Block extends Module {
  norm1 = new LayerNorm(WIDTH);
  attention: MultiHeadAttention;
  norm2 = new LayerNorm(WIDTH);
  feed: FeedForward;
  constructor(rng: Rng) {
    super();
    this.attention = new MultiHeadAttention(WIDTH, rng, { heads: 4 });
    this.feed = new FeedForward(WIDTH, rng);
  }
  call(x: Tensor): Tensor {
    // [N, T, C]
    const y = x.add(this.attention.call(this.norm1.call(x)));
    return y.add(this.feed.call(this.norm2.call(y)));
  }
}
class Net extends Module {
  blocks: Block[];
  constructor(rng = createRng(1)) {
    super();
    this.blocks = Array.from({ length: DEPTH }, () => new Block(rng));
  }
}

const x = fromHost("f32", [4, TOKENS, WIDTH], createNoise("philox", 1).normal([4, TOKENS, WIDTH]));
const loss =
  (again: boolean) =>
  (net: Net, input: Tensor): Tensor => {
    const one = (block: Block, y: Tensor): Tensor => block.call(y);
    const through = again ? checkpoint(one) : one;
    return net.blocks
      .reduce((y, block) => through(block, y), input)
      .square()
      .mean();
  };

const found: number[][] = [];
for (const again of [false, true]) {
  const step = jit((net: Net, input: Tensor) => valueAndGrad(loss(again))(net, input));
  const [value, gradients] = await step(new Net(), x);
  found.push([await value.item(), ...(await gradients.blocks[0]!.norm1.weight!.toArray())]);
  console.log(`${again ? "computed again" : "kept"}: loss ${(await value.item()).toFixed(6)}`);
  await step.close();
}
const largest = Math.max(...found[0]!.map((v, i) => Math.abs(v - found[1]![i]!)));
console.log(`gradients differ by at most ${largest.toExponential(0)}`);
