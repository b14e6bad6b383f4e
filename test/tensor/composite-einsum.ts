/** Einsum against the sum over all letters at once. */
import * as tw from "../../src/tensor/index.ts";
import { at, type Nd, nd, type OpCase, sumOver } from "./op-check.ts";

const EQUATIONS = [
  "ij,jk->ik",
  "bqd,bkd->bqk",
  "ij->ji",
  "ii->i",
  "ii",
  "ij,ij->",
  "ab,bc,cd->ad",
  "bij,bjk",
  "i,j->ij",
  "ijk,k->ij",
  "bhqk,bkhd->bqhd",
  "iij,j->i",
  "ij->",
  "aib,aic->bc",
];

/** Sum over all letters at once. */
function einsumOf(equation: string, xs: readonly Nd[]): Nd {
  const [left, right] = equation.split("->");
  const terms = left!.split(",");
  const letters = [...new Set(left!.replaceAll(",", ""))];
  const size = new Map(terms.flatMap((t, i) => [...t].map((c, k) => [c, xs[i]!.shape[k]!] as const)));
  const all = [...left!.replaceAll(",", "")];
  const result =
    right ??
    letters
      .filter((c) => all.filter((e) => e === c).length === 1)
      .sort()
      .join("");
  const inner = letters.filter((c) => !result.includes(c));
  return nd(
    [...result].map((c) => size.get(c)!),
    (...i) =>
      sumOver(
        inner.map((c) => size.get(c)!),
        (...j) => {
          const value = (c: string): number =>
            result.includes(c) ? i[result.indexOf(c)]! : j[inner.indexOf(c)]!;
          return terms.reduce((p, t, k) => p * at(xs[k]!, [...t].map(value)), 1);
        },
      ),
  );
}

export const einsumCases = EQUATIONS.map(
  (equation): OpCase => ({
    name: equation,
    draw: (d) => {
      const size = new Map([..."abcdhijkq"].map((c) => [c, d.int(1, 3)]));
      const terms = equation.split("->")[0]!.split(",");
      return {
        inputs: terms.map((t) => d.real([...t].map((c) => size.get(c)!))),
        f: (...xs) => tw.einsum(equation, ...xs),
        reference: (...xs) => einsumOf(equation, xs),
      };
    },
  }),
);
