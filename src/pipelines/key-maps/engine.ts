/**
 * Translates checkpoint names between two layouts, in both directions, by rules that are data. A rule names the same
 * module (or tensor) in both; `inner` renames what lies below it; `change` says how the values differ.
 */
import { FormatError } from "../../errors.ts";
import type { HostTensor } from "../../io/index.ts";
import { DTYPES, sizeOf } from "../../tensor/index.ts";

/** `original`: names of the paper's own code (CompVis, OpenCLIP, Meta). */
export type Layout = "original" | "diffusers";

/**
 * How the original's values differ: `pointwise`: a 1x1 convolution [O, I, 1, 1] where the other has a linear map
 * [O, I]; `transposed`: a matrix with its axes exchanged.
 */
export type Change = "pointwise" | "transposed";

/** One module (or tensor) by its names in both layouts. */
export interface KeyRule {
  readonly original: string;
  /** Several names: the original holds them one after the other along its first axis. */
  readonly diffusers: string | readonly string[];
  /** Names below; absent: the same in both. */
  readonly inner?: readonly KeyRule[];
  readonly change?: Change;
}

/** A rule per pair of names, with the same change. */
export const renames = (pairs: Readonly<Record<string, string>>, change?: Change): KeyRule[] =>
  Object.entries(pairs).map(([original, diffusers]) => ({ original, diffusers, ...(change && { change }) }));

/** Where one tensor goes: `targets` in order; more than one on either side is a concatenation. */
export interface Translation {
  readonly sources: readonly string[];
  readonly targets: readonly string[];
  readonly change: Change | undefined;
}

const other = (layout: Layout): Layout => (layout === "original" ? "diffusers" : "original");
const join = (head: string, rest: string): string => (head && rest ? `${head}.${rest}` : head || rest);

/** What is left of `key` behind `head`, or undefined when it does not lie there. */
function restOf(key: string, head: string): string | undefined {
  if (head === "" || key === head) return head === "" ? key : "";
  return key.startsWith(head) && key[head.length] === "." ? key.slice(head.length + 1) : undefined;
}

/** The names that `key` belongs to in both layouts, or undefined when no rule knows it. The first rule that fits counts. */
export function translateKey(key: string, rules: readonly KeyRule[], to: Layout): Translation | undefined {
  const from = other(to);
  for (const rule of rules) {
    for (const head of [rule[from]].flat()) {
      const rest = restOf(key, head);
      if (rest === undefined) continue;
      const below = rest && rule.inner ? translateKey(rest, rule.inner, to) : sameBelow(rest, rule.change);
      if (!below) continue;
      const spread = (side: Layout, names: readonly string[]): string[] =>
        [rule[side]].flat().flatMap((h) => names.map((name) => join(h, name)));
      return {
        sources: spread(from, below.sources),
        targets: spread(to, below.targets),
        change: below.change,
      };
    }
  }
  return undefined;
}

/** A bias has one axis in either layout, so only weights change. */
const sameBelow = (rest: string, change: Change | undefined): Translation => ({
  sources: [rest],
  targets: [rest],
  change: rest === "bias" ? undefined : change,
});

const transpose2d = ({ dtype, shape, data }: HostTensor): HostTensor => {
  const [rows, columns] = shape as [number, number];
  const out = new DTYPES[dtype].array(data.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) out[c * rows + r] = data[r * columns + c] as never;
  return { dtype, shape: [columns, rows], data: out };
};

/** The shape on the other side. @throws {FormatError} when it cannot have come from there */
export function changedShape(
  name: string,
  shape: readonly number[],
  change: Change | undefined,
  to: Layout,
): readonly number[] {
  if (!change) return shape;
  if (change === "transposed") {
    if (shape.length !== 2) throw new FormatError(`"${name}": expected a matrix, got [${shape.join(", ")}]`);
    return [shape[1]!, shape[0]!];
  }
  // Some files hold the linear map on either side: what has two axes already is left alone.
  if (to === "diffusers")
    return shape.length === 4 && shape[2] === 1 && shape[3] === 1 ? shape.slice(0, 2) : shape;
  return shape.length === 2 ? [...shape, 1, 1] : shape;
}

/** The values on the other side. Only a transposition copies. */
export function changed(name: string, t: HostTensor, change: Change | undefined, to: Layout): HostTensor {
  const shape = changedShape(name, t.shape, change, to);
  return change === "transposed" ? transpose2d(t) : { ...t, shape };
}

/** Equal parts along the first axis, as views. @throws {FormatError} when it does not divide */
export function splitRows(name: string, t: HostTensor, parts: number): HostTensor[] {
  const [rows, ...rest] = t.shape;
  if (rows === undefined || rows % parts !== 0)
    throw new FormatError(
      `"${name}": expected a first axis that divides by ${parts}, got [${t.shape.join(", ")}]`,
    );
  const shape = [rows / parts, ...rest];
  const size = sizeOf(shape);
  return Array.from({ length: parts }, (_, i) => ({
    dtype: t.dtype,
    shape,
    data: t.data.subarray(i * size, (i + 1) * size),
  }));
}

/** One after the other along the first axis. */
export function concatRows(name: string, parts: readonly HostTensor[]): HostTensor {
  const [first] = parts as [HostTensor];
  const fits = parts.every(
    (p) => p.dtype === first.dtype && String(p.shape.slice(1)) === String(first.shape.slice(1)),
  );
  if (!fits) throw new FormatError(`"${name}": its parts differ in dtype or in their last axes`);
  const data = new DTYPES[first.dtype].array(parts.reduce((n, p) => n + p.data.length, 0));
  let at = 0;
  for (const p of parts) {
    data.set(p.data as never, at);
    at += p.data.length;
  }
  const rows = parts.reduce((n, p) => n + p.shape[0]!, 0);
  return { dtype: first.dtype, shape: [rows, ...first.shape.slice(1)], data };
}
