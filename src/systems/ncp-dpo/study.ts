/** The study of NCP-DPO: what is asked for, and the page that says what came of it. */
import { join } from "node:path";
import { openFeatureNetwork } from "../../metrics/index.ts";
import { lineChart } from "../../report/index.ts";
import {
  fileFingerprint,
  judged,
  type Made,
  mean,
  numberText,
  type Study,
  tableOf,
} from "../../study/index.ts";
import type { Chart, Table, Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { type Reproduction, reproducing, type StudyPage } from "../reproduce.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext } from "../system.ts";
import { ARM_NAMES, ARMS, type Arm, type ArmName, passesOf, sweepOf } from "./arms.ts";
import {
  armCell,
  type Bench,
  type CandidateFile,
  candidatesCell,
  heldOutCaptions,
  type Scores,
  scoresCell,
  settingsOf,
  TEST_FROM,
  type Trajectory,
} from "./cells.ts";
import { BASE, type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { bestOf, type Curve, type Found, netWins, RULES } from "./rules.ts";
import { compared, marginOf } from "./scores.ts";
import { openBase } from "./use.ts";

/** Steps at which an arm is measured, as shares of its training. */
const SHARES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1];
/** Arms that noisy pairs are tried with. */
const NOISY: readonly ArmName[] = ["latent-dpo", "ncp-dpo"];

const measuredAt = (steps: number): number[] => [
  ...new Set(SHARES.map((share) => Math.max(1, Math.round(share * steps)))),
];

/** The settings of an arm that did best on validation prompts, each trained shortly. */
async function* swept(
  study: Study,
  bench: Bench,
  name: ArmName,
  candidates: Made<CandidateFile>,
  options: ReproduceActionOptions,
): Work<Arm> {
  const arm: Arm = ARMS[name];
  if (!options.sweep) return arm;
  const { sweepSteps: steps, batch, validation } = options;
  const prompts = await heldOutCaptions(validation);
  const reference = yield* scoresCell(study, bench, "reference, validation", undefined, prompts);
  const tried: { cell: Partial<Arm>; value: number }[] = [];
  for (const cell of sweepOf(arm)) {
    const settings = settingsOf({ ...arm, ...cell }, { steps, batch, seed: 0 });
    const label = `sweep ${name} rate ${cell.learningRate}${cell.beta === undefined ? "" : ` beta ${cell.beta}`}`;
    const made = yield* armCell(study, bench, label, settings, [steps], "best", candidates);
    const { value } = yield* scoresCell(
      study,
      bench,
      `${label}, scores`,
      { made, step: steps, rank: settings.rank },
      prompts,
    );
    tried.push({ cell, value: compared(value.colours, reference.value.colours).netMarginWin });
  }
  const best = tried.reduce((a, b) => (b.value > a.value ? b : a));
  return { ...arm, ...best.cell };
}

/** An arm's scores at all steps and seeds. */
async function* curveOf(
  study: Study,
  bench: Bench,
  label: string,
  arm: Arm,
  kind: "best" | "noisy",
  candidates: Made<CandidateFile>,
  prompts: readonly string[],
  options: ReproduceActionOptions,
): Work<Curve | undefined> {
  const { steps, batch, seeds } = options;
  const at = measuredAt(steps);
  const curve: Record<string, Scores[]> = {};
  const own = study.share(Array.from({ length: kind === "noisy" ? 1 : seeds }, (_, i) => i));
  for (const seed of own) {
    const settings = settingsOf(arm, { steps, batch, seed });
    const made: Made<Trajectory> = yield* armCell(
      study,
      bench,
      `${label} seed ${seed}`,
      settings,
      at,
      kind,
      candidates,
    );
    for (const step of at) {
      const cell = `${label} seed ${seed} step ${step}, scores`;
      const { value } = yield* scoresCell(study, bench, cell, { made, step, rank: settings.rank }, prompts);
      (curve[String(step)] ??= []).push(value);
    }
  }
  return own.length > 0 ? curve : undefined;
}

/** What was asked, with the settings that the sweep has chosen. */
interface Asked {
  readonly found: Found;
  readonly chosen: Readonly<Partial<Record<ArmName, Arm>>>;
}

async function* ask(study: Study, options: ReproduceActionOptions, { signal }: ActionContext): Work<Asked> {
  const arms = namesAmong(options.arms, ARM_NAMES, "arm");
  const judgePath = await shippedFile("checkpoints/shapes-features.safetensors");
  const bench: Bench = {
    components: await openBase(undefined, signal),
    base: await fileFingerprint(join(await shippedFile(BASE), "unet", "diffusion_pytorch_model.safetensors")),
    judge: await fileFingerprint(judgePath),
    network: (await openFeatureNetwork(judgePath, "shapes-features")).network,
    ...{ drawSteps: options.drawSteps, threads: options.threads, signal },
  };
  const candidates = yield* candidatesCell(study, bench, options.prompts);
  const prompts = await heldOutCaptions(options.test, TEST_FROM);
  const reference = yield* scoresCell(study, bench, "reference, scores", undefined, prompts);
  const [curves, noisy, chosen]: [
    Partial<Record<ArmName, Curve>>,
    Partial<Record<ArmName, Curve>>,
    Partial<Record<ArmName, Arm>>,
  ] = [{}, {}, {}];
  for (const name of arms) {
    const arm = yield* swept(study, bench, name, candidates, options);
    chosen[name] = arm;
    const curve = yield* curveOf(study, bench, name, arm, "best", candidates, prompts, options);
    if (curve) curves[name] = curve;
    if (!options.noisy || !NOISY.includes(name)) continue;
    const other = yield* curveOf(
      study,
      bench,
      `${name}, noisy pairs`,
      arm,
      "noisy",
      candidates,
      prompts,
      options,
    );
    if (other) noisy[name] = other;
  }
  return { found: { reference: reference.value, arms: curves, noisy }, chosen };
}

interface Line {
  readonly arm: Arm;
  readonly step: number;
  readonly scores: readonly Scores[];
}

const linesOf = (curves: Found["arms"], chosen: Asked["chosen"], suffix = ""): [string, Line][] =>
  Object.entries(curves).flatMap(([name, curve]) =>
    Object.entries(curve).map(([step, scores]): [string, Line] => [
      `${name}${suffix}, ${step} steps`,
      { arm: chosen[name as ArmName] ?? ARMS[name as ArmName], step: Number(step), scores },
    ]),
  );

/** Everything that was measured, step by step. */
function scoreTable({ found, chosen }: Asked): Table | undefined {
  const { reference } = found;
  if (!reference) return undefined;
  const margin = marginOf(reference.colours);
  const over =
    (of: (scores: Scores) => number) =>
    ({ scores }: Line): number =>
      Number(mean(scores.map(of)).toFixed(4));
  const rows: [string, Line][] = [
    ["reference", { arm: ARMS.sft, step: 0, scores: [reference] }],
    ...linesOf(found.arms, chosen),
    ...linesOf(found.noisy, chosen, " on noisy pairs"),
  ];
  return tableOf("arm", new Map(rows), {
    "passes of the U-Net for a pair": ({ arm, step }) => Number((step * passesOf(arm)).toFixed(0)),
    "win rate": over((s) => compared(s.colours, reference.colours).winRate),
    "mean gain": over((s) => compared(s.colours, reference.colours).meanGain),
    "net margin win": over((s) => compared(s.colours, reference.colours, margin).netMarginWin),
    "captions, second judge": over((s) => mean(s.captions)),
    "Fréchet distance": over((s) => s.frechet),
    seeds: ({ scores }) => scores.length,
  });
}

const armTable = ({ chosen }: Asked): Table =>
  tableOf("arm", new Map(Object.entries(chosen)), {
    what: ({ about }) => about,
    "learning rate": ({ learningRate }) => learningRate,
    beta: ({ beta }) => beta,
    "passes for a pair": (arm) => Number(passesOf(arm).toFixed(2)),
  });

/** Net margin win against arithmetic. */
function chartOf({ found }: Asked): Chart {
  const series = Object.entries(found.arms).map(([name, curve]) => {
    const steps = Object.keys(curve).map(Number);
    return {
      name,
      x: [0, ...steps.map((step) => step * passesOf(ARMS[name as ArmName]))],
      y: [0, ...steps.map((step) => mean(netWins(found, curve[String(step)]) ?? [Number.NaN]))],
    };
  });
  const [xLabel, yLabel] = ["passes of the U-Net for a pair", "net margin win"];
  return {
    name: "net-margin-win",
    caption: "How much better than the reference, against arithmetic",
    svg: lineChart(series, { xLabel, yLabel }),
  };
}

/** The finding in words. */
function findingOf(asked: Asked): string {
  const { found } = asked;
  const [latent, ncp, weights] = (["latent-dpo", "ncp-dpo", "weights"] as const).map((name) =>
    bestOf(found, found.arms[name]),
  );
  const said = (name: string, best: typeof latent): string =>
    best ? `${name} ${numberText(best.value)} at step ${best.step}` : "";
  return `Best net margin win against the reference: ${[said("latent DPO", latent), said("NCP-DPO", ncp), said("time weights alone", weights)].filter(Boolean).join(", ")}.`;
}

function page(asked: Asked): StudyPage {
  const scores = scoreTable(asked);
  return {
    title: "NCP-DPO in miniature, measured",
    finding: findingOf(asked),
    verdicts: judged(RULES, "shape world", asked.found),
    tables: {
      ...(scores && {
        "Held-out prompts, by the scorer that chose the pairs, and by a second judge": scores,
      }),
      Arms: armTable(asked),
    },
    charts: Object.keys(asked.found.arms).length > 0 ? [chartOf(asked)] : [],
    data: { ...asked.found, chosen: asked.chosen },
  };
}

/** The headline in the README's table. */
export function headlineOf({ reference, arms }: Found): string {
  const found: Found = { reference, arms, noisy: {} };
  const best = (name: ArmName): string => {
    const value = bestOf(found, arms[name])?.value;
    return value === undefined ? "not measured" : value.toFixed(3);
  };
  return `best net margin win ${best("ncp-dpo")}; latent DPO ${best("latent-dpo")}, with the same weights of timesteps and no features ${best("weights")}`;
}

/** What `reproduce` is made of. */
export const STUDY: Reproduction<ReproduceActionOptions, Asked> = {
  ...{ system: "ncp-dpo", version: 2, options: reproduceOptions },
  ...{ ask, page },
};

/** `tweedie reproduce ncp-dpo`: draws, trains and measures what is missing, and writes the page. */
export const reproduceAction = reproducing(STUDY);
