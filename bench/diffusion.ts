/** The diffusion suite: networks with the same weights here and in PyTorch, in the same run, their results compared. */
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { writeSafetensors } from "../src/io/index.ts";
import { formatBytes, type Tensor } from "../src/tensor/index.ts";
import {
  countParameters,
  DIFFUSION_CASES,
  type DiffusionCase,
  readInputs,
  writeWeights,
} from "./diffusion-cases.ts";
import type { MeasureRequest } from "./diffusion-measure.ts";
import { better, type Measured, runOurs, runPython } from "./peer.ts";
import type { SuiteOptions, SuiteResult } from "./suite.ts";
import { THREADS, threadsAtWork } from "./threads.ts";

/** Largest difference of the two results, relative to the largest value, at which they are the same. */
const SAME = 1e-3;

type Ours = Measured & { readonly firstSeconds: number };

interface Row {
  readonly name: string;
  readonly unit: string;
  readonly parameters: number;
  readonly seconds: number;
  /** From the start of loading to the first result, compilation included. */
  readonly firstSeconds: number;
  readonly peakBytes: number;
  readonly peer: string | null;
  readonly peerSeconds: number | null;
  readonly peerPeakBytes: number | null;
  /** The peer's time over ours: above 1 we are faster. */
  readonly ratio: number | null;
  /** Largest difference of the two results, relative to the largest value. */
  readonly difference: number | null;
}

const outputOf = async (path: string): Promise<number[]> =>
  ((await readInputs(path)).output as Tensor).toArray();

async function difference(ours: string, theirs: string): Promise<number> {
  const [a, b] = [await outputOf(ours), await outputOf(theirs)];
  if (a.length !== b.length) return Number.NaN;
  let [error, size] = [0, 0];
  for (const [i, v] of b.entries()) {
    error = Math.max(error, Math.abs(a[i]! - v));
    size = Math.max(size, Math.abs(v));
  }
  return error / size;
}

async function writeInputs(path: string, item: DiffusionCase): Promise<void> {
  const entries = Object.entries(item.inputs()).map(
    async ([name, t]) => [name, { dtype: t.dtype, shape: t.shape, data: await t.data() }] as const,
  );
  await writeSafetensors(path, Object.fromEntries(await Promise.all(entries)));
}

async function measureCase(index: number, folder: string, options: SuiteOptions): Promise<Row> {
  const item = DIFFUSION_CASES[index]!;
  const file = (name: string): string => join(folder, `${index}-${name}.safetensors`);
  const [weights, inputs] = [file("weights"), file("inputs")];
  await writeWeights(weights, item);
  await writeInputs(inputs, item);
  const budget = options.seconds / options.rounds;
  let [mine, peer]: [Ours | undefined, Measured | undefined] = [undefined, undefined];
  for (let round = 0; round < options.rounds; round++) {
    const request: MeasureRequest = { index, weights, inputs, output: file("ours"), budget };
    mine = better(
      mine,
      await runOurs<Ours>("diffusion-measure.ts", [JSON.stringify(request)], { threads: THREADS }),
    );
    if (!options.python || !item.peer) continue;
    const theirs = { threads: THREADS, case: item.peer, weights, inputs, output: file("peer"), budget };
    const passive = round % 2 === 0; // builds differ in what suits them: the better one counts
    peer = better(peer, await runPython(options.python, "peers/diffusion_peer.py", theirs, { passive }));
  }
  const error = peer ? await difference(file("ours"), file("peer")) : null;
  if (error !== null && !(error <= SAME))
    throw new Error(`${item.name}: results differ by ${error}; both sides must compute the same`);
  await rm(weights);
  return {
    name: item.name,
    unit: item.unit,
    parameters: countParameters(item),
    seconds: mine!.seconds,
    firstSeconds: mine!.firstSeconds,
    peakBytes: mine!.peakBytes,
    peer: peer ? `PyTorch ${peer.version}` : null,
    peerSeconds: peer?.seconds ?? null,
    peerPeakBytes: peer?.peakBytes ?? null,
    ratio: peer ? peer.seconds / mine!.seconds : null,
    difference: error,
  };
}

const seconds = (s: number | null): string => (s === null ? "-" : s < 10 ? s.toFixed(3) : s.toFixed(1));

function page(rows: readonly Row[], atWork: string): string {
  const peer = rows.find((r) => r.peer)?.peer ?? "PyTorch absent: set TWEEDIE_PYTHON to a Python that has it";
  const lines = rows.map((r) => {
    const memory = `${formatBytes(r.peakBytes)} / ${r.peerPeakBytes ? formatBytes(r.peerPeakBytes) : "-"}`;
    const same = r.difference === null ? "-" : r.difference.toExponential(0);
    return `| ${r.name} (s per ${r.unit}) | ${seconds(r.seconds)} | ${seconds(r.peerSeconds)} | ${r.ratio?.toFixed(2) ?? "-"} | ${memory} | ${seconds(r.firstSeconds)} | ${same} |`;
  });
  return [
    "# Diffusion benchmark",
    "",
    `Best times; ratio = PyTorch's time over ours (above 1: Tweedie is faster). ${THREADS} threads, computed in f32, PyTorch eager.`,
    "Both sides read the same file of random weights. Peak memory is that of the whole process (ours / PyTorch's),",
    "runtime and weights included. The first result includes loading and compiling. The difference is that of the two",
    `results, relative to the largest value; above ${SAME} the benchmark fails.`,
    atWork,
    "",
    `Measured on ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, Node ${process.version}, ${peer}.`,
    `Programs that wanted to run meanwhile, these included: ${loadavg()[2]!.toFixed(1)} on ${cpus().length} cores (above ${cpus().length}, times are too long on both sides).`,
    "Command: `npm run bench -- diffusion`.",
    "",
    "| case | ours, s | PyTorch, s | ratio | peak memory | first result, s | difference |",
    "|---|--:|--:|--:|--:|--:|--:|",
    ...lines,
    "",
  ].join("\n");
}

/** Runs the diffusion suite. */
export async function diffusionSuite(options: SuiteOptions): Promise<SuiteResult> {
  const folder = await mkdtemp(join(tmpdir(), "tweedie-bench-"));
  const rows: Row[] = [];
  const atWork = await threadsAtWork(options.python);
  console.log(atWork);
  try {
    for (const [i, item] of DIFFUSION_CASES.entries()) {
      if (options.filter && !item.name.includes(options.filter)) continue;
      const row = await measureCase(i, folder, options);
      rows.push(row);
      const against = row.ratio ? `, ${row.ratio.toFixed(2)}x PyTorch's speed` : "";
      console.log(
        `${row.name}: ${seconds(row.seconds)} s per ${row.unit}, ${formatBytes(row.peakBytes)}${against}`,
      );
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return { rows, page: page(rows, atWork) };
}
