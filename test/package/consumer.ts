/** What a user of the package writes, checked against the declarations in dist: `npm run types:package`. */
import { grad, type Tensor, tensor } from "tweedie";
import { decodeSafetensors } from "tweedie/io/safetensors";
import * as decomp from "tweedie/systems/decomp";
import * as diffloss from "tweedie/systems/diffloss";
import * as ncpDpo from "tweedie/systems/ncp-dpo";
import * as noiseDa from "tweedie/systems/noise-da";
import * as qDit from "tweedie/systems/q-dit";
import * as sdseg from "tweedie/systems/sdseg";
import * as umd from "tweedie/systems/umd";
import type { DType } from "tweedie/tensor";
import { openWorkers, type Workers } from "tweedie/workers";

const x: Tensor = tensor([
  [1, 2],
  [3, 4],
]);
const total: number = await x.add(1).silu().sum().item();
const first: number[] = await x.slice([0], [1]).toArray();
const slope: Tensor = grad((t: Tensor) => t.square().sum())(x);
const dtype: DType = (await slope.eval()).cast("f16").dtype;
const workers: Workers<[Tensor], Tensor> = await openWorkers({ module: new URL("file:///model.mjs") });
const answer: Tensor = await workers.run(x);
console.log(total, first, dtype, answer, decodeSafetensors(new Uint8Array()).tensors.size);
console.log(
  sdseg.createSDSeg,
  sdseg.openSegmenter,
  umd.initUMD,
  qDit.groupOf,
  decomp.openDecomposer,
  diffloss.diffLoss,
  noiseDa.jointLoss,
  ncpDpo.preferenceLoss,
);

// @ts-expect-error methods that do not exist are found
x.nothing();
