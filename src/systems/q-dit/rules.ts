/** What the study expects, from the specification, written before measuring. Pictures are judged in pairs, by two judges. */
import { all, atLeast, atMost, exceeds, type Judged, mean, notBelow, type Rule } from "../../study/index.ts";
import {
  bitsText,
  type Form,
  form,
  formName,
  PACKED,
  packedName,
  pictureName,
  SEARCHES,
  searchName,
  type View,
} from "./cells.ts";
import type { Deployed, LayerTime, TimesOf } from "./deploy.ts";
import type { PictureScores } from "./lab.ts";
import type { GroupsFound } from "./search.ts";

/** What was measured, by the names of `cells.ts`; what is not there was not measured. */
export interface Found {
  readonly predictions: Readonly<Record<string, readonly number[]>>;
  readonly pictures: Readonly<Record<string, PictureScores>>;
  /** Distances of the mean picture of every class, by both judges. */
  readonly means: readonly [first: number, second: number] | undefined;
  readonly searches: Readonly<Record<string, GroupsFound>>;
  readonly packed: Readonly<Record<string, Deployed>>;
  readonly stepTimes: TimesOf | undefined;
  readonly layers: Readonly<Record<string, readonly LayerTime[]>>;
}

export const JUDGES = ["first", "second"] as const;

export const scoresOf = (found: Found, one: Form, view?: View): PictureScores | undefined =>
  found.pictures[pictureName(one, view)];

/** Mean ratio of single predictions in dB. */
export const ratioOf = (found: Found, one: Form): number | undefined => {
  const values = found.predictions[formName(one)];
  return values && mean(values);
};

/** Judged by both sets of features: a gain in the one that guided a choice alone is no gain, and is called so. */
function byBoth(judge: (which: (typeof JUDGES)[number]) => Judged | undefined): Judged | undefined {
  const [first, second] = JUDGES.map((which) => {
    const found = judge(which);
    return found && { ...found, measured: `${which} judge: ${found.measured}` };
  });
  const both = all(first, second);
  const fitted = first?.holds && second?.holds === false;
  return both && fitted ? { ...both, measured: `${both.measured}: it fits the first judge alone` } : both;
}

/** The distance of `a` is larger than that of `b` by both judges, in pairs of seeds. */
const farther = (found: Found, a: Form, b: Form): Judged | undefined =>
  byBoth((which) => exceeds(scoresOf(found, a)?.[which], scoresOf(found, b)?.[which]));

/** The distance of `a` is at most `share` of that of `b` larger, by both judges: the whole interval lies below. */
const within = (found: Found, share: number, a: Form, b: Form): Judged | undefined =>
  byBoth((which) => {
    const [own, other] = [scoresOf(found, a)?.[which], scoresOf(found, b)?.[which]];
    return exceeds(other, own, { atLeast: other ? -share * mean(other) : 0 });
  });

/** Predictions within so many decibels count as equal. */
const TIE = 0.3;
const CONDITIONS = ["natural", "stress"] as const;
const W = (weights: number) => ({ weights, activations: 8 });

const PICTURE_RULES: readonly Rule<Found>[] = [
  ...[8, 6, 4].map(
    (bits): Rule<Found> => ({
      name: `${bitsText(W(bits))} keeps the quality`,
      says: "Q-DiT's distance is at most 5 % above that of fp32",
      judge: (f) => within(f, 0.05, form("natural", "q-dit", W(bits)), form("natural", "fp32")),
    }),
  ),
  ...CONDITIONS.flatMap((condition): Rule<Found>[] => {
    const ours = form(condition, "q-dit");
    return [
      {
        name: `naive fails, ${condition}`,
        says: "W4A8 with one static scale for a tensor is worse than fp32",
        judge: (f) => farther(f, form(condition, "tensor-static"), form(condition, "fp32")),
      },
      {
        name: `better than naive, ${condition}`,
        says: "Q-DiT at W4A8 is better than one static scale for a tensor",
        judge: (f) => farther(f, form(condition, "tensor-static"), ours),
      },
      {
        name: `better than the rival, ${condition}`,
        says: "Q-DiT at W4A8 is better than GPTQ by channel with static inputs",
        judge: (f) => farther(f, form(condition, "gptq-static"), ours),
      },
      {
        name: `GPTQ shows in pictures, ${condition}`,
        says: "Q-DiT at W4A8 is better than the same groups rounded to nearest",
        judge: (f) => farther(f, form(condition, "group-dynamic"), ours),
      },
    ];
  }),
];

const PREDICTION_RULES: readonly Rule<Found>[] = CONDITIONS.flatMap((condition): Rule<Found>[] => {
  const gap = condition === "natural" ? 3 : 8;
  const ratio = (f: Found, ...of: [Form["method"], ReturnType<typeof W>?, number?]) =>
    ratioOf(f, form(condition, ...of));
  const chain = ["tensor-static", "channel-static", "group-static", "group-dynamic"] as const;
  return [
    {
      name: `order, ${condition}`,
      says: `W4A8 predictions: tensor, channel, group static, group dynamic rise (ties within ${TIE} dB)`,
      judge: (f) =>
        all(...chain.slice(1).map((method, i) => notBelow(ratio(f, method), [ratio(f, chain[i]!)], TIE))),
    },
    ...(["", "-in-order"] as const).map(
      (order): Rule<Found> => ({
        name: `groups of 32, ${condition}${order && ", columns in their order"}`,
        says: `W4A8 predictions: GPTQ with dynamic groups of 32 is ${gap} dB above GPTQ by channel, static`,
        judge: (f) => notBelow(ratio(f, `q-dit${order}`, W(4), 32), [ratio(f, `gptq-static${order}`)], -gap),
      }),
    ),
    ...[4, 3].map(
      (bits): Rule<Found> => ({
        name: `GPTQ at ${bitsText(W(bits))}, ${condition}`,
        says: "predictions: GPTQ is not below rounding to nearest",
        judge: (f) => notBelow(ratio(f, "q-dit", W(bits)), [ratio(f, "group-dynamic", W(bits))]),
      }),
    ),
  ];
});

const SEARCH_RULES: readonly Rule<Found>[] = SEARCHES.flatMap(({ condition, method }): Rule<Found>[] => {
  const name = searchName({ condition, method });
  const searched = (take: "best" | "random"): Form => form(condition, method, W(4), { by: method, take });
  return [
    {
      name,
      says: "searched group sizes are better than uniform ones at equal bit operations, on other seeds",
      judge: (f) => farther(f, form(condition, method), searched("best")),
    },
    {
      name: `${name}, control`,
      says: "they are better than the best of as many random sizes, on other seeds",
      judge: (f) => farther(f, searched("random"), searched("best")),
    },
    {
      name: `${name}, likeness`,
      says: "their pictures are no less like those of full precision than those of uniform sizes, to 0.2 dB",
      judge: (f) =>
        exceeds(scoresOf(f, searched("best"))?.ratio, scoresOf(f, form(condition, method))?.ratio, {
          atLeast: -0.2,
        }),
    },
  ];
});

const REAL_RULES: readonly Rule<Found>[] = [
  ...PACKED.filter(({ bits }) => bits.weights !== 6).map((one): Rule<Found> => {
    const most = one.bits.weights === 4 ? 0.3 : 0.4;
    return {
      name: `file of ${packedName(one)}`,
      says: `it takes at most ${most} of the floats in 32 bits`,
      judge: (f) => atMost(f.packed[packedName(one)]?.share, most),
    };
  }),
  {
    name: "integers",
    says: "predictions of packed models, as read from their files, agree to 60 dB with a simulation of the codes and scales in them",
    judge: (f) => all(...PACKED.map((one) => atLeast(f.packed[packedName(one)]?.agreement, 60))),
  },
  {
    name: "speed",
    says: "W8A8 in groups of 64 is 1.5 times as fast as floats at DiT-XL's layers",
    judge: (f) => {
      const layers = Object.values(f.layers);
      const of = (times: readonly LayerTime[], name: string) =>
        times.find((one) => one.name === name)?.times.median ?? Number.NaN;
      return all(
        ...(layers.length > 0 ? layers : [undefined]).map(
          (times) => times && atLeast(of(times, "fp32") / of(times, "W8A8 groups of 64"), 1.5),
        ),
      );
    },
  },
];

export const RULES: readonly Rule<Found>[] = [
  ...PICTURE_RULES,
  ...PREDICTION_RULES,
  ...SEARCH_RULES,
  ...REAL_RULES,
];
