/** LoRA: adapters in a frozen network, trained in two ways that agree, and folded into its weights. */
import { createNoise, fromHost, jit, type Tensor, tensor } from "tweedie";
import { createUNet2D, type UNet2DModel } from "tweedie/networks";
import {
  adamW,
  addLora,
  createRng,
  loraParameters,
  mergeLora,
  parameterCount,
  parameters,
  train,
  withLoraParameters,
} from "tweedie/nn";

const noise = createNoise("philox", 7);
const base = createUNet2D(createRng(0), {
  inChannels: 1,
  outChannels: 1,
  channels: [16, 16],
  downBlocks: ["DownBlock2D", "AttnDownBlock2D"],
  upBlocks: ["AttnUpBlock2D", "UpBlock2D"],
  layers: 1,
  groups: 8,
});
const adapted = addLora(base, { rank: 4, match: /to_q|to_k|to_v|conv1/, rng: createRng(5) });
console.log(`${parameterCount(base)} parameters, ${parameterCount(adapted) - parameterCount(base)} more in adapters`);

type Batch = { x: Tensor; t: Tensor };
const batch = (step: number): Batch => ({
  x: fromHost("f32", [4, 1, 8, 8], noise.normal([4, 1, 8, 8], { step })),
  t: tensor([1, 5, 9, 13]),
});
const loss = (m: UNet2DModel, b: Batch): Tensor => m.call(b.x, b.t).sub(b.x.mul(0.3)).square().mean();
const settings = { optimizer: adamW({ learningRate: 1e-2 }), steps: 20, batch };

// The first way: the whole network is the model, and what is no adapter is frozen. Keys are those of `parameters`.
const adapterKeys = new Set(Object.keys(loraParameters(adapted)));
let whole = adapted;
for await (const e of train({ ...settings, model: adapted, loss, frozen: (key) => !adapterKeys.has(key) })) {
  if (e.type === "step" && e.step % 10 === 0) console.log(`step ${e.step}: loss ${e.loss.toFixed(4)}`);
  if (e.type === "done") whole = e.state.model;
}
// The second: the adapters alone are the model.
let adapters = loraParameters(adapted);
const alone = (a: Record<string, Tensor>, b: Batch) => loss(withLoraParameters(adapted, a), b);
for await (const e of train({ ...settings, model: adapters, loss: alone })) if (e.type === "done") adapters = e.state.model;

let same = true;
const before = parameters(base);
for (const [key, value] of parameters(mergeLora(adapted))) same &&= (await value.sub(before.get(key)!).abs().max().item()) === 0; // adapters begin as nothing
const compiled = jit(loss);
const at = async (m: UNet2DModel): Promise<number> => (await compiled(m, batch(100))).item();
const [first, second, merged] = [await at(whole), await at(withLoraParameters(adapted, adapters)), await at(mergeLora(whole))];
console.log(
  `base untouched: ${same}; both ways agree: ${Math.abs(first - second) < 1e-6}; merged: ${Math.abs(first - merged) < 1e-6}`,
);
