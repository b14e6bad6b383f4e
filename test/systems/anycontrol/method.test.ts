import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { epsilonObjective } from "../../../src/diffusion/index.ts";
import { mapParameters, parameters } from "../../../src/nn/index.ts";
import { ARMS, type Arm, batchSettings } from "../../../src/systems/anycontrol/arms.ts";
import { anyControlBatches, trainingScenes } from "../../../src/systems/anycontrol/data.ts";
import { anyControlLoss, type Steering, steered } from "../../../src/systems/anycontrol/method.ts";
import {
  freshSteerer,
  kept,
  type SteeringModel,
  steeringFile,
} from "../../../src/systems/anycontrol/model.ts";
import { configOf, training, trainSteerer } from "../../../src/systems/anycontrol/train.ts";
import { drawControlled, splitStrengths, type Wanted } from "../../../src/systems/anycontrol/use.ts";
import { createNoise, evaluate, fromHost, grad, type Tensor } from "../../../src/tensor/index.ts";
import { drained } from "../../../src/work.ts";
import { tinyBase } from "./tiny.ts";

const base = tinyBase();
const scenes = trainingScenes(0, 40);
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-anycontrol-"));
});
afterAll(async () => {
  await base.close();
  await rm(folder, { recursive: true, force: true });
});

/** A model whose zero layers are not zero any more, as after training. */
function woken(arm: Arm): SteeringModel {
  const noise = createNoise("philox", 3);
  let k = 0;
  const net = mapParameters(freshSteerer(configOf(base, arm), base.unet, 0), (t) => {
    const size = t.shape.reduce((a, b) => a * b, 1);
    const values = noise.normal([size], { purpose: "wake", step: k++ });
    return fromHost(
      "f32",
      t.shape,
      values.map((v) => (t.rank === 1 ? 1 : 0) + 0.1 * v),
    );
  });
  return kept(net, configOf(base, arm));
}
const map = (f: (x: number, y: number) => number): Float32Array =>
  Float32Array.from({ length: 3 * 32 * 32 }, (_, i) => f(Math.floor(i / 3) % 32, Math.floor(i / 96)));
const edge = { type: "edge" as const, map: map((x) => (x === 12 ? 1 : 0)) };
const depth = { type: "depth" as const, map: map((_, y) => y / 31) };
const caption = "a red circle on teal";
const draw = (model: SteeringModel | undefined, wanted: readonly Wanted[], seed = 4): Promise<Tensor> =>
  drained(drawControlled(base, model, wanted, { seed, steps: 1, threads: 1 }));
const gap = async (a: Tensor, b: Tensor): Promise<number> => a.sub(b).abs().max().item();

describe("before training", () => {
  it.each(["full", "uni", "joint"] as const)(
    "%s adds nothing: the noise is the base's, bit for bit",
    async (name) => {
      const arm: Arm = ARMS[name];
      const batch = await anyControlBatches(base, scenes, batchSettings(arm, { batch: 2, seed: 0 }))(0);
      const steering = freshSteerer(configOf(base, arm), base.unet, 0) as Steering;
      const inputs = [batch.x0, batch.timestep, batch.context] as const;
      const own = steered(base.unet, inputs, { steering, prepared: steering.prepare(batch.guide) });
      expect(await own.data()).toEqual(await steered(base.unet, inputs).data());
    },
  );
});

describe("training", () => {
  it("lowers the loss, leaves the base alone, and its file holds the model", async () => {
    const weight = async () =>
      Float32Array.from((await parameters(base.unet).get("conv_in.weight")!.data()) as Float32Array);
    const before = await weight();
    const one = trainingScenes(0, 1);
    const settings = training({ steps: 40, seed: 0, batch: 4, learningRate: 5e-3, warmup: 2 });
    const model = await drained(
      trainSteerer({ ...{ stage: "tiny", base, arm: ARMS.full, scenes: one, threads: 1 }, settings }),
    );
    const batch = await anyControlBatches(base, one, batchSettings(ARMS.full, { batch: 16, seed: 9 }))(0);
    const lossOf = (net: unknown): Promise<number> =>
      anyControlLoss(epsilonObjective)(net as Steering, batch).item();
    const fresh = await lossOf(freshSteerer(configOf(base, ARMS.full), base.unet, 0));
    expect(await lossOf(model.net)).toBeLessThan(0.93 * fresh);
    expect(await weight()).toEqual(before);
    const path = join(folder, "model.safetensors");
    await steeringFile.save(path, model, {}, "f32");
    const { model: read } = await steeringFile.load(path);
    const [own, again] = [parameters(model.net), parameters(read.net)];
    expect([...again.keys()]).toEqual([...own.keys()]);
    for (const [key, t] of own) expect(await again.get(key)!.data()).toEqual(await t.data());
    expect(read.config).toEqual(JSON.parse(JSON.stringify(model.config)));
  });
});

describe("pictures under conditions", () => {
  const model = woken(ARMS.full);

  it("are a matter of the conditions as a set: no order, nothing of what fills up or has strength 0", async () => {
    const three = [
      { caption, conditions: [edge, depth, edge] },
      { caption, conditions: [] },
      { caption, conditions: [edge, depth], strengths: [0, 0] },
    ];
    const turned = [
      { caption, conditions: [depth, edge, edge] },
      { caption, conditions: [edge] },
      { caption, conditions: [] },
    ];
    const [a, b] = [await draw(model, three), await draw(model, turned)];
    const row = (t: Tensor, i: number): Tensor => t.sliceAxis(0, i, i + 1);
    // One step from pure noise makes a difference in the guess of the noise about 150 times as large.
    expect(await gap(row(a, 0), row(b, 0))).toBeLessThan(1e-3);
    expect(await gap(row(a, 1), row(b, 1))).toBeGreaterThan(1e-2);
    expect(await gap(row(a, 2), row(b, 2))).toBeLessThan(1e-3);
    const plain = await draw(
      undefined,
      three.map(() => ({ caption, conditions: [] })),
    );
    expect(await gap(row(a, 1), row(plain, 1))).toBeLessThan(1e-3); // without a condition: the base's own
    expect(await gap(row(a, 2), row(plain, 2))).toBeLessThan(1e-3);
  });

  it("refuse what they cannot follow, by name", async () => {
    const refused = (one: Wanted) => expect(draw(model, [one])).rejects;
    await refused({ caption, conditions: new Array(9).fill(edge) }).toThrow(/at most 8/);
    await refused({ caption, conditions: [{ type: "edge", map: new Float32Array(5) }] }).toThrow(/32 pixels/);
    const broken = Float32Array.from(edge.map);
    broken[7] = Number.NaN;
    await refused({ caption, conditions: [{ type: "edge", map: broken }] }).toThrow(
      /edge map holds NaN at element 7/,
    );
    await refused({ caption, conditions: [edge], strengths: [3] }).toThrow(/0 to 2/);
    await expect(draw(woken(ARMS.edge), [{ caption, conditions: [depth] }])).rejects.toThrow(
      /has not seen.*"depth"/,
    );
  });

  it("take the strongest condition as the measure of the others", () => {
    expect(splitStrengths([0.8])).toEqual({ all: 0.8, relative: [1] });
    expect(splitStrengths([1, 0.5])).toEqual({ all: 1, relative: [1, 0.5] });
    expect(splitStrengths([])).toEqual({ all: 0, relative: [] });
  });
});

it("the loss reaches every part of the network", async () => {
  const model = woken(ARMS.full).net;
  const batch = await anyControlBatches(base, scenes, batchSettings(ARMS.full, { batch: 4, seed: 1 }))(0);
  const gradient = grad((net: Steering) => anyControlLoss(epsilonObjective)(net, batch))(model as Steering);
  const all = parameters(gradient as object);
  await evaluate([...all.values()]);
  const silent: string[] = [];
  for (const [key, t] of all) if (((await t.data()) as Float32Array).every((v) => v === 0)) silent.push(key);
  // The text's way ends where nothing reads it any more, keys have no use for a bias, and not every word is in a batch.
  expect(
    silent.filter(
      (key) => !/layer\.3\.(intermediate|output)\.|class_|key\.bias|layer\.3\.attention/.test(key),
    ),
  ).toEqual([]);
});
