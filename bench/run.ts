/**
 * `npm run bench -- [core] [--json FILE] [--filter TEXT] [--seconds N]`: times the cases, and PyTorch (CPU) on the same
 * cases when a Python with torch is found (TWEEDIE_PYTHON, or python3 on the path), taking turns so that both see the
 * same machine. Writes bench/results/core.md, and rows for programs with --json.
 */
import { execFile, spawn } from "node:child_process";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { writeFileAtomic } from "../src/io/atomic.ts";
import { formatBytes } from "../src/tensor/index.ts";
import { CASES, type Case } from "./cases.ts";

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const THREADS = Math.min(2, cpus().length);

interface Measured {
  readonly seconds: number;
  readonly peakBytes: number;
  readonly flops?: number;
  readonly version?: string;
}
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

async function ours(index: number, seconds: number): Promise<Measured> {
  const args = ["--import", "tsx", path("measure.ts"), String(index), String(seconds)];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

async function theirs(python: string, { name, peer }: Case, seconds: number): Promise<Measured> {
  const child = spawn(python, [path("peers/torch_peer.py")], { stdio: ["pipe", "pipe", "inherit"] });
  child.stdin.end(JSON.stringify({ threads: THREADS, cases: [{ name, ...peer, budget: seconds }] }));
  let text = "";
  for await (const chunk of child.stdout) text += chunk;
  return JSON.parse(text);
}

async function findTorch(): Promise<string | undefined> {
  for (const python of [process.env.TWEEDIE_PYTHON, "python3"]) {
    if (!python) continue;
    const found = await promisify(execFile)(python, ["-c", "import torch"]).then(
      () => true,
      () => false,
    );
    if (found) return python;
  }
  return undefined;
}

const better = (a: Measured | undefined, b: Measured): Measured =>
  a && a.seconds <= b.seconds ? { ...a, peakBytes: Math.min(a.peakBytes, b.peakBytes) } : b;

async function measureCase(
  index: number,
  python: string | undefined,
  seconds: number,
  rounds: number,
): Promise<Row & { version: string | undefined }> {
  const item = CASES[index]!;
  let [mine, peer]: [Measured | undefined, Measured | undefined] = [undefined, undefined];
  for (let round = 0; round < rounds; round++) {
    mine = better(mine, await ours(index, seconds / rounds));
    if (python) peer = better(peer, await theirs(python, item, seconds / rounds));
  }
  return {
    name: item.name,
    seconds: mine!.seconds,
    peer: peer ? "PyTorch" : null,
    peerSeconds: peer?.seconds ?? null,
    ratio: peer ? peer.seconds / mine!.seconds : null,
    peakBytes: mine!.peakBytes,
    peerPeakBytes: peer?.peakBytes ?? null,
    gflops: mine!.flops ? mine!.flops / mine!.seconds / 1e9 : null,
    version: peer?.version,
  };
}

function table(rows: readonly Row[], version: string | undefined): string {
  const ms = (s: number | null): string => (s === null ? "-" : (s * 1000).toFixed(2));
  const peak = Math.max(...rows.filter((r) => r.name.startsWith("matmul")).map((r) => r.gflops ?? 0));
  const lines = rows.map((r) => {
    const memory = r.peerPeakBytes
      ? `${formatBytes(r.peakBytes)} / ${formatBytes(r.peerPeakBytes)}`
      : formatBytes(r.peakBytes);
    const share =
      r.gflops && peak ? `${r.gflops.toFixed(0)} (${((100 * r.gflops) / peak).toFixed(0)} %)` : "-";
    return `| ${r.name} | ${ms(r.seconds)} | ${ms(r.peerSeconds)} | ${r.ratio?.toFixed(2) ?? "-"} | ${share} | ${memory} |`;
  });
  return [
    "# Core benchmark",
    "",
    `Best time of each case; ratio = PyTorch's time over ours (above 1: Tweedie is faster). ${THREADS} threads, f32.`,
    `GFLOP/s counts matrix products and convolutions only; in brackets the share of what one 1024³ product reaches here.`,
    "Peak memory is that of the whole process (ours / PyTorch's), runtime included.",
    "",
    `Measured on ${new Date().toISOString().slice(0, 10)}, ${cpus()[0]?.model.trim()}, Node ${process.version}, ${version ? `PyTorch ${version}` : "PyTorch absent"}.`,
    "Command: `npm run bench -- core`.",
    "",
    "| case | ours, ms | PyTorch, ms | ratio | GFLOP/s | peak memory |",
    "|---|--:|--:|--:|--:|--:|",
    ...lines,
    "",
  ].join("\n");
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    filter: { type: "string" },
    seconds: { type: "string", default: "6" },
    rounds: { type: "string", default: "2" },
  },
});
const suite = positionals[0] ?? "core";
if (suite !== "core") {
  console.error(`unknown benchmark "${suite}"; there is: core`);
  process.exit(2);
}
const python = await findTorch();
if (!python) console.error("PyTorch not found: set TWEEDIE_PYTHON to a Python that has it, to compare");
const rows: (Row & { version: string | undefined })[] = [];
for (const [i, item] of CASES.entries()) {
  if (values.filter && !item.name.includes(values.filter)) continue;
  const row = await measureCase(i, python, Number(values.seconds), Number(values.rounds));
  rows.push(row);
  console.log(
    `${row.name}: ${(row.seconds * 1000).toFixed(2)} ms${row.ratio ? `, ${row.ratio.toFixed(2)}x PyTorch's speed` : ""}`,
  );
}
if (!values.filter)
  await writeFileAtomic(
    path("results/core.md"),
    Buffer.from(table(rows, rows.find((r) => r.version)?.version)),
  );
if (values.json)
  await writeFileAtomic(
    values.json,
    Buffer.from(
      `${JSON.stringify(
        rows.map(({ version: _, ...row }) => row),
        null,
        2,
      )}\n`,
    ),
  );
