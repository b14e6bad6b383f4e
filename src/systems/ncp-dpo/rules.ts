/** What the study expects, from the specification, written before measuring. Prompts are pairs, over all seeds. */
import { all, atMost, exceeds, type Judged, mean, numberText, type Rule } from "../../study/index.ts";
import { ARMS, type ArmName, passesOf } from "./arms.ts";
import type { Scores } from "./cells.ts";
import { compared, marginOf, marginWins, wins } from "./scores.ts";

/** Scores of one arm by seed, at each step of its training that was measured. */
export type Curve = Readonly<Record<string, readonly Scores[]>>;

/** What was found. */
export interface Found {
  /** Of the model without a LoRA. */
  readonly reference: Scores | undefined;
  /** Of real scenes and of captions of others, by the second judge. */
  readonly arms: Readonly<Partial<Record<ArmName, Curve>>>;
  readonly noisy: Readonly<Partial<Record<ArmName, Curve>>>;
}

const stepsOf = (curve: Curve): number[] =>
  Object.keys(curve)
    .map(Number)
    .sort((a, b) => a - b);
const lastOf = (curve: Curve | undefined): readonly Scores[] | undefined =>
  curve?.[String(stepsOf(curve).at(-1))];

/** Net margin win against the reference, by prompt, over all seeds. */
export function netWins(found: Found, scores: readonly Scores[] | undefined): number[] | undefined {
  const { reference } = found;
  if (!reference || !scores) return undefined;
  const margin = marginOf(reference.colours);
  return scores.flatMap(({ colours }) => marginWins(colours, reference.colours, margin));
}

/** Mean difference of scores from the reference, over all seeds. */
const gainOf = (found: Found, scores: readonly Scores[] | undefined): number | undefined =>
  found.reference &&
  scores &&
  mean(scores.map(({ colours }) => compared(colours, found.reference!.colours).meanGain));

/** The step at which a curve has its best net margin win, and how much that is. */
export function bestOf(found: Found, curve: Curve | undefined): { step: number; value: number } | undefined {
  if (!curve || !found.reference) return undefined;
  const values = stepsOf(curve).map((step) => ({ step, value: mean(netWins(found, curve[String(step)])!) }));
  return values.reduce((a, b) => (b.value > a.value ? b : a));
}

/** Share of prompts at which a is better than b, less a half, by prompt. */
const headToHead = (
  a: readonly Scores[] | undefined,
  b: readonly Scores[] | undefined,
): number[] | undefined =>
  a && b && a.length === b.length
    ? a.flatMap(({ colours }, i) => wins(colours, b[i]!.colours).map((w) => w - 0.5))
    : undefined;

const zeros = (values: readonly number[] | undefined): number[] | undefined => values?.map(() => 0);

/** a is better than b for more than half of the prompts, the whole interval; `share`: for at least that share on average. */
function beats(
  a: readonly Scores[] | undefined,
  b: readonly Scores[] | undefined,
  share = 0.5,
): Judged | undefined {
  const found = headToHead(a, b);
  const judged = exceeds(found, zeros(found));
  if (!found || !judged) return undefined;
  const won = mean(found) + 0.5;
  return {
    measured: `${numberText(100 * won)} % of prompts; ${judged.measured}`,
    holds: judged.holds && won >= share,
  };
}

/** The main claim: as good as latent DPO at its best for three quarters of its arithmetic, or better than it for as much. */
function faster(found: Found): Judged | undefined {
  const [latent, ncp] = [found.arms["latent-dpo"], found.arms["ncp-dpo"]];
  const best = bestOf(found, latent);
  if (!latent || !ncp || !best) return undefined;
  const cost = (name: ArmName, step: number): number => step * passesOf(ARMS[name]);
  const budget = cost("latent-dpo", best.step);
  const reached = stepsOf(ncp).find((step) => mean(netWins(found, ncp[String(step)])!) >= best.value);
  const share = reached === undefined ? undefined : cost("ncp-dpo", reached) / budget;
  const within = stepsOf(ncp)
    .filter((step) => cost("ncp-dpo", step) <= budget * 1.02)
    .at(-1);
  const direct =
    within === undefined ? undefined : beats(ncp[String(within)], latent[String(best.step)], 0.55);
  const first = `net margin win of latent DPO at its best ${numberText(best.value)} at step ${best.step}; ${share === undefined ? "not reached" : `reached with ${numberText(share)} of its arithmetic`}`;
  const second =
    within === undefined
      ? "no step within its arithmetic"
      : `at step ${within}: ${direct?.measured ?? "not measured"}`;
  return {
    measured: `${first}; ${second}`,
    holds: (share !== undefined && share <= 0.75) || direct?.holds === true,
  };
}

/** The win rate at which a curve first has a mean gain, between the steps around it, from the reference on. */
function winRateAt(found: Found, curve: Curve, wanted: number): number {
  const points = [{ gain: 0, won: 0.5 }];
  for (const step of stepsOf(curve)) {
    const all = curve[String(step)]!.map(({ colours }) => compared(colours, found.reference!.colours));
    points.push({ gain: mean(all.map((c) => c.meanGain)), won: mean(all.map((c) => c.winRate)) });
  }
  const above = points.findIndex(({ gain }, i) => i > 0 && gain >= wanted);
  const [a, b] = [points[above - 1]!, points[above]!];
  return a.won + ((b.won - a.won) * (wanted - a.gain)) / (b.gain - a.gain);
}

/** The greatest mean gain of a curve. */
const mostOf = (found: Found, curve: Curve): number =>
  Math.max(...stepsOf(curve).map((step) => gainOf(found, curve[String(step)])!));

/** Plain win rates at the greatest mean gain that both curves come to. */
function careful(found: Found): Judged | undefined {
  const { reference, arms } = found;
  const [latent, ncp] = [arms["latent-dpo"], arms["ncp-dpo"]];
  if (!reference || !latent || !ncp) return undefined;
  const wanted = Math.min(mostOf(found, latent), mostOf(found, ncp));
  if (wanted <= 0) return { measured: "one of both never gains", holds: false };
  const [own, other] = [winRateAt(found, ncp, wanted), winRateAt(found, latent, wanted)];
  return {
    measured: `${numberText(own)} against ${numberText(other)} at a mean gain of ${numberText(wanted)}`,
    holds: own > other,
  };
}

/** What a curve has lost at its end, as a share of its greatest mean gain. */
function lossOf(found: Found, name: ArmName): number | undefined {
  const curve = found.arms[name];
  if (!curve || !found.reference) return undefined;
  const most = mostOf(found, curve);
  return most > 0 ? (most - gainOf(found, lastOf(curve))!) / most : undefined;
}

function steadier(found: Found): Judged | undefined {
  const [ncp, latent] = [lossOf(found, "ncp-cpo"), lossOf(found, "cpo0")];
  if (ncp === undefined || latent === undefined) return undefined;
  return {
    measured: `${numberText(ncp)} against ${numberText(latent)} of the greatest gain lost`,
    holds: ncp <= 0.1 && latent > ncp,
  };
}

/** Best pairs give more than noisy ones, which are trained on with the first seed alone. */
const filtered = (found: Found, name: ArmName): Judged | undefined =>
  exceeds(
    netWins(found, lastOf(found.arms[name])?.slice(0, 1)),
    netWins(found, lastOf(found.noisy[name])?.slice(0, 1)),
  );

export const RULES: readonly Rule<Found>[] = [
  {
    name: "faster",
    says: "NCP-DPO comes to latent DPO's best net margin win with 0.75 of its arithmetic, or wins 55 % of prompts against it for as much",
    judge: faster,
  },
  {
    name: "it learns",
    says: "NCP-DPO and latent DPO are better than the reference, by the net margin win",
    judge: (f) =>
      all(
        ...(["ncp-dpo", "latent-dpo"] as const).map((name) => {
          const found = netWins(f, lastOf(f.arms[name]));
          return exceeds(found, zeros(found));
        }),
      ),
  },
  {
    name: "careful",
    says: "at equal mean gain NCP-DPO damages fewer prompts than latent DPO",
    judge: careful,
  },
  {
    name: "not the weights of time",
    says: "NCP-DPO beats latent DPO with the same weights of timesteps",
    judge: (f) => beats(lastOf(f.arms["ncp-dpo"]), lastOf(f.arms.weights)),
  },
  {
    name: "not any features",
    says: "NCP-DPO beats the same with features of random weights",
    judge: (f) => beats(lastOf(f.arms["ncp-dpo"]), lastOf(f.arms.random)),
  },
  {
    name: "steadier",
    says: "without a reference, NCP keeps 90 % of its greatest gain to the end, and latent CPO loses more",
    judge: steadier,
  },
  {
    name: "filtered pairs",
    says: "best against worst teaches more than noisy answers, in both spaces",
    judge: (f) => all(filtered(f, "ncp-dpo"), filtered(f, "latent-dpo")),
  },
  {
    name: "the second judge",
    says: "by a network that chose no pair, NCP-DPO follows captions no worse than the reference, within 2 points",
    judge: (f) => {
      const own = lastOf(f.arms["ncp-dpo"]);
      const { reference } = f;
      return own && reference
        ? exceeds(
            own.flatMap(({ captions }) => captions),
            own.flatMap(() => reference.captions),
            { atLeast: -0.02 },
          )
        : undefined;
    },
  },
  {
    name: "pictures stay pictures",
    says: "NCP-DPO's Fréchet distance to real scenes is at most 1.2 times the reference's",
    judge: (f) => {
      const own = lastOf(f.arms["ncp-dpo"]);
      return own && f.reference
        ? atMost(mean(own.map(({ frechet }) => frechet)) / f.reference.frechet, 1.2)
        : undefined;
    },
  },
];
