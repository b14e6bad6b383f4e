/** What a user of the package writes, checked against the declarations in dist: `npm run types:package`. */
import { grad, type Tensor, tensor } from "tweedie";
import type { DType } from "tweedie/tensor";

const x: Tensor = tensor([
  [1, 2],
  [3, 4],
]);
const total: number = await x.add(1).silu().sum().item();
const first: number[] = await x.slice([0], [1]).toArray();
const slope: Tensor = grad((t: Tensor) => t.square().sum())(x);
const dtype: DType = (await slope.eval()).cast("f16").dtype;
console.log(total, first, dtype);

// @ts-expect-error methods that do not exist are found
x.nothing();
