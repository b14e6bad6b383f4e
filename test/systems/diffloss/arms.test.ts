/** Each arm of the study trains with what its name says. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { DEGRADATIONS, fromArray, noiseOf, ownPictures } from "../../../src/data/index.ts";
import { FeatureNetwork } from "../../../src/metrics/index.ts";
import { createRestorer } from "../../../src/networks/index.ts";
import { createRng } from "../../../src/nn/index.ts";
import { ARMS, type Arm, furtherOf, type Judges } from "../../../src/systems/diffloss/arms.ts";
import { openLab } from "../../../src/systems/diffloss/lab.ts";
import { type PriorNetwork, randomPrior } from "../../../src/systems/diffloss/model.ts";
import { pixelTerm, pullOf } from "../../../src/systems/diffloss/train.ts";
import type { Tensor } from "../../../src/tensor/index.ts";
import { degradedCrops, type FurtherLoss, restorationBatches } from "../../../src/training/index.ts";
import { drained } from "../../../src/work.ts";

const judges: Judges = {
  prior: randomPrior("smoke", 1),
  untrained: randomPrior("smoke", 2),
  classifier: new FeatureNetwork({ size: 32, channels: 3, classes: 2 }, createRng(3)),
};
const crops = degradedCrops(ownPictures("restorer", 4), DEGRADATIONS.noise, 0);
const next = restorationBatches(crops, { batch: 2, crop: 16, seed: 0 });
const batches = [await next(0)];
const same = (y: Tensor): Tensor => y;
const settings = { pixel: "l1", strength: 2, seed: 0, threads: 1 } as const;

const made = new Map<Arm, Promise<FurtherLoss<unknown> | undefined>>();
/** The further loss of an arm; its weights are measured once. */
async function of(arm: Arm): Promise<FurtherLoss<unknown>> {
  if (!made.has(arm)) made.set(arm, furtherOf(arm, judges, same, batches, settings));
  return (await made.get(arm))!;
}
const pull = (loss: FurtherLoss<unknown>): Promise<number> => pullOf(loss, same, batches, { threads: 1 });
const priorIn = (loss: FurtherLoss<unknown>): PriorNetwork =>
  (loss.extra(0, [2, 3, 16, 16]) as { prior: PriorNetwork }).prior;
const bias = (net: PriorNetwork): Promise<number[]> => net.timeEmbed.linear1.weight.toArray();

describe("arms", () => {
  it("of the pixels have nothing beside them", async () => {
    expect(await furtherOf(ARMS.pixels, judges, same, batches, settings)).toBeUndefined();
    expect(await furtherOf(ARMS.longer, judges, same, batches, settings)).toBeUndefined();
  });

  it.each(["gradient", "perceptual"] as const)("%s pulls as strongly as is wanted", async (name) => {
    const pixels = await pull(pixelTerm("l1") as FurtherLoss<unknown>);
    expect((await pull(await of(ARMS[name]))) / pixels).toBeCloseTo(2, 2);
  });

  it("of one term pull as strongly as both terms are meant to", async () => {
    const pixels = await pull(pixelTerm("l1") as FurtherLoss<unknown>);
    for (const name of ["naturalness", "semantics"] as const)
      expect((await pull(await of(ARMS[name]))) / pixels).toBeCloseTo(2, 1);
    expect(await pull(await of(ARMS.detached))).toBe(0);
  });

  it("with a random prior use that one, all others the trained one", async () => {
    const [trained, untrained] = [await bias(judges.prior), await bias(judges.untrained)];
    expect(await bias(priorIn(await of(ARMS["random prior"])))).toEqual(untrained);
    for (const name of ["full", "low noise"] as const)
      expect(await bias(priorIn(await of(ARMS[name])))).toEqual(trained);
  });

  it("draw timesteps from their range", async () => {
    const drawn = async (arm: Arm): Promise<number[]> => {
      const { extra } = await of(arm);
      return await (extra(3, [64, 3, 8, 8]) as { t: Tensor }).t.toArray();
    };
    const [all, low] = [await drawn(ARMS.full), await drawn(ARMS["low noise"])];
    expect(Math.min(...all)).toBeGreaterThanOrEqual(10);
    expect(Math.max(...all)).toBeGreaterThan(700);
    expect(Math.max(...low)).toBeLessThan(400);
  });

  it("that are longer take three times as many steps", async () => {
    const net = createRestorer({ network: "unet", base: 2, depth: 2 }, createRng(0));
    const lab = openLab({ judges, start: { noise: net }, lpips: undefined, data: undefined, threads: 1 });
    const plan = {
      task: "noise",
      steps: 2,
      batch: 1,
      crop: 16,
      learningRate: 1e-3,
      strength: 1,
      pictures: 2,
      seed: 0,
    } as const;
    const steps = async (arm: Arm): Promise<number> => {
      const folder = await mkdtemp(join(tmpdir(), "diffloss-arm-"));
      let total = 0;
      await drained(lab.train(arm, plan, folder), (event) => {
        if (event.type === "progress") ({ total } = event);
      });
      return total;
    };
    expect([await steps(ARMS.pixels), await steps(ARMS.longer)]).toEqual([2, 6]);
  });
});

describe("batches of crops", () => {
  it("degrade a picture anew every time that it comes, and are the same for a step", async () => {
    const one = fromArray([
      { image: { width: 8, height: 8, channels: 3, data: new Uint8Array(192).fill(100) } },
    ]);
    const source = degradedCrops(one, noiseOf(25), 0);
    const batchOf = restorationBatches(source, { batch: 1, crop: 8, seed: 0 });
    const values = async (step: number) => await (await batchOf(step)).degraded.toArray();
    expect(await values(0)).toEqual(await values(0));
    expect(await values(1)).not.toEqual(await values(0));
  });
});
