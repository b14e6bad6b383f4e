/** How many threads a benchmark gives both sides, and how many of them really work. */
import { sessionThreads } from "../src/tensor/index.ts";
import { CASES } from "./cases.ts";
import { type Measured, runOurs, runPython } from "./peer.ts";

/** Threads that both sides use: what our sessions decide for this machine. */
export const { threads: THREADS } = await sessionThreads();

/** Seconds of timing for each number of threads. */
const BUDGET = 1;

const PRODUCT = CASES.findIndex(({ name }) => name === "matmul 1024x1024x1024");

const speedUp = ([one, all]: readonly Measured[]): string =>
  `${(one!.seconds * 1e3).toFixed(1)} and ${(all!.seconds * 1e3).toFixed(1)} ms (${(one!.seconds / all!.seconds).toFixed(2)} times as fast)`;

/** A sentence: the time of one product with one thread and with all, on both sides. Says so when threads lie idle. */
export async function threadsAtWork(python: string | undefined): Promise<string> {
  const ours: Measured[] = [];
  const theirs: Measured[] = [];
  for (const threads of [1, THREADS]) {
    ours.push(await runOurs<Measured>("measure.ts", [String(PRODUCT), String(BUDGET)], { threads }));
    const item = { name: "threads", ...CASES[PRODUCT]!.peer, budget: BUDGET };
    if (python) theirs.push(await runPython(python, "peers/torch_peer.py", { threads, cases: [item] }));
  }
  const peer = python ? `, PyTorch ${speedUp(theirs)}` : "";
  return `Threads at work: one 1024³ product with one thread and with ${THREADS} takes us ${speedUp(ours)}${peer}.`;
}
