/**
 * How many threads a session gets. The runtime's own count is not used: on some machines it takes one thread of two
 * cores. All that this process may use is tried beside half of it and one, since threads that share a core, or a quota
 * that nobody tells of, may make more threads slower.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { ArgumentError } from "../../errors.ts";
import { CPU_CAPABILITIES, GraphBuilder } from "../onnx/builder.ts";
import { encodeModel } from "../onnx/model.ts";
import { fillNormal } from "../random/philox.ts";
import type { Runtime, ThreadCount } from "./runtime.ts";

type ReadText = (path: string) => string;

/** Numbers in a file of the kernel; none when it is not there. */
function numbersIn(path: string, read: ReadText): number[] {
  try {
    return read(path).trim().split(/\s+/).map(Number);
  } catch {
    return [];
  }
}

/** Processors that the control groups of this process pay for; infinite without a quota. */
export function cpuQuota(read: ReadText = (path) => readFileSync(path, "utf8")): number {
  let groups: string[] = [];
  try {
    groups = read("/proc/self/cgroup").trim().split("\n");
  } catch {
    // No Linux, no control groups.
  }
  const path = groups.find((line) => line.startsWith("0::"))?.slice("0::".length) ?? "/";
  const parts = path.split("/").filter(Boolean);
  const quotas = [...parts, ""].map((_, depth): readonly number[] => {
    const folder = ["/sys/fs/cgroup", ...parts.slice(0, depth)].join("/");
    return numbersIn(`${folder}/cpu.max`, read); // "max 100000" or "150000 100000"
  });
  quotas.push([
    ...numbersIn("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", read), // version 1; -1: no quota
    ...numbersIn("/sys/fs/cgroup/cpu/cpu.cfs_period_us", read),
  ]);
  const processors = quotas.flatMap(([quota, period]) => (quota! > 0 && period! > 0 ? quota! / period! : []));
  return Math.min(...processors, Number.POSITIVE_INFINITY);
}

/** Processors that this process may keep busy: those it may run on, within its quota. */
export const usableProcessors = (quota = cpuQuota()): number =>
  Math.max(1, Math.min(availableParallelism(), Math.floor(quota)));

/** Fewer threads are taken when they are faster by this factor. A busy neighbour costs more threads less than that. */
const CLEARLY = 1.15;

/** The largest number of threads that no smaller one clearly beats. `milliseconds` by number of threads. */
export function chooseThreads(milliseconds: ReadonlyMap<number, number>): number {
  const best = Math.min(...milliseconds.values());
  return Math.max(...[...milliseconds].filter(([, ms]) => ms <= best * CLEARLY).map(([threads]) => threads));
}

/** Sides of the matrices, tried from the smallest until one product takes long enough to be timed. */
const SIDES = [96, 192, 384] as const;
const LONG_ENOUGH_MS = 0.5;
/** The trial ends after so long, and later when all threads seem slow: a neighbour may have had the processor. */
const BUDGET_MS = 20;
const PATIENCE_MS = 300;

/** A product of two square matrices, in milliseconds. */
interface Product {
  time(): Promise<number>;
  close(): Promise<void>;
}

async function openProduct(rt: Runtime, side: number, threads: number): Promise<Product> {
  const g = new GraphBuilder(CPU_CAPABILITIES);
  const value = (name: string) => [{ name, shape: [side, side], dtype: "f32" as const }];
  const model = encodeModel(g, value("x"), value(g.op("MatMul", ["x", "x"])));
  const x = new rt.Tensor("float32", fillNormal(new Float32Array(side * side), { seed: 0 }), [side, side]);
  const session = await rt.createSession(model, "cpu", { threads });
  const run = () => session.run({ x }, { [session.outputNames[0]!]: null });
  await run(); // allocates
  return {
    async time() {
      const start = performance.now();
      await run();
      return performance.now() - start;
    },
    close: () => session.close(),
  };
}

/** The smallest side whose product takes long enough on one thread. */
async function sideFor(rt: Runtime): Promise<number> {
  for (const side of SIDES) {
    const product = await openProduct(rt, side, 1);
    const ms = await product.time();
    await product.close();
    if (ms > LONG_ENOUGH_MS) return side;
  }
  return SIDES.at(-1)!;
}

/** Best time of one matrix product by number of threads, taken in turns. */
async function timeProducts(rt: Runtime, counts: readonly number[]): Promise<Map<number, number>> {
  const side = await sideFor(rt);
  const products = await Promise.all(counts.map((threads) => openProduct(rt, side, threads)));
  const best = new Map(counts.map((threads) => [threads, Number.POSITIVE_INFINITY]));
  const start = performance.now();
  const most = Math.max(...counts);
  let spent = 0;
  while (spent < BUDGET_MS || (spent < PATIENCE_MS && chooseThreads(best) < most)) {
    for (const [i, product] of products.entries())
      best.set(counts[i]!, Math.min(await product.time(), best.get(counts[i]!)!));
    spent = performance.now() - start;
  }
  await Promise.all(products.map((product) => product.close()));
  return best;
}

/** `TWEEDIE_THREADS`, for who wants another number in all of a process. */
function demanded(): number | undefined {
  const text = process.env.TWEEDIE_THREADS;
  if (text === undefined || text === "") return undefined;
  const threads = Number(text);
  if (!(Number.isInteger(threads) && threads >= 1 && threads <= 256))
    throw new ArgumentError(`TWEEDIE_THREADS: expected a whole number from 1 to 256, got "${text}"`);
  return threads;
}

/** Decides once for a process; about 30 ms on two cores. */
export async function decideThreads(rt: Runtime): Promise<ThreadCount> {
  const usable = usableProcessors();
  const wanted = demanded();
  if (wanted !== undefined) return { threads: wanted, usable, milliseconds: new Map() };
  const counts = [...new Set([1, Math.ceil(usable / 2), usable])];
  if (usable === 1) return { threads: 1, usable, milliseconds: new Map() };
  const milliseconds = await timeProducts(rt, counts);
  return { threads: chooseThreads(milliseconds), usable, milliseconds };
}
