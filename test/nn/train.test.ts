import { spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { latestCheckpoint } from "../../src/io/run-directory.ts";
import { readSafetensors } from "../../src/io/safetensors-file.ts";
import { adamW, type TrainEvent, train } from "../../src/nn/index.ts";
import { type Tensor, tensor, treeEntries } from "../../src/tensor/index.ts";
import { makeTraining, type Regression } from "./regression.ts";

const root = await mkdtemp(join(tmpdir(), "tweedie-train-"));
afterAll(() => rm(root, { recursive: true, force: true }));
let folders = 0;
const folder = (): string => join(root, `run${folders++}`);

type Event = TrainEvent<Regression>;

async function collect(
  options: Parameters<typeof train<Regression, { x: Tensor; y: Tensor }>>[0],
): Promise<Event[]> {
  const events: Event[] = [];
  for await (const event of train(options)) events.push(event);
  return events;
}

const losses = (events: readonly Event[]): number[] =>
  events.flatMap((e) => (e.type === "step" ? [e.loss] : []));
const finalState = (events: readonly Event[]) =>
  events.flatMap((e) => (e.type === "done" ? [e.state] : []))[0]!;

/** All bytes of the newest checkpoint's tensors. */
async function savedBits(directory: string): Promise<Record<string, string>> {
  const latest = await latestCheckpoint(directory);
  const { tensors } = await readSafetensors(`${latest!.directory}/state.safetensors`);
  const hex = (t: unknown): string => {
    const { data } = t as { data: ArrayBufferView };
    return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
  };
  return Object.fromEntries([...tensors].map(([name, t]) => [name, hex(t)]));
}

describe("training", () => {
  it("lowers the loss, reports every step, and leaves the caller's model as it was", async () => {
    const options = makeTraining({ steps: 60 });
    const before = await options.model.w.toArray();
    const events = await collect(options);
    const curve = losses(events);
    expect(curve.length).toBe(60);
    expect(curve.at(-1)!).toBeLessThan(curve[0]! / 10);
    expect(await options.model.w.toArray()).toEqual(before);
    expect(await finalState(events).model.w.toArray()).not.toEqual(before);
    const last = events.findLast((e) => e.type === "step")!;
    expect(last).toMatchObject({ type: "step", step: 60, secondsLeft: 0 });
  });

  it("gives the same bits in two runs", async () => {
    const [a, b] = [folder(), folder()];
    await collect(makeTraining({ steps: 20, directory: a }));
    await collect(makeTraining({ steps: 20, directory: b }));
    expect(await savedBits(a)).toEqual(await savedBits(b));
  });

  it("resumes bit-exactly: stopping at 13 of 30 steps and going on equals never having stopped", async () => {
    const [whole, parts] = [folder(), folder()];
    const uninterrupted = losses(await collect(makeTraining({ steps: 30, directory: whole })));
    const first = losses(await collect(makeTraining({ steps: 13, directory: parts })));
    const events = await collect(makeTraining({ steps: 30, directory: parts }));
    expect(events[0]).toEqual({ type: "resumed", step: 13, skipped: [] });
    expect([...first, ...losses(events)]).toEqual(uninterrupted);
    expect(await savedBits(parts)).toEqual(await savedBits(whole));
  });

  it("resumes bit-exactly after SIGKILL, losing at most the steps since the last save", async () => {
    const [whole, killed] = [folder(), folder()];
    await collect(makeTraining({ steps: 40, saveEvery: 4, directory: whole }));
    const child = spawn(
      process.execPath,
      [
        "--import",
        "tsx",
        ...process.execArgv,
        fileURLToPath(new URL("./train.child.ts", import.meta.url)),
        killed,
      ],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    await new Promise<void>((resolve) => {
      let text = "";
      child.stdout.on("data", (chunk: Buffer) => {
        text += chunk;
        if (text.includes("step 9\n")) resolve();
      });
      child.on("exit", () => resolve());
    });
    const exited = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGKILL");
    await exited;
    const events = await collect(makeTraining({ steps: 40, saveEvery: 4, directory: killed }));
    const resumed = events[0]!;
    expect(resumed.type).toBe("resumed");
    expect(resumed.type === "resumed" && resumed.step).toBeGreaterThanOrEqual(8);
    expect(await savedBits(killed)).toEqual(await savedBits(whole));
  });

  it("saves and stops on an abort signal, and goes on from there", async () => {
    const directory = folder();
    const controller = new AbortController();
    const stop = async (): Promise<void> => {
      for await (const event of train(makeTraining({ steps: 30, directory, signal: controller.signal }))) {
        if (event.type === "step" && event.step === 7) controller.abort();
      }
    };
    await expect(stop()).rejects.toMatchObject({ code: "ABORT" });
    const events = await collect(makeTraining({ steps: 30, directory }));
    expect(events[0]).toMatchObject({ type: "resumed", step: 7 });
  });

  it("keeps only the newest checkpoints", async () => {
    const directory = folder();
    await collect(makeTraining({ steps: 20, saveEvery: 4, keep: 2, directory }));
    expect((await readdir(directory)).filter((name) => name.startsWith("step-")).sort()).toEqual([
      "step-000016",
      "step-000020",
    ]);
  });

  it("calls the validation hook on schedule and at the end", async () => {
    const steps: number[] = [];
    const validate = async (_: unknown, step: number): Promise<Record<string, number>> => {
      steps.push(step);
      return { score: step };
    };
    const events = await collect(makeTraining({ steps: 10, validate, validateEvery: 4 }));
    expect(steps).toEqual([4, 8, 10]);
    expect(events).toContainEqual({ type: "validated", step: 8, metrics: { score: 8 } });
  });

  it("averages slices of the batch to the same result as the whole batch", async () => {
    const whole = losses(await collect(makeTraining({ steps: 10 })));
    const sliced = losses(await collect(makeTraining({ steps: 10, accumulate: 4 })));
    for (const [i, loss] of sliced.entries()) expect(loss).toBeCloseTo(whole[i]!, 5);
  });
});

describe("a frozen part of the model", () => {
  const frozen = (path: string): boolean => path === "w";

  it("keeps its values, and the rest learns as with its gradient alone", async () => {
    const options = makeTraining({ frozen, steps: 20, clipNorm: 1e9 });
    const events = await collect(options);
    const { model, ema, optimizer } = finalState(events);
    expect(await model.w.toArray()).toEqual(await options.model.w.toArray());
    expect(await ema!.w.toArray()).toEqual(await options.model.w.toArray());
    expect(treeEntries(optimizer).map(([path]) => path)).toEqual(["step", "slots.first.v", "slots.second.v"]);
    const rate = { match: frozen, rateScale: 0 };
    const whole = await collect(
      makeTraining({ steps: 20, clipNorm: 1e9, optimizer: adamW({ learningRate: 0.03, groups: [rate] }) }),
    );
    expect(await model.v.toArray()).toEqual(await finalState(whole).model.v.toArray());
    expect(losses(events)).toEqual(losses(whole));
  });

  it("is resumed bit-exactly", async () => {
    const [straight, resumed] = [folder(), folder()];
    await collect(makeTraining({ frozen, steps: 8, directory: straight }));
    await collect(makeTraining({ frozen, steps: 5, directory: resumed }));
    await collect(makeTraining({ frozen, steps: 8, directory: resumed }));
    expect(await savedBits(resumed)).toEqual(await savedBits(straight));
  });

  it("is not all of it", async () => {
    const all = makeTraining({ frozen: () => true, steps: 2 });
    await expect(collect(all)).rejects.toThrow(/all parameters are frozen/);
  });
});

describe("training refuses", () => {
  it("a loss that is not finite, naming step and layer, after saving the last good state", async () => {
    const directory = folder();
    const options = makeTraining({ steps: 30, directory, saveEvery: 100 });
    const poisoned = {
      ...options,
      batch: async (step: number) =>
        step === 5 ? { x: tensor([[1, Number.NaN, 1]]), y: tensor([[1]]) } : options.batch(step),
    };
    await expect(collect(poisoned)).rejects.toThrow(/step 6: the loss is NaN.*batch\.x is not finite/s);
    expect((await latestCheckpoint(directory))?.step).toBe(5);
    const explosive = {
      ...makeTraining({ steps: 5 }),
      loss: (m: Regression, b: { x: Tensor; y: Tensor }) => b.x.matmul(m.w).mul(-1).sub(100).log().mean(),
    };
    await expect(collect(explosive)).rejects.toThrow(/step 1: the loss is NaN.*log.*model\.w|batch/s);
  });
  it("settings that differ from those of the run it would resume", async () => {
    const directory = folder();
    await collect(makeTraining({ steps: 2, directory, settings: { width: 3 } }));
    await expect(collect(makeTraining({ steps: 4, directory, settings: { width: 4 } }))).rejects.toThrow(
      /made with other settings \(width 3, now 4\)\. With those of then it goes on; other ones need another folder/,
    );
    const more = { width: 3, rates: [1, 2], seed: 1 };
    await expect(collect(makeTraining({ steps: 4, directory, settings: more }))).rejects.toThrow(
      /\(rates none, now \[1,2\]; seed none, now 1\)/,
    );
  });
  it("empty batches and impossible numbers", async () => {
    await expect(
      collect({
        ...makeTraining({ steps: 1 }),
        batch: () => ({
          x: tensor(new Float32Array(0), { shape: [0, 3] }),
          y: tensor(new Float32Array(0), { shape: [0, 1] }),
        }),
      }),
    ).rejects.toThrow(/empty: "x"/);
    await expect(collect(makeTraining({ steps: 0 }))).rejects.toThrow(/steps must be a positive integer/);
  });
  it("a state whose structure is not that of the checkpoint", async () => {
    const directory = folder();
    await collect(makeTraining({ steps: 2, directory }));
    const other = { ...makeTraining({ steps: 4, directory }), ema: undefined };
    await expect(collect(other)).rejects.toMatchObject({ code: "TREE" });
  });
});
