/** The pass rules of the claim, and the tables that show what was measured. */
import type { Table } from "../../report/index.ts";
import { CURVE_STEPS, type Score, type SetResults, type Times } from "./measure.ts";

/** One rule on one set. */
export interface Verdict {
  readonly rule: string;
  readonly text: string;
  readonly holds: boolean;
  /** The numbers that decide. */
  readonly measured: string;
}

/** Differences of Dice below this do not count. */
const TOLERANCE = 0.005;
const number = (x: number): string => x.toFixed(4);

/** Rules (a) to (f) for one data set. */
export function verdicts({ scores, stability }: SetResults, times: Times): Verdict[] {
  const dice = (way: string): number => scores[way]!.dice;
  const [one, plain] = [dice("lambda-1 direct"), dice("lambda-0 direct")];
  const fifty = dice("lambda-1 ddim-50 leading");
  const bestPlain = Math.max(...CURVE_STEPS.map((s) => dice(`lambda-0 ddim-${s} leading`)));
  const few = [2, 4].map(
    (s) => [dice(`lambda-1 ddim-${s} leading`), dice(`lambda-0 ddim-${s} leading`)] as const,
  );
  const [direct, without, sampled] = [
    stability["lambda-1 direct"]!,
    stability["lambda-0 direct"]!,
    stability["lambda-1 ddim-50 leading"]!,
  ];
  const ensemble = dice("lambda-1 ddim-50 leading, mean of 3");
  const denoiserRatio = times.ddim50Denoiser / times.directDenoiser;
  const totalRatio = times.ddim50Total / times.directTotal;
  return [
    {
      rule: "a",
      text: "one step is not worse than 50",
      holds: one >= fifty - TOLERANCE,
      measured: `${number(one)} and ${number(fifty)}`,
    },
    {
      rule: "b",
      text: "with the latent loss one step is not worse than without, nor than the best DDIM without",
      holds: one >= plain && one >= bestPlain - TOLERANCE,
      measured: `${number(one)}; ${number(plain)}, ${number(bestPlain)}`,
    },
    {
      rule: "c",
      text: "the latent loss helps DDIM of 2 and of 4 steps",
      holds: few.every(([a, b]) => a > b),
      measured: few.map(([a, b]) => `${number(a)} > ${number(b)}`).join(", "),
    },
    {
      rule: "d",
      text: "one step is 15 times cheaper in the denoiser and 5 times in all",
      holds: denoiserRatio >= 15 && totalRatio >= 5,
      measured: `${denoiserRatio.toFixed(1)}x and ${totalRatio.toFixed(1)}x`,
    },
    {
      rule: "e",
      text: "over seeds: deviation of Dice at most 0.005, pairs more alike and pixels steadier than without the latent loss and than 50 steps",
      holds:
        direct.diceStd <= TOLERANCE &&
        direct.pairDice > without.pairDice &&
        direct.pairDice > sampled.pairDice &&
        direct.pixelStd < without.pixelStd &&
        direct.pixelStd < sampled.pixelStd,
      measured: `${number(direct.diceStd)}; pairs ${number(direct.pairDice)}, ${number(without.pairDice)}, ${number(sampled.pairDice)}; pixels ${number(direct.pixelStd)}, ${number(without.pixelStd)}, ${number(sampled.pixelStd)}`,
    },
    {
      rule: "f",
      text: "one sample of one step is not worse than the mean of three samples of 50",
      holds: one >= ensemble - TOLERANCE,
      measured: `${number(one)} and ${number(ensemble)}`,
    },
  ];
}

/** The rules over all sets. */
export function verdictTable(found: ReadonlyMap<string, readonly Verdict[]>): Table {
  const rows = [...found].flatMap(([set, all]) =>
    all.map(({ rule, text, holds, measured }) => [
      `${rule}: ${text}`,
      set,
      holds ? "holds" : "does not hold",
      measured,
    ]),
  );
  return { columns: ["rule", "set", "result", "measured"], rows };
}

/** Every way, with Dice and IoU, over all sets. */
export function scoreTable(results: ReadonlyMap<string, SetResults>): Table {
  const ways = [...new Set([...results.values()].flatMap((r) => Object.keys(r.scores)))];
  const sets = [...results.keys()];
  const cells = (score: Score | undefined): (string | null)[] =>
    score ? [number(score.dice), number(score.iou)] : [null, null];
  const row = (name: string, pick: (r: SetResults) => Score | undefined): (string | null)[] => [
    name,
    ...sets.flatMap((set) => cells(pick(results.get(set)!))),
  ];
  return {
    columns: ["way", ...sets.flatMap((set) => [`${set}: Dice`, "IoU"])],
    rows: [
      row("masks through the autoencoder (ceiling)", (r) => r.ceiling),
      ...ways.map((way) => row(way, (r) => r.scores[way])),
    ],
  };
}

/** Spread over seeds, for every set and way. */
export function stabilityTable(results: ReadonlyMap<string, SetResults>): Table {
  const rows = [...results].flatMap(([set, { stability }]) =>
    Object.entries(stability).map(([way, s]) => [
      `${set}, ${way}`,
      number(s.diceMean),
      number(s.diceStd),
      number(s.pairDice),
      number(s.pixelStd),
      s.psnr.toFixed(2),
      number(s.ssim),
      number(s.msSsim),
      number(s.featureDistance),
    ]),
  );
  return {
    columns: [
      "set and way",
      "Dice",
      "deviation",
      "pair Dice",
      "pixel deviation",
      "PSNR",
      "SSIM",
      "MS-SSIM",
      "feature distance",
    ],
    rows,
  };
}

/** Times, for every set. */
export function timeTable(times: ReadonlyMap<string, Times>): Table {
  const rows = [...times].map(([set, t]) => [
    `${set}, ${t.width}x${t.height}`,
    t.directTotal.toFixed(1),
    t.ddim50Total.toFixed(1),
    t.directDenoiser.toFixed(2),
    t.ddim50Denoiser.toFixed(1),
    String(t.directCalls),
    String(t.ddim50Calls),
  ]);
  return {
    columns: [
      "one picture",
      "direct ms",
      "DDIM-50 ms",
      "denoiser direct ms",
      "denoiser DDIM-50 ms",
      "calls",
      "calls",
    ],
    rows,
  };
}

/** The sentence that follows from the control and the plain U-Net, whichever way it goes. */
export function honestSentence(results: ReadonlyMap<string, SetResults>): string {
  const parts = [...results].flatMap(([set, { scores }]) => {
    const [one, image, plain] = ["lambda-1 direct", "image-only", "plain U-Net"].map(
      (way) => scores[way]?.dice,
    );
    if (one === undefined || image === undefined || plain === undefined) return [];
    const text = `${set}: ${number(one)} against ${number(image)} and ${number(plain)}`;
    return [{ set, text, better: one >= image && one >= plain }];
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
  return `${verdict} (Dice of one step against the image-only control and the plain U-Net: ${parts.map(({ text }) => text).join("; ")}).`;
}
