/** `tweedie reproduce sdseg`: the study's page with its tables, charts and figures, and the models as they ship. */
import { join } from "node:path";
import { SHAPE_CLASSES } from "../../data/world/plain-shapes.ts";
import { lineChart, overlay } from "../../report/index.ts";
import { comparisonTable, judged, numberText, type Row, tableOf, type Values } from "../../study/index.ts";
import type { Chart, Figure, Table, Work } from "../../work.ts";
import { reproducing, type StudyPage } from "../reproduce.ts";
import {
  CEILING,
  CONTROL,
  CURVE,
  DETERMINISTIC,
  ddimName,
  FLOORS,
  inPixels,
  METHOD,
  ONE_STEP,
  PIXEL_PICTURES,
  PLAIN_UNET,
  type Reached,
  type SetFound,
  TRAILING,
  type Variant,
  wayName,
} from "./compared.ts";
import { type Sample, shownOf, statisticsOf } from "./data.ts";
import { type Lab, type LabParts, middleOf, trainedClasses, trainedVariant } from "./lab.ts";
import { type SDSeg, sdsegFile } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { predictWith } from "./scores.ts";
import { knownSet } from "./sets.ts";
import { type Findings, findings, RULES } from "./study.ts";
import { openSegmenter, type SegmentOptions } from "./use.ts";

const shortOf = (set: string): string => knownSet(set)?.short ?? set;

/** The Dice of each picture: rows with common pictures are compared in pairs. */
const valuesOf = (reached: Reached | undefined): Values | undefined =>
  reached && Object.fromEntries(reached.perPicture.map((dice, i) => [`picture ${i}`, dice]));

const FIFTY = wayName("lambda-1", ddimName(50));
const ensembleName = (name: string): string => `${name}, mean of 3`;

/** Everything that was reached, ensembles under names of their own. */
const withEnsembles = ({ reached }: SetFound): Readonly<Record<string, Reached>> =>
  Object.fromEntries(
    Object.entries(reached).flatMap(([name, one]) =>
      one.ensemble && name.includes("DDIM")
        ? [
            [name, one],
            [ensembleName(name), one.ensemble],
          ]
        : [[name, one]],
    ),
  );

/** What is compared with one step in pairs, beside the roles. */
const OTHERS = [
  CONTROL,
  wayName("lambda-0", ONE_STEP),
  FIFTY,
  ensembleName(FIFTY),
  wayName("lambda-1", DETERMINISTIC),
  wayName("raw-head", ONE_STEP),
  wayName("frozen-vision", ONE_STEP),
  inPixels(PIXEL_PICTURES),
  FLOORS.li,
  FLOORS.foreground,
];
/** Rows that are only there when they are asked for. */
const OPTIONAL = /^(raw-head|frozen-vision|diffusion in pixels)/;

/** One step against everything else, in pairs over the pictures of one set. */
function pairsOf(found: SetFound): Table {
  const reached = withEnsembles(found);
  const row = (name: string): Row => ({ name, values: valuesOf(reached[name]) });
  return comparisonTable({
    judge: { name: "Dice of a picture", better: "higher" },
    over: "test pictures",
    method: row(METHOD),
    floor: row(FLOORS.otsu),
    ceiling: row(CEILING),
    rival: row(PLAIN_UNET),
    secondJudge: { none: "nothing was optimised or chosen by Dice on the test split" },
    others: OTHERS.filter((name) => reached[name] || !OPTIONAL.test(name)).map(row),
  });
}

/** Every way, with Dice and IoU over all sets. */
function scoreTable(sets: ReadonlyMap<string, SetFound>): Table {
  const all = [...sets].map(([set, found]) => [shortOf(set), withEnsembles(found)] as const);
  const names = new Set([CEILING, ...all.flatMap(([, reached]) => Object.keys(reached))]);
  const columns = all.flatMap(([short, reached]) => [
    [`${short}: Dice`, (name: string) => reached[name] && numberText(reached[name].dice, 4)] as const,
    [`${short}: IoU`, (name: string) => reached[name] && numberText(reached[name].iou, 4)] as const,
  ]);
  return tableOf("way", new Map([...names].map((name) => [name, name])), Object.fromEntries(columns));
}

/** Spread over seeds of the noise, for every set and way that was sampled more than once. */
function stabilityTable(sets: ReadonlyMap<string, SetFound>): Table {
  const rows = [...sets].flatMap(([set, { reached }]) =>
    Object.entries(reached).flatMap(([name, { stability }]) =>
      stability ? [[`${shortOf(set)}: ${name}`, stability] as const] : [],
    ),
  );
  return tableOf("set and way", new Map(rows), {
    Dice: (s) => numberText(s.diceMean, 4),
    deviation: (s) => numberText(s.diceDeviation, 4),
    "pair Dice": (s) => numberText(s.pairDice, 4),
    "pixel deviation": (s) => numberText(s.pixelDeviation, 4),
    PSNR: (s) => numberText(s.psnr, 2),
    SSIM: (s) => numberText(s.ssim, 4),
    "MS-SSIM": (s) => numberText(s.msSsim, 4),
    "feature distance": (s) => numberText(s.featureDistance, 4),
  });
}

const timeTable = (sets: ReadonlyMap<string, SetFound>): Table =>
  tableOf(
    "one picture",
    new Map(
      [...sets].flatMap(([set, { times }]) =>
        times ? [[`${shortOf(set)}, ${times.width}x${times.height}`, times.times] as const] : [],
      ),
    ),
    {
      "one step": ({ one }) => one.text,
      "DDIM, 50 steps": ({ fifty }) => fifty.text,
      "denoiser, one call": ({ denoiserOne }) => denoiserOne.text,
      "denoiser, 50 calls": ({ denoiserFifty }) => denoiserFifty.text,
    },
  );

/** Dice against steps, for both weights of the latent loss and both spacings. */
function stepsChart(set: string, { reached }: SetFound): Chart | undefined {
  const dice = (variant: Variant, way: string): number | undefined => reached[wayName(variant, way)]?.dice;
  const curve = (variant: Variant, spacing: string) => {
    const points = [1, ...CURVE].flatMap((steps) => {
      const value = dice(variant, steps === 1 ? ONE_STEP : ddimName(steps, spacing));
      return value === undefined ? [] : [[steps, value] as const];
    });
    return {
      name: `${variant.replace("lambda-", "λ ")}${spacing || ", leading"}`,
      x: points.map(([steps]) => steps),
      y: points.map(([, value]) => value),
    };
  };
  const series = (["lambda-1", "lambda-0"] as const)
    .flatMap((variant) => ["", TRAILING].map((spacing) => curve(variant, spacing)))
    .filter(({ x }) => x.length > 0);
  if (series.length === 0) return undefined;
  const title = shortOf(set);
  const axes = { xLabel: "steps of DDIM, eta 1 (1: one step)", yLabel: "Dice", logX: true };
  const svg = lineChart(series, { title, width: 720, dots: true, ...axes });
  return { name: `steps-${title}`, caption: `${title}: Dice against the number of steps`, svg };
}

/** Examples in a figure, and the side that pictures are cut to. */
const [EXAMPLES, SIDE] = [4, 192];

/** The first test pictures with foreground: picture, truth, and what each way finds. */
async function examplesOf(
  name: string,
  model: SDSeg,
  data: readonly Sample[],
  ways: Readonly<Record<string, SegmentOptions>>,
): Promise<Figure> {
  const segmenter = openSegmenter(model);
  const shown: Figure["pictures"][number][] = [];
  try {
    for (const sample of data) {
      const picture = shownOf(sample);
      shown.push(picture, overlay(picture, sample.labels));
      for (const options of Object.values(ways)) {
        const [found] = await predictWith(segmenter, options)([sample]);
        shown.push(overlay(picture, found!.mask));
      }
    }
  } finally {
    await segmenter.close();
  }
  const columns = ["picture", "truth", ...Object.keys(ways)];
  const scale = (shown[0]?.width ?? 0) < 128 ? 2 : 1;
  return {
    name: `examples-${name}`,
    caption: `${name}: ${columns.join(", ")}`,
    pictures: shown,
    columns,
    scale,
  };
}

async function firstWithForeground(lab: Lab, set: string): Promise<Sample[]> {
  const { data } = await lab.test(set);
  const found: Sample[] = [];
  for (let i = 0; i < data.length && found.length < EXAMPLES; i++) {
    const sample = await middleOf(await data.get(i), SIDE);
    if (sample.labels.some((label) => label > 0)) found.push(sample);
  }
  return found;
}

async function* figuresOf({ lab, sets }: Findings): Work<Figure[]> {
  const figures: Figure[] = [];
  for (const [set, { reached, perClass }] of sets) {
    if (perClass) {
      const { value } = yield* trainedClasses(lab);
      const { data } = await lab.read("shapes", "test", value.config);
      const samples = await Promise.all(Array.from({ length: EXAMPLES }, (_, i) => data.get(i)));
      figures.push(await examplesOf(set, value, samples, { [ONE_STEP]: {} }));
    } else if (reached[METHOD]) {
      const { value } = yield* trainedVariant(lab, set, "lambda-1");
      const ways = { [ONE_STEP]: {}, [ddimName(50)]: { mode: "ddim", steps: 50 } } as const;
      figures.push(await examplesOf(shortOf(set), value, await firstWithForeground(lab, set), ways));
    }
  }
  return figures;
}

/** The method's models as they ship: in half precision, with what was measured of them. */
async function* ship({ lab, sets }: Findings, command: string): Work<void> {
  const { seed, steps, realSteps, work } = lab.options;
  for (const [set, { reached }] of sets) {
    const [direct, ceiling] = [reached[METHOD], reached[CEILING]];
    if (!direct || !ceiling) continue;
    const { value, date } = yield* trainedVariant(lab, set, "lambda-1");
    const known = knownSet(set);
    const path = join(work, `sdseg-${shortOf(set)}.safetensors`);
    await sdsegFile.save(path, value, {
      name: shortOf(set),
      training: `${known?.title ?? "procedural lesions"}, ${known ? realSteps : steps} steps`,
      seed: String(seed),
      date: date.slice(0, 10),
      scale: known?.scale ?? 1,
      seen: await statisticsOf((await lab.read(set, "train", value.config)).data),
      command,
      metrics: { testDice: direct.dice, testIou: direct.iou, ceilingDice: ceiling.dice },
    });
    yield { type: "file", path, about: `the model for ${shortOf(set)} as it ships` };
  }
}

/** The sentence that follows from the control and the plain U-Net, whichever way it goes. */
export function findingOf(sets: ReadonlyMap<string, SetFound>): string {
  const parts = [...sets].flatMap(([set, { reached }]) => {
    const [one, image, plain] = [METHOD, CONTROL, PLAIN_UNET].map((name) => reached[name]?.dice);
    if (one === undefined || image === undefined || plain === undefined) return [];
    const [a, b, c] = [one, image, plain].map((dice) => numberText(dice, 4));
    return [
      {
        set: shortOf(set),
        text: `${shortOf(set)} ${a} against ${b} and ${c}`,
        better: one >= image && one >= plain,
      },
    ];
  });
  if (parts.length === 0)
    return "The image-only control and the plain U-Net were not both measured on any set.";
  const better = parts.filter((part) => part.better).map((part) => part.set);
  const verdict =
    better.length === parts.length
      ? "Diffusion is at least as good as both controls"
      : better.length === 0
        ? "Diffusion is not needed for this accuracy: a control that sees no noise, or a plain U-Net, trained as long, is better"
        : `Diffusion is at least as good as both controls on ${better.join(" and ")} only`;
  return `${verdict} (Dice of one step against the image-only control and the plain U-Net: ${parts.map(({ text }) => text).join("; ")}). All of it is one training of each model.`;
}

/** One step on the lesions that are drawn, and the control without diffusion. */
export function headlineOf({ lesions }: Readonly<Record<string, Pick<SetFound, "reached">>>): string {
  const dice = (name: string): string => lesions!.reached[name]!.dice.toFixed(3);
  return `Dice of one step on lesions ${dice(METHOD)}; of a plain U-Net without diffusion ${dice(PLAIN_UNET)}`;
}

/** Numbers for programs, without those of single pictures, which the study's folder keeps. */
const plainOf = ({ reached, ...others }: SetFound) => ({
  ...others,
  reached: Object.fromEntries(
    Object.entries(reached).map(([name, { perPicture, ensemble, ...one }]) => [
      name,
      {
        ...one,
        pictures: perPicture.length,
        ...(ensemble && { ensemble: { dice: ensemble.dice, iou: ensemble.iou } }),
      },
    ]),
  ),
});

async function* pageOf(
  found: Findings,
  { seeds, seed, window }: ReproduceActionOptions,
  command: string,
): Work<StudyPage> {
  const sets = new Map([...found.sets].filter(([set]) => set !== "shapes"));
  const shapes = found.sets.get("shapes");
  yield* ship(found, command);
  const middle =
    window === undefined ? "whole test pictures" : `the middle ${window}x${window} of test pictures`;
  const pairs = [...sets].map(([set, one]) => [
    `One step against the rest on ${shortOf(set)}, in pairs of test pictures`,
    pairsOf(one),
  ]);
  return {
    title: "SDSeg, measured",
    finding: findingOf(sets),
    verdicts: [...sets].flatMap(([set, one]) => judged(RULES, shortOf(set), one)),
    tables: {
      [`Dice and IoU of ${middle} (a volume counts as one; of several sampling seeds, the mean)`]:
        scoreTable(sets),
      ...Object.fromEntries(pairs),
      [`Spread over sampling seeds (${seeds} of one step, 3 of 50 steps) of one training each, seed ${seed}; not over trainings`]:
        stabilityTable(sets),
      "Times of one picture: median and quartiles": timeTable(sets),
      ...(shapes?.perClass && {
        "Three classes, one step each, on procedural shapes": tableOf(
          "class",
          new Map([...SHAPE_CLASSES.entries()].map(([k, name]) => [name, shapes.perClass![k]!])),
          { Dice: (dice) => numberText(dice, 4) },
        ),
      }),
    },
    figures: yield* figuresOf(found),
    charts: [...sets].flatMap(([set, one]) => stepsChart(set, one) ?? []),
    data: Object.fromEntries([...found.sets].map(([set, one]) => [shortOf(set), plainOf(one)])),
  };
}

/** `tweedie reproduce sdseg`, of other data or networks where tests put some in their place. */
export const reproducingWith = (parts: Partial<LabParts>) =>
  reproducing<ReproduceActionOptions, Findings>({
    ...{ system: "sdseg", version: 1, options: reproduceOptions },
    ask: (study, options, { signal }) => findings(study, options, { signal, ...parts }),
    page: pageOf,
  });
export const reproduceAction = reproducingWith({});
