/** UniPC (Zhao et al. 2023): a predictor of any order, and a corrector that reuses the predictor's evaluation. */
import { ArgumentError } from "../../errors.ts";
import type { Tensor } from "../../tensor/index.ts";
import { samplerOf } from "../rule.ts";
import type { SampleOptions } from "../sample.ts";
import { noiseIn, type Term, weightedSum } from "../weighted-sum.ts";

/** Options of `solve` and `unipc`. */
export interface UniPCOptions extends SampleOptions {
  /** 1 to 4. Default 2. */
  readonly order?: number;
  /** B(h) of the paper: h, or exp(h) - 1, the default. */
  readonly variant?: "bh1" | "bh2";
  /** Over the clean sample (default), or over the noise. */
  readonly predict?: "denoised" | "noise";
  /** Uses lower orders at the last steps. Default true. */
  readonly lowerOrderFinal?: boolean;
  /** 0-based steps after which the corrector is left out. */
  readonly disableCorrector?: readonly number[];
}

interface Known {
  readonly sigma: number;
  readonly value: Tensor;
}

/** Solution of a small system of linear equations, by elimination with pivots. */
export function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!]);
  const n = rows.length;
  for (let k = 0; k < n; k++) {
    const best = rows.reduce((p, row, i) => (i > k && Math.abs(row[k]!) > Math.abs(rows[p]![k]!) ? i : p), k);
    [rows[k], rows[best]] = [rows[best]!, rows[k]!];
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = rows[i]![k]! / rows[k]![k]!;
      rows[i] = rows[i]!.map((v, j) => v - factor * rows[k]![j]!);
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!);
}

/**
 * The update of both halves (eq. 3 and 8): from x at the newest level known to `next`, with differences to the values
 * at the older levels and, for the corrector, at `next` itself.
 */
function update(
  x: Tensor,
  known: readonly Known[],
  next: number,
  order: number,
  options: UniPCOptions,
  corrected?: Tensor,
): Tensor {
  const { variant = "bh2", predict = "denoised" } = options;
  const { sigma, value } = known[0]!;
  const h = Math.log(sigma / next);
  const hh = predict === "denoised" ? -h : h;
  const base = Math.expm1(hh);
  const scale = variant === "bh1" ? hh : base;
  const signal = predict === "denoised" ? 1 : next;
  const older = known.slice(1, order);
  const positions = older.map((k) => Math.log(sigma / k.sigma) / h);
  const unknowns = corrected ? [...positions, 1] : positions;
  const weights = unknowns.length === 0 ? [] : updateWeights(unknowns, hh, scale);

  const terms: Term[] = [[predict === "denoised" ? next / sigma : 1, x]];
  const add = (weight: number, at: Tensor): void => {
    terms.push([-signal * scale * weight, at], [signal * scale * weight, value]);
  };
  terms.push([-signal * base, value]);
  for (const [i, k] of older.entries()) add(weights[i]! / positions[i]!, k.value);
  if (corrected) add(weights[weights.length - 1]!, corrected);
  return weightedSum(...terms);
}

/** Solves eq. 5 for the weights of the differences; of a single one it is 1/2, which is of order 2 too. */
function updateWeights(positions: readonly number[], hh: number, scale: number): number[] {
  const n = positions.length;
  if (n === 1) return [0.5];
  const right: number[] = [];
  let phi = Math.expm1(hh) / hh - 1;
  let factorial = 1;
  for (let i = 1; i <= n; i++) {
    right.push((phi * factorial) / scale);
    factorial *= i + 1;
    phi = phi / hh - 1 / factorial;
  }
  const matrix = right.map((_, i) => positions.map((p) => p ** i));
  return solve(matrix, right);
}

interface UniPCState {
  /** Values at the levels passed, newest first. */
  readonly known: readonly Known[];
  /** Where the last step began, and its order. */
  readonly last: { readonly x: Tensor; readonly order: number };
}

/** UniPC. One evaluation a step. */
export const unipc = samplerOf<UniPCOptions, UniPCState>(
  function* ({ x: predicted, sigma, next, step, steps }, options, state) {
    const { order = 2, predict = "denoised", lowerOrderFinal = true, disableCorrector = [] } = options;
    const denoised = yield { x: predicted, sigma };
    const value = predict === "denoised" ? denoised : noiseIn(predicted, denoised, sigma);
    const correct = state && !disableCorrector.includes(step - 1);
    const x = correct
      ? update(state.last.x, state.known, sigma, state.last.order, options, value)
      : predicted;
    const known = [{ sigma, value }, ...(state?.known ?? [])].slice(0, order);
    const allowed = next === 0 ? 1 : lowerOrderFinal ? Math.min(order, steps - step) : order;
    const last = { x, order: Math.min(allowed, known.length) };
    const to = (reached: Tensor) => ({ denoised, x: reached, state: { known, last } });
    if (next === sigma) return to(x);
    // Over the noise the step to 0 is a limit, in which the logarithm of the ratio has no value.
    if (next === 0 && predict === "noise") return to(weightedSum([1, x], [-sigma, value]));
    return to(update(x, known, next, last.order, options));
  },
  ({ order = 2 }) => {
    if (!(Number.isInteger(order) && order >= 1 && order <= 4))
      throw new ArgumentError(`unipc: expected an order of 1 to 4, got ${order}`);
  },
);
