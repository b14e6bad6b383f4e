import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { AbortError } from "../../src/errors.ts";
import { constantDecay } from "../../src/nn/index.ts";
import { readHistory } from "../../src/report/index.ts";
import { fromHost, type Tensor, treeEntries } from "../../src/tensor/index.ts";
import { type Phase, rateOf, runPhase } from "../../src/training/index.ts";
import { drained, type WorkEvent } from "../../src/work.ts";
import { makeTraining, type Regression } from "../nn/regression.ts";
import { temporaryFolder } from "../study/folder.ts";

const { model, loss, batch } = makeTraining({});
type Batch = Awaited<ReturnType<typeof batch>>;

const phaseOf = (more: Partial<Phase<Regression, Batch>> = {}): Phase<Regression, Batch> => ({
  stage: "regression",
  settings: { steps: 50, batch: 16, learningRate: 0.03, warmup: 5, schedule: "cosine", clip: 1 },
  model,
  loss,
  batch,
  ema: constantDecay(0.9),
  ...more,
});

async function run(phase: Phase<Regression, Batch>) {
  const events: WorkEvent[] = [];
  const result = await drained(runPhase(phase), (event) => events.push(event));
  const bits: Record<string, number[]> = {};
  for (const [path, t] of treeEntries({ model: result.model, ema: result.ema }))
    bits[path] = [...((await t.data()) as Float32Array)];
  return { events, result, bits };
}

const points = (events: readonly WorkEvent[]) =>
  events.flatMap((event) => (event.type === "metrics" ? [[event.step, event.values] as const] : []));

describe("a phase", () => {
  it("lowers the loss and tells progress and curves; the model to keep is the average", async () => {
    const { events, result, bits } = await run(phaseOf());
    const progress = events.filter((event) => event.type === "progress");
    expect(progress).toHaveLength(50);
    expect(progress.at(-1)).toMatchObject({ stage: "regression", done: 50, total: 50 });
    const curve = points(events);
    expect(curve.map(([step]) => step)).toEqual([20, 40, 50]);
    expect(curve.at(-1)![1].loss).toBeLessThan(curve[0]![1].loss!);
    expect(result.final).toBe(result.ema);
    expect(bits["ema.w"]).not.toEqual(bits["model.w"]);
    expect((await run(phaseOf({ ema: undefined }))).result.final).toMatchObject({ w: expect.anything() });
  });

  it("goes on after an interruption bit for bit, with one history and all its curves told again", async () => {
    const [whole, parts] = [await temporaryFolder(), await temporaryFolder()];
    const uninterrupted = await run(phaseOf({ folder: whole }));
    const controller = new AbortController();
    const stopped = drained(runPhase(phaseOf({ folder: parts, signal: controller.signal })), (event) => {
      if (event.type === "progress" && event.done === 33) controller.abort();
    });
    await expect(stopped).rejects.toThrow(AbortError);
    const resumed = await run(phaseOf({ folder: parts }));
    expect(resumed.bits).toEqual(uninterrupted.bits);
    expect(resumed.events).toContainEqual({ type: "message", text: "regression: goes on after step 33" });
    expect(points(resumed.events)).toEqual(points(uninterrupted.events));
    expect(await readHistory(parts)).toEqual(await readHistory(whole));
    expect((await stat(join(parts, "report.html"))).size).toBeGreaterThan(1000);
  });

  it("does nothing when it is done already, and refuses a folder of other settings", async () => {
    const folder = await temporaryFolder();
    const first = await run(phaseOf({ folder }));
    const again = await run(phaseOf({ folder }));
    expect(again.events.filter((event) => event.type === "progress")).toEqual([]);
    expect(again.bits).toEqual(first.bits);
    const other = phaseOf({ folder });
    const faster = { ...other, settings: { ...other.settings, learningRate: 0.04 } };
    await expect(run(faster)).rejects.toThrow(/settings/);
  });

  it("keeps what is validated, and seeds that are bigints, with the settings", async () => {
    const folder = await temporaryFolder();
    const settings = { ...phaseOf().settings, seed: 2n ** 63n };
    const phase = phaseOf({
      folder,
      settings,
      validateEvery: 25,
      validate: async (_, step) => ({ score: step / 100, broken: Number.NaN }),
    });
    const { events } = await run(phase);
    expect(points(events)).toContainEqual([25, { score: 0.25 }]);
    expect(await readHistory(folder)).toContainEqual({ step: 50, score: 0.5 });
    expect(await readFile(join(folder, "report.html"), "utf8")).toContain("9223372036854775808n");
  });

  it("lets somebody look at the state after each validation, without a trace in the result", async () => {
    const looks: string[] = [];
    const looked = await run(
      phaseOf({
        validateEvery: 25,
        async *look({ model: now, ema }, step) {
          looks.push(`${step} ${(await now.w.toArray()).length} ${(await ema!.w.toArray()).length}`);
          yield { type: "message", text: `seen at ${step}` };
        },
      }),
    );
    expect(looks).toEqual(["25 24 24", "50 24 24"]);
    expect(looked.events).toContainEqual({ type: "message", text: "seen at 25" });
    const plain = await run(phaseOf());
    expect(looked.bits).toEqual(plain.bits);
    expect(points(looked.events)).toEqual(points(plain.events));
  });

  it("gives `prepare` the state before the step, and the step what it makes of the batch", async () => {
    const seen: number[] = [];
    const prepared = phaseOf({
      prepare: async ({ model: now, optimizer }, raw) => {
        seen.push(await optimizer.step.item());
        return { ...raw, y: await raw.y.add(now.w.sum().mul(0)).mul(2).eval() };
      },
    });
    const doubled = phaseOf({
      batch: async (step) => {
        const raw = await batch(step);
        return { ...raw, y: await raw.y.mul(2).eval() };
      },
    });
    expect((await run(prepared)).bits).toEqual((await run(doubled)).bits);
    expect(seen).toEqual(Array.from({ length: 50 }, (_, i) => i));
  });

  it("rises to the learning rate and falls to the last rate", async () => {
    const at = async (step: number) => {
      const rate = rateOf({
        steps: 100,
        batch: 1,
        learningRate: 1,
        warmup: 10,
        schedule: "cosine",
        lastRate: 0.1,
        clip: 0,
      }) as (t: Tensor) => Tensor;
      return rate(fromHost("f32", [], Float32Array.of(step))).item();
    };
    expect(await at(0)).toBeCloseTo(0.1, 2);
    expect(await at(100)).toBeCloseTo(0.1, 5);
    expect(await at(50)).toBeCloseTo(0.55, 5);
  });
});
