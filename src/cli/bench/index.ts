/** `tweedie bench`: times cases on this machine. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { AbortError } from "../../errors.ts";
import { writeFileAtomic } from "../../io/index.ts";
import { EXIT, Unsuccessful, UsageError } from "../errors.ts";
import { suggestion } from "../nearest.ts";
import { nodeFlags } from "../node-flags.ts";
import { readOptions } from "../options.ts";
import { parseArguments } from "../positionals.ts";
import { integerValue, numberValue } from "../values.ts";
import type { CheckoutRequest } from "./checkout.ts";
import { BENCH_OPTIONS, SUITES, type SuiteName } from "./options.ts";
import { benchSystems, measureSystem } from "./systems.ts";

const REPOSITORY_FILES = ["bench/run.ts", "src/cli/bench/checkout.ts", "node_modules/tsx/package.json"];

/** Root of the source repository that this file lies in, built or not. */
function checkout(): string | undefined {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const isRoot = REPOSITORY_FILES.every((file) => existsSync(join(folder, file)));
    if (isRoot && JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).name === "tweedie")
      return folder;
    if (dirname(folder) === folder) return undefined;
  }
}

/** Runs a suite of the repository in a process of its own, which prints its results. */
async function benchCheckout(request: CheckoutRequest): Promise<void> {
  const root = checkout();
  if (root === undefined)
    throw new UsageError(
      `bench ${request.suite}: its cases are in the source repository, and this is an installed package. In a checkout, after npm ci: npm run bench -- ${request.suite}. Here, tweedie bench systems measures the models that ship`,
    );
  const script = join(root, "src/cli/bench/checkout.ts");
  const child = spawn(process.execPath, [...nodeFlags(script), script, root, JSON.stringify(request)], {
    cwd: root,
    stdio: "inherit",
  });
  const ignore = (): void => undefined; // the child is told by the terminal as well, and ends
  process.on("SIGINT", ignore);
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  process.off("SIGINT", ignore);
  if (signal) throw new AbortError();
  if (code !== 0) throw new Unsuccessful(code ?? EXIT.defect);
}

function suiteOf(args: readonly string[]): SuiteName {
  const [word = "systems"] = readOptions(args, BENCH_OPTIONS).positionals;
  const suite = SUITES.find((name) => name === word);
  if (suite) return suite;
  throw new UsageError(
    `unknown benchmark "${word}"${suggestion(word, SUITES) || `; there are ${SUITES.join(", ")}`}`,
  );
}

/** Runs `tweedie bench`. */
export async function bench(args: readonly string[]): Promise<void> {
  const suite = suiteOf(args);
  const { text, flag } = parseArguments(args, BENCH_OPTIONS);
  const seconds = numberValue("seconds", text("seconds") ?? "6", { min: 0, max: 3600 });
  const rounds = integerValue("rounds", text("rounds") ?? "2", { min: 1, max: 100 });
  const [filter, name] = [text("filter"), text("case")];
  if (name !== undefined) return console.log(JSON.stringify(await measureSystem(name, seconds)));
  const file = text("json");
  const json = file === undefined ? undefined : resolve(file);
  if (json) await mkdir(dirname(json), { recursive: true });
  if (suite !== "systems")
    return benchCheckout({
      suite,
      seconds,
      rounds,
      peer: flag("peer"),
      ...(filter && { filter }),
      ...(json && { json }),
    });
  const rows = await benchSystems({ filter, seconds });
  if (json) await writeFileAtomic(json, Buffer.from(`${JSON.stringify(rows, null, 2)}\n`));
}
