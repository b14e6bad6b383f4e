/**
 * Runs a suite of the repository's `bench/`: `tsx checkout.ts ROOT REQUEST`, with the request in JSON. A process of its
 * own, because the cases are sources that the package does not hold, and the command may be a built one.
 */
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { writeFileAtomic } from "../../io/index.ts";
import { EXIT } from "../errors.ts";
import type { SuiteName } from "./options.ts";

/** What a suite is asked for. */
export interface CheckoutRequest {
  readonly suite: SuiteName;
  readonly filter?: string;
  readonly seconds: number;
  readonly rounds: number;
  readonly peer: boolean;
  /** File for the rows. */
  readonly json?: string;
}

type Suite = (options: {
  readonly python: string | undefined;
  readonly filter: string | undefined;
  readonly seconds: number;
  readonly rounds: number;
}) => Promise<{ readonly rows: readonly object[] }>;

async function main(root: string, request: CheckoutRequest): Promise<void> {
  const load = (name: string) => import(pathToFileURL(join(root, "bench", `${name}.ts`)).href);
  const { suite, filter, seconds, rounds, peer, json } = request;
  const run: Suite = (await load(suite))[`${suite}Suite`];
  const python: string | undefined = peer ? await (await load("peer")).findTorch() : undefined;
  const { rows } = await run({ python, filter, seconds, rounds });
  if (rows.length === 0) {
    console.error(`tweedie: --filter ${filter}: no such case in ${suite}`);
    process.exitCode = EXIT.badInput;
  }
  if (json) await writeFileAtomic(json, Buffer.from(`${JSON.stringify(rows, null, 2)}\n`));
}

if (process.argv[1]?.endsWith("checkout.ts")) await main(process.argv[2]!, JSON.parse(process.argv[3]!));
