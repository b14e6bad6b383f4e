/** The core suite: single operations, and forward passes and training steps of small networks. */
import { cpus } from "node:os";
import { formatBytes } from "../src/tensor/index.ts";
import { CASES, type Case } from "./cases.ts";
import { better, type Measured, runOurs, runPython } from "./peer.ts";
import type { SuiteOptions, SuiteResult } from "./suite.ts";
import { THREADS, threadsAtWork } from "./threads.ts";

/** Ways in which PyTorch runs a case; the fastest is the peer. */
const MODES = ["eager", "channels_last", "compile"] as const;
type Mode = (typeof MODES)[number];

interface Row {
  readonly name: string;
  readonly seconds: number;
  readonly peer: string | null;
  readonly peerSeconds: number | null;
  /** The peer's time over ours: above 1 we are faster. */
  readonly ratio: number | null;
  readonly peakBytes: number;
  readonly peerPeakBytes: number | null;
  readonly gflops: number | null;
}

const ours = (index: number, seconds: number): Promise<Measured> =>
  runOurs("measure.ts", [String(index), String(seconds)], { threads: THREADS });

const theirs = (python: string, { name, peer }: Case, mode: Mode, seconds: number): Promise<Measured> =>
  runPython(python, "peers/torch_peer.py", {
    ...{ threads: THREADS, mode, cases: [{ name, ...peer, budget: seconds }] },
  });

/** What one convolution of PyTorch's (oneDNN) reaches here, in GFLOP/s: the machine's limit, as far as anybody has got. */
async function machineLimit(python: string | undefined, seconds: number): Promise<number | undefined> {
  if (!python) return undefined;
  const [n, channels, size] = [16, 256, 32];
  const peer = { kind: "conv", args: [n, channels, size, channels] };
  const { seconds: best } = await theirs(
    python,
    { name: "limit", peer } as unknown as Case,
    "channels_last",
    seconds,
  );
  return (2 * n * size * size * channels * channels * 9) / best / 1e9;
}

async function measureCase(
  index: number,
  python: string | undefined,
  seconds: number,
  rounds: number,
): Promise<Row & { version: string | undefined }> {
  const item = CASES[index]!;
  let [mine, peer]: [Measured | undefined, (Measured & { mode: Mode }) | undefined] = [undefined, undefined];
  for (let round = 0; round < rounds; round++) {
    mine = better(mine, await ours(index, seconds / rounds));
    for (const mode of python ? MODES : [])
      peer = better(peer, { ...(await theirs(python!, item, mode, seconds / rounds)), mode });
  }
  return {
    name: item.name,
    seconds: mine!.seconds,
    peer: peer?.mode ?? null,
    peerSeconds: peer?.seconds ?? null,
    ratio: peer ? peer.seconds / mine!.seconds : null,
    peakBytes: mine!.peakBytes,
    peerPeakBytes: peer?.peakBytes ?? null,
    gflops: mine!.flops ? mine!.flops / mine!.seconds / 1e9 : null,
    version: peer?.version,
  };
}

function table(
  rows: readonly Row[],
  version: string | undefined,
  atWork: string,
  limit: number | undefined,
): string {
  const ms = (s: number | null): string => (s === null ? "-" : (s * 1000).toFixed(2));
  const peak = limit ?? Math.max(...rows.map((r) => r.gflops ?? 0));
  const lines = rows.map((r) => {
    const memory = r.peerPeakBytes
      ? `${formatBytes(r.peakBytes)} / ${formatBytes(r.peerPeakBytes)}`
      : formatBytes(r.peakBytes);
    const share =
      r.gflops && peak ? `${r.gflops.toFixed(0)} (${((100 * r.gflops) / peak).toFixed(0)} %)` : "-";
    return `| ${r.name} | ${ms(r.seconds)} | ${ms(r.peerSeconds)} | ${r.peer ?? "-"} | ${r.ratio?.toFixed(2) ?? "-"} | ${share} | ${memory} |`;
  });
  return [
    "# Core benchmark",
    "",
    `Best time of each case; ratio = PyTorch's time over ours (above 1: Tweedie is faster). ${THREADS} threads, f32.`,
    "PyTorch runs each case eagerly, with channels last and compiled (torch.compile), in turns with ours; the fastest is the peer",
    "and named. Its AdamW is the fused one.",
    `GFLOP/s counts matrix products and convolutions only; in brackets the share of ${limit ? `the ${limit.toFixed(0)} that one large convolution of PyTorch's reaches here` : "the best row"}.`,
    "Peak memory is that of the whole process (ours / PyTorch's), runtime included.",
    atWork,
    "",
    `Measured on ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, Node ${process.version}, ${version ? `PyTorch ${version}` : "PyTorch absent"}.`,
    "Command: `npm run bench -- core`.",
    "",
    "| case | ours, ms | PyTorch, ms | by | ratio | GFLOP/s | peak memory |",
    "|---|--:|--:|---|--:|--:|--:|",
    ...lines,
    "",
  ].join("\n");
}

/** Runs the core suite. */
export async function coreSuite({ python, filter, seconds, rounds }: SuiteOptions): Promise<SuiteResult> {
  const atWork = await threadsAtWork(python);
  console.log(atWork);
  const limit = await machineLimit(python, seconds);
  const found: (Row & { version: string | undefined })[] = [];
  for (const [i, item] of CASES.entries()) {
    if (filter && !item.name.includes(filter)) continue;
    const row = await measureCase(i, python, seconds, rounds);
    found.push(row);
    console.log(
      `${row.name}: ${(row.seconds * 1000).toFixed(2)} ms${row.ratio ? `, ${row.ratio.toFixed(2)}x PyTorch's speed` : ""}`,
    );
  }
  return {
    rows: found.map(({ version: _, ...row }) => row),
    page: table(found, found.find((r) => r.version)?.version, atWork, limit),
  };
}
