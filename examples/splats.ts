/** 3D Gaussian splatting: projected, sorted by depth, composited, and fitted to a picture by gradients. */
import { arange, concat, createNoise, fromHost, gather, jit, ones, sort, stack, type Tensor, valueAndGrad } from "tweedie";
import { adamW } from "tweedie/nn";

const [G, H, W, FOCAL, DISTANCE] = [Number(process.argv[2] ?? 200), 24, 24, 24, 3];
const noise = createNoise("philox", 5);
function uniform(purpose: string, shape: number[], low: number, high: number): Tensor {
  const width = high - low;
  return fromHost("f32", shape, noise.uniform(shape, { purpose })).mul(width).add(low);
}
const splats = (name: string) => ({
  mean: uniform(`${name} mean`, [G, 3], -1, 1),
  logScale: uniform(`${name} scale`, [G, 3], -3, -2),
  quaternion: uniform(`${name} turn`, [G, 4], -1, 1),
  colour: uniform(`${name} colour`, [G, 3], 0, 1),
  opacity: uniform(`${name} opacity`, [G], -2, 1),
});
type Splats = ReturnType<typeof splats>;
const columns = (x: Tensor): Tensor[] => x.split(x.shape[1]!, 1).map((t) => t.squeeze(1));

/** Of quaternions [G, 4], as [G, 3, 3]. */
function rotations(q: Tensor): Tensor {
  const [w, x, y, z] = columns(q.div(q.norm(1, true))) as [Tensor, Tensor, Tensor, Tensor];
  const twice = (a: Tensor, b: Tensor): Tensor => a.mul(b).mul(2);
  const rest = (a: Tensor, b: Tensor): Tensor => a.square().add(b.square()).mul(-2).add(1);
  const first = [rest(y, z), twice(x, y).sub(twice(w, z)), twice(x, z).add(twice(w, y))];
  const second = [twice(x, y).add(twice(w, z)), rest(x, z), twice(y, z).sub(twice(w, x))];
  const third = [twice(x, z).sub(twice(w, y)), twice(y, z).add(twice(w, x)), rest(x, y)];
  return stack([...first, ...second, ...third], 1).reshape([G, 3, 3]);
}

/** The picture, [H, W, 3]. */
function render(s: Splats): Tensor {
  const [x, y, depth] = columns(s.mean) as [Tensor, Tensor, Tensor];
  const near = depth.add(DISTANCE).reciprocal();
  const axes = rotations(s.quaternion).mul(s.logScale.exp().unsqueeze(1));
  const covariance = axes.matmul(axes.transpose([0, 2, 1]));
  const none = near.mul(0);
  const slopes = [near, none, x.mul(near.square()).neg(), none, near, y.mul(near.square()).neg()]; // of the projection
  const jacobian = stack(slopes, 1).mul(FOCAL).reshape([G, 2, 3]);
  const flat = jacobian.matmul(covariance).matmul(jacobian.transpose([0, 2, 1])); // [G, 2, 2]
  const [a, b, , c] = columns(flat.reshape([G, 4])) as [Tensor, Tensor, Tensor, Tensor];
  const [wide, high] = [a.add(0.3), c.add(0.3)];
  const area = wide.mul(high).sub(b.square());
  const order = sort(depth.stopGradient(), 0)[1]; // the nearest first
  const inOrder = (t: Tensor): Tensor => gather(t, order, 0);
  const offsets = (t: Tensor, size: number): Tensor => {
    const pixels = arange(0, size, 1, "f32").add(0.5 - size / 2);
    return pixels.unsqueeze(1).sub(inOrder(t.mul(near).mul(FOCAL))); // [size, G]
  };
  const [dx, dy] = [offsets(x, W), offsets(y, H).unsqueeze(1)];
  const [alongX, alongY] = [dx.square().mul(inOrder(high.div(area))), dy.square().mul(inOrder(wide.div(area)))];
  const exponent = alongX
    .add(alongY)
    .mul(-0.5)
    .add(dx.mul(dy).mul(inOrder(b.div(area))));
  const alpha = exponent.exp().mul(inOrder(s.opacity.sigmoid())).clip(0, 0.99); // [H, W, G]
  const through = alpha.neg().add(1).log().cumsum(2).exp();
  const before = concat(ones([H, W, 1]), through.sliceAxis(2, 0, G - 1), 2);
  return before.mul(alpha).matmul(inOrder(s.colour));
}

const target = await jit(render)(splats("target"));
const optimizer = adamW({ learningRate: 0.05, weightDecay: 0 });
let model = splats("start");
let state = optimizer.init(model);
const step = jit((m: Splats, o: typeof state, picture: Tensor) => {
  const [value, gradients] = valueAndGrad((splat: Splats) => render(splat).sub(picture).square().mean())(m);
  return { value, ...optimizer.update(m, gradients, o) };
});
for (let i = 0; i <= 60; i++) {
  const next = await step(model, state, target);
  if (i % 30 === 0) console.log(`step ${i}: squared error ${(await next.value.item()).toFixed(4)}`);
  [model, state] = [next.parameters, next.state];
}
