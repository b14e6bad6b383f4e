import { describe, expect, it } from "vitest";
import {
  type DrawingOptions,
  drawSamples,
  finalSample,
  schedulerFromConfig,
} from "../../src/diffusion/index.ts";
import { AbortError } from "../../src/errors.ts";
import { createNoise, fromHost, type Tensor } from "../../src/tensor/index.ts";
import { drained } from "../../src/work.ts";

const scheduler = schedulerFromConfig({ _class_name: "DDIMScheduler", clip_sample: false }, { steps: 4 });
/** A "network" whose prediction depends on all that it is given. */
const network = (x: Tensor, t: Tensor, c: { shift: Tensor }): Tensor =>
  x
    .mul(0.5)
    .add(t.mul(1e-3).reshape([-1, 1]))
    .add(c.shift);
const shifts = (scale: number) => (first: number, n: number) => ({
  shift: fromHost(
    "f32",
    [n, 1],
    Float32Array.from({ length: n }, (_, i) => scale * (first + i)),
  ),
});
const options = (
  more: Partial<DrawingOptions<{ shift: Tensor }>> = {},
): DrawingOptions<{ shift: Tensor }> => ({
  scheduler,
  count: 5,
  shape: [2],
  noise: createNoise("philox", 7),
  condition: shifts(0.1),
  ...more,
});
const draw = async (more: Partial<DrawingOptions<{ shift: Tensor }>> = {}): Promise<number[]> =>
  Array.from(await drained(drawSamples(network, options(more))));
const near = (a: readonly number[], b: readonly number[]): void => {
  expect(a).toHaveLength(b.length);
  for (const [i, v] of b.entries()) expect(a[i]).toBeCloseTo(v, 5);
};

/** The same by hand: one network call for the condition, one for the negative, no compilation, no batches. */
async function byHand(guidance: number): Promise<number[]> {
  const [wanted, avoided] = [shifts(0.1)(0, 5), shifts(-0.2)(0, 5)];
  const start = fromHost(
    "f32",
    [5, 2],
    createNoise("philox", 7).normal([5, 2], { purpose: "start", step: 0 }),
  );
  const run = scheduler.sample((x, timestep) => {
    const t = fromHost("f32", [5], new Float32Array(5).fill(timestep));
    const [c, u] = [network(x, t, wanted), network(x, t, avoided)];
    return c.mul(guidance).add(u.mul(1 - guidance));
  }, scheduler.initial(start));
  return (await (await finalSample(run)).toArray()) as number[];
}

describe("drawing", () => {
  it("is the scheduler's loop over the network, without guidance and with it", async () => {
    near(await draw(), await byHand(1));
    near(await draw({ guidance: 3, negative: shifts(-0.2) }), await byHand(3));
  });

  it("gives sample i the same whatever the batch", async () => {
    const whole = await draw();
    near(await draw({ batch: 2 }), whole);
    near(await draw({ count: 3 }), whole.slice(0, 6));
  });

  it("tells every step of every batch, with what the network was asked and said", async () => {
    const seen: string[] = [];
    await drained(drawSamples(network, options({ batch: 3 })), ({ step, first, call, x }) => {
      seen.push(`${first} ${step} ${call.timestep} [${call.prediction.shape}] [${x.shape}]`);
    });
    expect(seen).toHaveLength(8);
    expect(seen[0]).toBe(`0 0 ${scheduler.timesteps[0]} [3,2] [3,2]`);
    expect(seen[7]).toBe(`3 3 ${scheduler.timesteps[3]} [2,2] [2,2]`);
  });

  it("stops when it is told to, and refuses guidance with nothing to lead away from", async () => {
    const controller = new AbortController();
    const stopped = drained(drawSamples(network, options({ signal: controller.signal })), () =>
      controller.abort(),
    );
    await expect(stopped).rejects.toThrow(AbortError);
    await expect(draw({ guidance: 2 })).rejects.toThrow(/needs a condition to lead away from/);
    await expect(draw({ batch: 0 })).rejects.toThrow(/as batch, got 0/);
    expect(await draw({ count: 0 })).toEqual([]);
  });
});
