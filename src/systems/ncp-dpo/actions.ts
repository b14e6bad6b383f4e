/** What `train`, `run` and `evaluate` do. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ArgumentError, FormatError } from "../../errors.ts";
import type { Picture } from "../../io/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { drawPrompts } from "../../training/index.ts";
import { told, type Work } from "../../work.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { heldOutCaptions } from "./cells.ts";
import { makePairs, scoredPictures } from "./make-pairs.ts";
import { saveLora } from "./model.ts";
import type { EvaluateActionOptions, RunActionOptions, TrainActionOptions } from "./options.ts";
import {
  type Comparison,
  comparisonsOfFolders,
  type PairSet,
  pairsOf,
  readComparisons,
  selected,
  writePairs,
} from "./pairs.ts";
import { scorerNamed } from "./scorers.ts";
import { compared } from "./scores.ts";
import { type Adapters, freshPolicy, type TrainSettings, training, trainPreferences } from "./train.ts";
import { aligned, drawn, openBase } from "./use.ts";

/** Lines of a text that say something. */
const linesOf = (text: string): string[] =>
  text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter(Boolean);

async function promptsOf(file: string | undefined, n: number): Promise<string[]> {
  if (file === undefined) return heldOutCaptions(n);
  const prompts = linesOf(
    await readFile(file, "utf8").catch((cause) => {
      throw new ArgumentError(`${file}: cannot be read (${(cause as NodeJS.ErrnoException).code})`, {
        cause,
      });
    }),
  );
  if (prompts.length === 0) throw new FormatError(`${file}: no prompts; expected one per line`);
  return prompts.slice(0, n);
}

const SOURCES = ["pairs", "winners", "prompts"] as const;

/** The answers that a training is given, drawn where there are only prompts. */
async function* comparisonsOf(
  components: PipelineComponents,
  options: TrainActionOptions,
  signal: AbortSignal | undefined,
): Work<Comparison[]> {
  const given = SOURCES.filter((name) => options[name] !== undefined);
  if (given.length !== 1)
    throw new ArgumentError(
      `ncp-dpo: expected pairs from one of --pairs, --winners with --losers, or --prompts; got ${given.length === 0 ? "none" : given.map((name) => `--${name}`).join(" and ")}`,
    );
  const { pairs, winners, losers, prompts, scorer, noisy, seed, threads } = options;
  if (pairs !== undefined) return readComparisons(pairs);
  if (winners !== undefined) {
    if (losers === undefined) throw new ArgumentError("ncp-dpo: --winners needs --losers");
    return comparisonsOfFolders(winners, losers);
  }
  return yield* makePairs(components, {
    ...{ prompts: await promptsOf(prompts, Number.POSITIVE_INFINITY), scorer: await scorerNamed(scorer) },
    ...{ guidances: [1, 1.5, 2, 3], steps: components.defaults?.steps ?? 20, kind: noisy ? "noisy" : "best" },
    ...{ sharpness: 4, seed, threads, signal },
  });
}

function* said({ pairs, ties, missing }: PairSet) {
  yield {
    type: "message" as const,
    text: `${pairs.length} pairs of ${new Set(pairs.map(({ prompt }) => prompt)).size} prompts${ties > 0 ? `; ${ties} ties are passed over` : ""}`,
  };
  if (missing.length > 0)
    yield {
      type: "warning" as const,
      text: `${missing.length} pictures are not there, and their pairs are left out: ${missing.slice(0, 10).join(", ")}${missing.length > 10 ? " …" : ""}`,
    };
}

const settingsOf = (options: TrainActionOptions): TrainSettings => {
  const { space, loss, lambda, kappa, tap, encoder, course, pooled, balanced, rank, steps, batch, ...rest } =
    options;
  const { accumulate, recompute, learningRate, warmup, flip, seed, beta, alpha } = rest;
  return training({
    ...{ space, loss, lambda, kappa, tap, encoder, course, pooled, balanced, rank, steps, batch },
    ...{ accumulate, recompute, warmup, flip, seed },
    ...(learningRate !== undefined && { learningRate }),
    ...(beta !== undefined && { beta }),
    alpha: alpha ?? rank,
  });
};

/** Prompts whose pictures show what a training has done. */
const SHOWN = 6;

/** A LoRA's pictures beside those of the model without it. */
async function* besideReference(
  components: PipelineComponents,
  lora: string,
  prompts: readonly string[],
  context: {
    readonly seed: number;
    readonly threads?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  },
): Work<void> {
  const { seed, threads, signal } = context;
  const how = { threads, signal };
  const before = yield* drawn(components, prompts, [seed], how, "before");
  const after = yield* drawn(await aligned(components, lora), prompts, [seed], how, "after");
  yield {
    ...{ type: "figure", name: "before and after", caption: "The same prompts and seeds before and after" },
    ...{
      pictures: before.flatMap((one, i) => [one, after[i]!]),
      columns: ["before", "after"],
      rows: [...prompts],
    },
    scale: scaleOf(before),
  };
}

const scaleOf = ([first]: readonly Picture[]): number => Math.max(1, Math.round(96 / first!.width));

/** Captions of the shape world where that is what the pairs are about, else their own prompts. */
async function freshPrompts(pairs: readonly { readonly prompt: string }[]): Promise<string[]> {
  const own = [...new Set(pairs.map(({ prompt }) => prompt))];
  const captions = await heldOutCaptions(64);
  const words = new Set(captions.flatMap((caption) => caption.split(" ")));
  const ofWorld = own.every((prompt) => prompt.split(" ").every((word) => words.has(word)));
  return (ofWorld ? captions.filter((caption) => !own.includes(caption)) : own).slice(0, SHOWN);
}

/** Trains a LoRA, and writes it under the names of diffusers. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { model, select, out, seed, threads } = options;
  const settings = settingsOf(options);
  await mkdir(out, { recursive: true });
  const components = await openBase(model, signal);
  const comparisons = yield* comparisonsOf(components, options, signal);
  const set = await pairsOf(selected(comparisons, select), options.pairs ?? options.winners ?? "pairs");
  yield* said(set);
  const last: Record<string, number> = {};
  const run = trainPreferences({
    stage: "train",
    components,
    pairs: set.pairs,
    settings,
    folder: join(out, "train"),
    threads,
    signal,
  });
  const { final } = yield* told(run, (event) => {
    if (event.type === "metrics") Object.assign(last, event.values);
    return event;
  });
  const path = join(out, "lora.safetensors");
  const about = `${settings.steps} steps of ${settings.batch} of ${set.pairs.length} pairs, ${settings.loss} in ${settings.space}, seed ${seed}`;
  await saveLora(path, freshPolicy(components, settings), final as Adapters, { training: about });
  yield { type: "file", path, about: "the LoRA, under the names of diffusers" };
  yield { type: "file", path: join(out, "train", "report.html"), about: "curves" };
  if (options.winners === undefined) {
    const kept = join(out, "pairs.jsonl");
    await writePairs(kept, set.pairs);
    yield { type: "file", path: kept, about: "the pairs with their pictures, to train on again" };
  }
  if (previews)
    yield* besideReference(components, path, await freshPrompts(set.pairs), { seed, threads, signal });
  const { loss = Number.NaN, "implicit accuracy": accuracy } = last;
  return {
    summary: `Trained: ${about}. Last loss ${loss.toPrecision(4)}${accuracy === undefined ? "" : `, implicit accuracy ${accuracy.toFixed(2)}`}.`,
    metrics: { loss, pairs: set.pairs.length, ties: set.ties, missing: set.missing.length },
  };
}

/** Strengths of the LoRA that `scales` shows. */
const SCALES = [0, 0.25, 0.5, 0.75, 1];

/** Draws with and without a LoRA. */
export async function* runAction(options: RunActionOptions, { signal }: ActionContext): Work<ActionResult> {
  const { prompt, mode, model, lora, scale, count, steps, guidance, seed, threads } = options;
  const components = await openBase(model, signal);
  const given = linesOf(prompt ?? "");
  const prompts = given.length > 0 ? given : await heldOutCaptions(mode === "pairs" ? 12 : 1);
  const how = { steps, guidance, threads, signal };
  const seeds = Array.from({ length: mode === "pairs" ? 2 * count : count }, (_, i) => seed + i);
  if (mode === "pairs") {
    const rows = prompts.flatMap((one) => Array.from({ length: count }, () => one));
    const pictures = yield* drawn(components, prompts, seeds, how);
    yield {
      ...{ type: "figure", name: "pairs", caption: "Which one is better?", pictures },
      ...{ columns: ["one", "other"], rows },
    };
    return { summary: `Drew ${rows.length} pairs.` };
  }
  const strengths = mode === "scales" ? SCALES.map((share) => share * scale) : [0, scale];
  const columns: Picture[][] = [];
  for (const strength of strengths) {
    const own = strength === 0 ? components : await aligned(components, lora, strength);
    columns.push(
      yield* drawn(own, prompts, seeds, how, strength === 0 ? "reference" : `LoRA at ${strength}`),
    );
  }
  const rows = prompts.flatMap((one) => seeds.map((own) => `${one}, seed ${own}`));
  const headings = strengths.map((strength) =>
    strength === 0 ? "reference" : mode === "compare" ? lora : String(strength),
  );
  yield {
    ...{ type: "figure", name: "side by side", caption: "The same seeds without and with the LoRA", rows },
    ...{
      pictures: rows.flatMap((_, i) => columns.map((column) => column[i]!)),
      columns: headings,
      scale: scaleOf(columns[0]!),
    },
  };
  return { summary: `Drew ${rows.length} pictures with and without the LoRA "${lora}".` };
}

/** Compares a LoRA with its base by a scorer. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): Work<ActionResult> {
  const { lora, scale, model, prompts: file, limit, scorer: name, steps, guidance, seed, threads } = options;
  const components = await openBase(model, signal);
  const [prompts, scorer] = [await promptsOf(file, limit), await scorerNamed(name)];
  const how = { steps, guidance, seed, threads, signal };
  const scoresOf = async function* (one: PipelineComponents): Work<readonly number[]> {
    return scorer.score(await scoredPictures(yield* drawPrompts(one, prompts, how)), prompts);
  };
  const before = yield* scoresOf(components);
  const after = yield* scoresOf(await aligned(components, lora, scale));
  const found = compared(after, before);
  const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  yield {
    type: "table",
    title: `${prompts.length} prompts, scored by ${scorer.name}`,
    table: {
      columns: ["measure", "with the LoRA", "nothing changed"],
      rows: [
        ["share of prompts that are better (ties half)", found.winRate, 0.5],
        ["better by a quarter deviation, less those that are worse", found.netMarginWin, 0],
        ["mean score", mean(after), mean(before)],
      ],
    },
  };
  return {
    summary: `${(100 * found.winRate).toFixed(1)} % of ${prompts.length} prompts are better with the LoRA, by ${scorer.name}; mean score ${mean(before).toFixed(3)} to ${mean(after).toFixed(3)}.`,
    metrics: { ...found, prompts: prompts.length },
  };
}
