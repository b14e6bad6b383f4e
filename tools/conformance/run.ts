/**
 * `npm run conformance -- [DIR …] [--verbose] [--json FILE]`: runs every case folder under DIR against the numbers of
 * the reference library that it holds. Without DIR: the cases of this repository, and those beside it where there are.
 * Exit status 1 when a case fails or cannot be run, 2 when there is nothing to run.
 */
import { existsSync, statSync } from "node:fs";
import { basename, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { TweedieError } from "../../src/errors.ts";
import { writeFileAtomic } from "../../src/io/index.ts";
import { type CaseFolder, findCases, type Kind, readCase, recognise } from "./cases.ts";
import type { Check } from "./compare.ts";
import { runLoopCase } from "./loop-case.ts";
import { runNetworkCase } from "./network-case.ts";
import { runRandomCase } from "./random-case.ts";
import { type CaseResult, caseReport, passed, summaryReport, toJson } from "./report.ts";
import { runTrainingCase } from "./training-case.ts";

const HELP = `Runs case folders of reference numbers (config.json, model.safetensors, expected.safetensors, expected.json).

  npm run conformance -- [DIR ...] [options]

  DIR          a folder of case folders, or one case (default: those of the repository)
  --verbose    gradient norms of all parameters, not only the worst
  --json FILE  all results as JSON
  --help       this text

Limits, relative to the reference's maximum: outputs 1e-4, gradients and their norms 1e-3, latents of a sampling loop
1e-3, losses and parameters of a training run 1e-4.`;

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const DEFAULTS = [here("../../test/fixtures/networks"), here("../../../shared/conformance")];

function run(kind: Kind, folder: CaseFolder, root: string): Promise<Check[]> {
  switch (kind) {
    case "random numbers":
      return runRandomCase(folder);
    case "ddim loop":
      return runLoopCase(folder, root);
    case "training":
      return runTrainingCase(folder, root);
    default:
      return runNetworkCase(kind, folder);
  }
}

/** Our own errors say what is wrong; anything else needs its stack. */
const reason = (error: unknown): string =>
  error instanceof TweedieError ? error.message : ((error as Error).stack ?? String(error));

/** One case, whatever happens to it. */
export async function runCase(path: string, root: string): Promise<CaseResult> {
  const started = performance.now();
  const name = relative(root, path) || basename(path);
  let kind: Kind | undefined;
  let checks: readonly Check[] = [];
  let error: string | undefined;
  try {
    const folder = await readCase(path);
    kind = recognise(folder);
    checks = await run(kind, folder, root);
    if (checks.length === 0) error = "nothing in expected.safetensors could be compared";
  } catch (thrown) {
    error = reason(thrown);
  }
  const seconds = (performance.now() - started) / 1000;
  return { name, path, ...(kind && { kind }), seconds, checks, ...(error !== undefined && { error }) };
}

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        verbose: { type: "boolean", default: false },
        json: { type: "string" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parse();
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const roots = positionals.length > 0 ? positionals.map((p) => resolve(p)) : DEFAULTS.filter(existsSync);
  const missing = roots.filter((root) => !statSync(root, { throwIfNoEntry: false })?.isDirectory());
  if (missing.length > 0) {
    console.error(`there is no folder ${missing.join(", ")}`);
    return 2;
  }
  const results: CaseResult[] = [];
  for (const root of roots) {
    for (const path of await findCases(root)) {
      const result = await runCase(path, root);
      results.push(result);
      console.log(`${caseReport(result, values.verbose)}\n`);
    }
  }
  if (values.json) await writeFileAtomic(values.json, Buffer.from(toJson(results)));
  if (results.length === 0) {
    console.error(
      `no case folder (one with expected.safetensors) under ${roots.join(", ") || DEFAULTS.join(", ")}`,
    );
    return 2;
  }
  console.log(summaryReport(results));
  return results.every(passed) ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await main();
