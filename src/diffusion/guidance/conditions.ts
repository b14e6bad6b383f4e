/** Conditional denoisers, and how several conditions are evaluated in as few network calls as possible. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import { flatten, type Tensor, tensor, treeMap } from "../../tensor/index.ts";
import { type DenoiserOptions, networkDenoiser } from "../parameterization.ts";
import type { Denoise } from "../sample.ts";

/**
 * A denoiser that is told what to make. The condition is a tree (an object of embeddings, labels, control images …)
 * whose tensors have the batch of x, or 1, on axis 0.
 */
export type ConditionalDenoise<C> = (x: Tensor, sigma: number, condition: C) => Tensor | Promise<Tensor>;

/** A condition, or one for each noise level, as `swapCondition` makes. */
export type Conditioning<C> = C | ((sigma: number) => C);

/** A number, or one for each noise level. */
export type BySigma = number | ((sigma: number) => number);

/** Noise levels above `low` and up to `high`. */
export type SigmaInterval = readonly [low: number, high: number];

export const at = (value: BySigma, sigma: number): number =>
  typeof value === "function" ? value(sigma) : value;

export const conditionAt = <C>(conditioning: Conditioning<C>, sigma: number): C =>
  typeof conditioning === "function" ? (conditioning as (sigma: number) => C)(sigma) : conditioning;

export const isWithin = (interval: SigmaInterval | undefined, sigma: number): boolean =>
  !interval || (sigma > interval[0] && sigma <= interval[1]);

export function checkInterval(where: string, interval: SigmaInterval | undefined): void {
  if (interval && !(interval[0] < interval[1]))
    throw new ArgumentError(`${where}: expected an interval of sigmas [low, high], got [${interval}]`);
}

/** A number as an input of the graph: unlike a literal, a new value needs no new graph. */
export const fed = (x: Tensor, value: number): Tensor => tensor([value], { shape: [], dtype: x.dtype });

/** The conditional denoiser of a network that takes the scaled sample, its timestep and a condition. */
export const conditionalDenoiser =
  <C>(
    network: (x: Tensor, timestep: number, condition: C) => Tensor | Promise<Tensor>,
    options: DenoiserOptions,
  ): ConditionalDenoise<C> =>
  (x, sigma, condition) =>
    networkDenoiser((scaled, timestep) => network(scaled, timestep, condition), options)(x, sigma);

/** A denoiser with a fixed condition. */
export const withCondition =
  <C>(denoise: ConditionalDenoise<C>, condition: Conditioning<C>): Denoise =>
  (x, sigma) =>
    denoise(x, sigma, conditionAt(condition, sigma));

/** Swaps the condition on a range of noise levels; the first matching entry of `swaps` wins. */
export function swapCondition<C>(
  condition: Conditioning<C>,
  swaps: readonly { readonly condition: Conditioning<C>; readonly interval: SigmaInterval }[],
): (sigma: number) => C {
  for (const { interval } of swaps) checkInterval("swapCondition", interval);
  return (sigma) =>
    conditionAt(swaps.find((s) => isWithin(s.interval, sigma))?.condition ?? condition, sigma);
}

/** The condition with each tensor repeated along axis 0 where it is given once for all samples. */
function forBatch<C>(condition: C, batch: number): C {
  return treeMap((leaf, path) => {
    if (leaf.rank > 0 && leaf.shape[0] === batch) return leaf;
    if (leaf.rank > 0 && leaf.shape[0] === 1) return leaf.broadcastTo([batch, ...leaf.shape.slice(1)]);
    throw new ShapeError(
      `the condition's tensor "${path}" needs ${batch} samples, or 1, on axis 0; its shape is [${leaf.shape}]`,
    );
  }, condition);
}

const rowShapes = (condition: unknown): string => {
  const { leaves, def } = flatten(condition);
  return `${def.key} ${leaves.map((t) => `${t.dtype}[${t.shape.slice(1)}]`).join(" ")}`;
};

/**
 * What the denoiser gives for each of the conditions. One call on a batch of all of them where their tensors have the
 * same shapes, one call each where they have not or where `separate` asks for it to save memory.
 */
export async function denoiseEach<C>(
  denoise: ConditionalDenoise<C>,
  x: Tensor,
  sigma: number,
  conditions: readonly C[],
  separate = false,
): Promise<Tensor[]> {
  const batch = x.shape[0]!;
  const each = conditions.map((c) => forBatch(c, batch));
  const shapes = each.map(rowShapes);
  if (separate || each.length === 1 || shapes.some((s) => s !== shapes[0])) {
    const results: Tensor[] = [];
    for (const condition of each) results.push(await denoise(x, sigma, condition));
    return results;
  }
  const together = treeMap(
    (first, _path, ...others) => (others.length ? first.concat(others, 0) : first),
    each[0]!,
    ...each.slice(1),
  );
  const copies = Array.from({ length: each.length - 1 }, () => x);
  return (await denoise(x.concat(copies, 0), sigma, together)).split(each.length, 0);
}

/** All axes but the first: what belongs to one sample. */
export const sampleAxes = (x: Tensor): number[] => Array.from({ length: x.rank - 1 }, (_, i) => i + 1);
