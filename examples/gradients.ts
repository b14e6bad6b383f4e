/** Gradients of one's own: straight-through, custom rules, a gradient penalty, Hessians by vectors, one for each sample. */
import { createNoise, customGradient, fromHost, grad, jit, jvp, type Tensor, tensor, valueAndGrad, vjp, vmap } from "tweedie";
import { createRng, MLP, Module } from "tweedie/nn";

const show = async (name: string, t: Tensor): Promise<void> =>
  console.log(`${name}: ${(await t.toArray()).map((v) => Number(v).toFixed(3)).join(" ")}`);

// Rounding has no slope; the straight-through estimator passes the gradient on.
const passed = customGradient(
  (x: Tensor) => x.round(),
  (g) => [g],
);
await show("straight-through by a rule", grad((x: Tensor) => passed(x).square().sum())(tensor([0.3, 1.7])));
const byHand = (x: Tensor): Tensor => x.add(x.round().sub(x).stopGradient());
await show("straight-through by stopGradient", grad((x: Tensor) => byHand(x).square().sum())(tensor([0.3, 1.7])));

// A rule is differentiated like anything else: the second derivative of x² x is 6x.
const square = customGradient(
  (x: Tensor) => x.square(),
  (g, [x]) => [g.mul(x).mul(2)],
);
const cubed = (x: Tensor): Tensor => square(x).mul(x).sum();
await show("second derivative", grad((x: Tensor) => grad(cubed)(x).sum())(tensor([2, 3])));

class Energy extends Module {
  mlp = new MLP([2, 32, 32, 1], createRng(1));
  call(x: Tensor): Tensor {
    return this.mlp.call(x); // [N, 2] to [N, 1]
  }
}
const energy = new Energy();
const x = fromHost("f32", [5, 2], createNoise("philox", 3).normal([5, 2]));

// The gradient of a penalty on a gradient, in one compiled step.
const penalty = (m: Energy, points: Tensor): Tensor =>
  grad((p: Tensor) => m.call(p).sum())(points)
    .norm(1)
    .sub(1)
    .square()
    .mean();
const [value, slopes] = await jit((m: Energy, p: Tensor) => valueAndGrad(penalty)(m, p))(energy, x);
console.log(
  `gradient penalty ${(await value.item()).toFixed(3)}, its gradient of the first layer ${(await slopes.mlp.layers[0]!.weight.norm().item()).toFixed(3)}`,
);

const cubes = (p: Tensor): Tensor => p.mul(p).mul(p).sum();
await show("Hessian by a vector", jvp((p: Tensor) => grad(cubes)(p), [tensor([1, 2])], [tensor([1, 0])])[1]);
const column = vmap((v: Tensor) => jvp((p: Tensor) => p.square(), [tensor([1, 2, 3])], [v])[1]);
await show(
  "Jacobian",
  column(
    tensor([
      [1, 0, 0],
      [0, 1, 0],
      [0, 0, 1],
    ]),
  ),
);
const [, pull] = vjp((a: Tensor, b: Tensor) => a.mul(b), tensor([2, 3]), tensor([4, 5]));
await show("pulled back", pull(tensor([1, 1]))[0]);
const perSample = vmap((point: Tensor) =>
  grad((m: Energy) => m.call(point.unsqueeze(0)).sum())(energy).mlp.layers[0]!.weight.norm(),
);
await show("norm of each sample's gradient", perSample(x));
