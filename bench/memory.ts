/**
 * `npm run bench:memory`: resident memory over 2,000 compiled training steps and 2,000 eager computations. Growth means
 * a leak. Writes bench/results/memory.md. The section on recomputation there comes from checkpoint.ts.
 */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { writeFileAtomic } from "../src/io/atomic.ts";
import { adamW, initialState, makeTrainStep } from "../src/nn/index.ts";
import { cachedSessions, conv, formatBytes, groupNorm, type Tensor } from "../src/tensor/index.ts";
import { random } from "./models.ts";
import type { SuiteResult } from "./suite.ts";

const STEPS = 2000;
const MARKS = [100, 500, 1000, 1500, 2000];

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Resident memory after garbage collection. */
function resident(): number {
  collect();
  return process.memoryUsage.rss();
}

async function series(step: (i: number) => Promise<void>): Promise<number[]> {
  const marks: number[] = [];
  for (let i = 1; i <= STEPS; i++) {
    await step(i);
    if (MARKS.includes(i)) marks.push(resident());
  }
  return marks;
}

async function training(): Promise<number[]> {
  const model = {
    w1: random([32, 3, 3, 3], 0.2),
    gain: random([32]),
    bias: random([32]),
    w2: random([3, 32, 3, 3], 0.1),
  };
  const optimizer = adamW({ learningRate: 1e-3 });
  const loss = (m: typeof model, x: Tensor): Tensor => {
    const h = groupNorm(conv(x, m.w1, undefined, { padding: 1 }), 8, m.gain, m.bias).silu();
    return conv(h, m.w2, undefined, { padding: 1 }).sub(x).square().mean();
  };
  const step = makeTrainStep({ loss, optimizer, clipNorm: 1 });
  let state = initialState(model, optimizer);
  const marks = await series(async () => {
    const out = await step(state, random([8, 3, 32, 32])); // a fresh batch each time, as in real training
    state = out.state;
    await out.loss.item();
  });
  await step.close();
  return marks;
}

const eager = (): Promise<number[]> =>
  series(async () => {
    const x = random([64, 256]);
    await x.matmul(x, { transB: true }).softmax().mul(2).sum().item();
  });

const growthOf = (marks: readonly number[]): number => marks.at(-1)! - marks[1]!;

async function timed(run: () => Promise<number[]>): Promise<{ marks: number[]; seconds: number }> {
  const startedAt = performance.now();
  const marks = await run();
  return { marks, seconds: (performance.now() - startedAt) / 1000 };
}

/** The suite. `peakBytes` is of the whole process; the growth of one series does not depend on the other. */
export async function memorySuite(): Promise<SuiteResult> {
  const series = {
    "2,000 training steps (conv, group norm, AdamW)": await timed(training),
    "2,000 eager computations": await timed(eager),
  };
  const lines = Object.entries(series).map(([name, { marks }]) => {
    const growth = growthOf(marks);
    return `| ${name} | ${marks.map(formatBytes).join(" | ")} | ${growth < 0 ? "-" : "+"}${formatBytes(Math.abs(growth))} |`;
  });
  const page = [
    "# Memory over time",
    "",
    `Resident memory of the process after garbage collection. ${cachedSessions()} eager graphs are cached at the end.`,
    `Measured on ${new Date().toISOString().slice(0, 10)}, Node ${process.version}. Command: \`npm run bench:memory\`.`,
    "",
    `| work | ${MARKS.map((m) => `after ${m}`).join(" | ")} | growth from 500 to 2000 |`,
    `|---|${MARKS.map(() => "--:").join("|")}|--:|`,
    ...lines,
    "",
  ].join("\n");
  console.log(page);
  const rows = Object.entries(series).map(([name, { marks, seconds }]) => ({
    name,
    seconds,
    peer: null,
    peerSeconds: null,
    ratio: null,
    peakBytes: Math.max(...marks),
    growthBytes: growthOf(marks),
  }));
  return { rows, page };
}

/** Writes the page; the section on recomputation stays. */
async function main(): Promise<void> {
  const { page } = await memorySuite();
  const file = fileURLToPath(new URL("results/memory.md", import.meta.url));
  const kept = (await readFile(file, "utf8").catch(() => "")).split("\n## Recomputation")[1];
  await writeFileAtomic(file, Buffer.from(kept ? `${page}\n## Recomputation${kept}` : page));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
