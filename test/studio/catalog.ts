/** Tools for the tests: small systems that are declared as all systems are, and really work. */
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { decodePicture, encodePicture, writeFileAtomic } from "../../src/io/index.ts";
import { systemTool } from "../../src/studio/system-tool.ts";
import type { Catalog } from "../../src/studio/tool.ts";
import { sdseg } from "../../src/systems/sdseg/system.ts";
import { action, hinted, type System } from "../../src/systems/system.ts";
import { everything } from "../systems/everything.ts";
import { taste } from "../systems/taste.ts";

const runOptions = z.object({
  image: hinted(z.string().describe("picture to turn into its negative"), { role: "picture", path: "file" }),
  strength: z.number().min(0).max(1).default(1).describe("how much of it is turned"),
  passes: z.int().min(1).max(1000).default(3).describe("parts of the work"),
  pause: z.int().min(0).max(10_000).default(10).describe("milliseconds between parts"),
  fail: z.enum(["no", "input", "defect", "exit"]).default("no").describe("ends badly"),
  model: hinted(z.string().default("plain").describe("plain, or a checkpoint file"), {
    role: "model",
    path: "file",
  }),
  out: hinted(z.string().default("out").describe("where the result goes"), {
    role: "output",
    path: "output",
  }),
});

/** Turns a picture into its negative, row by row in so many parts. */
async function* negative(options: z.output<typeof runOptions>, signal: AbortSignal | undefined) {
  const { image, strength, passes, pause, fail, out } = options;
  const picture = await decodePicture(await readFile(image));
  const data = Uint8Array.from(picture.data);
  for (let pass = 0; pass < passes; pass++) {
    signal?.throwIfAborted();
    if (fail === "exit") process.exit(3);
    if (fail === "defect") throw new TypeError("a defect of the test's own making");
    for (let i = pass; i < data.length; i += passes)
      data[i] = Math.round(data[i]! + strength * (255 - 2 * data[i]!));
    yield { type: "progress", stage: "turn", done: pass + 1, total: passes } as const;
    await delay(pause);
  }
  await mkdir(out, { recursive: true });
  await writeFileAtomic(join(out, "negative.png"), await encodePicture({ ...picture, data }));
  yield { type: "picture", name: "negative", picture: { ...picture, data } } as const;
  const mean = data.reduce((sum, v) => sum + v, 0) / data.length;
  return { summary: "Turned.", metrics: { mean } };
}

const trainOptions = z.object({
  steps: z.int().min(1).max(100_000).default(40).describe("steps of gradient descent"),
  rate: z.number().min(0.001).max(1).default(0.1).describe("learning rate"),
  pause: z.int().min(0).max(1000).default(5).describe("milliseconds between steps"),
  from: hinted(z.string().optional().describe("checkpoint to go on from"), { role: "model", path: "file" }),
  out: hinted(z.string().default("out").describe("run folder"), { role: "output", path: "output" }),
});

/** Finds the root of 2 by gradient descent on (x² - 2)², keeping its state after every step. */
async function* descend(options: z.output<typeof trainOptions>, signal: AbortSignal | undefined) {
  const { steps, rate, pause, out } = options;
  await mkdir(out, { recursive: true });
  const statePath = join(out, "state.json");
  const saved = existsSync(statePath)
    ? JSON.parse(await readFile(statePath, "utf8"))
    : { step: 0, x: 1, xs: [] };
  let { step, x } = saved as { step: number; x: number };
  const { xs } = saved as { xs: number[] };
  const point = (at: number) =>
    ({
      type: "metrics",
      stage: "descend",
      step: at,
      values: { loss: (xs[at - 1]! ** 2 - 2) ** 2, x: xs[at - 1]! },
    }) as const;
  if (step > 0) yield { type: "message", text: `goes on after step ${step}` } as const;
  for (let at = 1; at <= step; at++) yield point(at);
  while (step < steps) {
    signal?.throwIfAborted();
    x -= rate * 4 * x * (x * x - 2) * 0.25;
    step++;
    xs.push(x);
    await writeFileAtomic(statePath, Buffer.from(JSON.stringify({ step, x, xs })));
    yield point(step);
    yield { type: "progress", stage: "descend", done: step, total: steps } as const;
    await delay(pause);
  }
  const path = join(out, "root.safetensors");
  await writeFileAtomic(path, Buffer.from(String(x)));
  yield { type: "file", path, about: "the root" } as const;
  return { summary: `The root is ${x.toFixed(4)}.`, metrics: { x } };
}

const demo: System = {
  name: "demo",
  title: "Negatives and roots",
  about: "turns pictures into negatives and finds a root by descent",
  paper: { title: "On Negatives", authors: "A. Tester", venue: "Tests", year: 2024, arxiv: "0000.00000" },
  claim: "A negative of a negative is the picture.",
  headline: async () => "all",
  checkpoints: [{ name: "plain", file: "package.json", about: "nothing was learnt" }],
  actions: {
    run: action({
      about: "turns a picture into its negative",
      options: runOptions,
      run: (options, { signal }) => negative(options, signal),
    }),
    train: action({
      about: "finds the root of 2 by descent; resumable",
      options: trainOptions,
      run: (options, { signal }) => descend(options, signal),
    }),
    evaluate: action({
      about: "adds numbers",
      options: z.object({ count: z.int().min(1).max(100).default(10).describe("numbers to add") }),
      async *run({ count }) {
        const sum = (count * (count + 1)) / 2;
        yield { type: "table", title: "Sum", table: { columns: ["count", "sum"], rows: [[count, sum]] } };
        return { summary: "Added." };
      },
    }),
  },
};

/** The tests' own system, and SDSeg with the checkpoint that a test has written. */
export const catalog: Catalog = async (settings) => {
  const root = fileURLToPath(new URL("../../", import.meta.url));
  const tools = [demo, everything, taste].map((system) =>
    systemTool(system, settings, { root, exists: existsSync }),
  );
  const file = process.env.TWEEDIE_TEST_CHECKPOINT;
  if (file === undefined) return tools;
  const checkpoints = [{ name: "smoke", file: basename(file), about: "fresh weights" }];
  const small = systemTool({ ...sdseg, checkpoints }, settings, { root: dirname(file), exists: existsSync });
  return [...tools, small];
};
