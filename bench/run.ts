/**
 * `npm run bench -- [core|diffusion|data] [--json FILE] [--filter TEXT] [--seconds N] [--rounds N]`: times the cases of a
 * suite, and PyTorch (CPU) on the same cases when a Python with torch is found (TWEEDIE_PYTHON, or python3 on the
 * path), taking turns so that both see the same machine. Writes bench/results/SUITE.md, and rows for programs with
 * --json. `soak` instead of a suite: see `soak.ts`.
 */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { writeFileAtomic } from "../src/io/atomic.ts";
import { coreSuite } from "./core.ts";
import { dataSuite } from "./data.ts";
import { diffusionSuite } from "./diffusion.ts";
import { findTorch, path } from "./peer.ts";
import { soak } from "./soak.ts";
import type { SuiteOptions, SuiteResult } from "./suite.ts";

/** What was measured elsewhere or before stays at the end of the page. */
const EARLIER = "\n## Earlier\n";

async function writePage(file: string, page: string): Promise<void> {
  const [, earlier] = (await readFile(file, "utf8").catch(() => "")).split(EARLIER);
  await writeFileAtomic(file, Buffer.from(earlier ? `${page}${EARLIER}${earlier}` : page));
}

const SUITES: Readonly<Record<string, (options: SuiteOptions) => Promise<SuiteResult>>> = {
  core: coreSuite,
  data: dataSuite,
  diffusion: diffusionSuite,
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "string" },
    filter: { type: "string" },
    seconds: { type: "string", default: "6" },
    rounds: { type: "string", default: "2" },
    minutes: { type: "string", default: "10" },
  },
});
const name = positionals[0] ?? "core";
if (name === "soak") process.exit((await soak(Number(values.minutes))) ? 0 : 1);
const suite = SUITES[name];
if (!suite) {
  console.error(`unknown benchmark "${name}"; there are: ${[...Object.keys(SUITES), "soak"].join(", ")}`);
  process.exit(2);
}
const { rows, page } = await suite({
  python: await findTorch(),
  filter: values.filter,
  seconds: Number(values.seconds),
  rounds: Number(values.rounds),
});
if (!values.filter) await writePage(path(`results/${name}.md`), page);
if (values.json) await writeFileAtomic(values.json, Buffer.from(`${JSON.stringify(rows, null, 2)}\n`));
