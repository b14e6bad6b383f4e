/** Matrix products. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import type { Op, Tensor } from "../tensor.ts";
import { eye } from "./create.ts";
import { apply1, broadcastShapes, needFloat, needRank, needSameDType } from "./op.ts";
import { sumTo } from "./reduce.ts";
import { reshape, transpose, unsqueeze } from "./shape.ts";

/** What a matrix product is recorded with. */
export interface MatmulAttrs {
  readonly transA: boolean;
  readonly transB: boolean;
  /** The product is multiplied by this, for free. */
  readonly alpha: number;
}

const swapLast = (rank: number): number[] => [
  ...Array.from({ length: rank - 2 }, (_, i) => i),
  rank - 1,
  rank - 2,
];

const matmulOp: Op<MatmulAttrs> = {
  name: "matmul",
  infer: (inputs, { transA, transB }) => {
    const [a, b] = inputs;
    needSameDType(inputs);
    needFloat(a!);
    if (a!.shape.length < 2 || b!.shape.length < 2)
      throw new ShapeError("both operands need at least two axes");
    const [m, ka] = transA ? [a!.shape.at(-1)!, a!.shape.at(-2)!] : [a!.shape.at(-2)!, a!.shape.at(-1)!];
    const [kb, n] = transB ? [b!.shape.at(-1)!, b!.shape.at(-2)!] : [b!.shape.at(-2)!, b!.shape.at(-1)!];
    if (ka !== kb) throw new ShapeError(`inner dimensions ${ka} and ${kb} differ`);
    return [
      { shape: [...broadcastShapes(a!.shape.slice(0, -2), b!.shape.slice(0, -2)), m, n], dtype: a!.dtype },
    ];
  },
  lower: (g, [a, b], { transA, transB, alpha }, { inputs: [aa, ba] }) => {
    const plain = !transA && !transB && alpha === 1;
    if (g.contrib && aa!.dtype === "f32" && !plain) {
      const attributes = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
      return [g.contribOp("FusedMatMul", [a!, b!], attributes)];
    }
    const left = transA ? g.transpose(a!, swapLast(aa!.shape.length)) : a!;
    const right = transB ? g.transpose(b!, swapLast(ba!.shape.length)) : b!;
    const product = g.op("MatMul", [left, right]);
    return [alpha === 1 ? product : g.op("Mul", [product, g.scalar(aa!.dtype, alpha)])];
  },
  vjp: ([ct], [a, b], _, { transA, transB, alpha }) => {
    if (!ct) return [];
    const product = (x: Tensor, y: Tensor, tx: boolean, ty: boolean): Tensor =>
      matmul(x, y, { transA: tx, transB: ty, alpha });
    const da = transA ? product(b!, ct, transB, true) : product(ct, b!, false, !transB);
    const db = weightGradient(a!, ct, b!, transA, transB, product);
    return [sumTo(da, a!.shape), sumTo(db, b!.shape)];
  },
};

/** Gradient of the second operand. A matrix shared by a whole batch takes one product over all rows at once. */
function weightGradient(
  a: Tensor,
  ct: Tensor,
  b: Tensor,
  transA: boolean,
  transB: boolean,
  product: (x: Tensor, y: Tensor, tx: boolean, ty: boolean) => Tensor,
): Tensor {
  const shared = b.rank === 2 && a.rank > 2 && !transA;
  const x = shared ? reshape(a, [-1, a.shape.at(-1)!]) : a;
  const dy = shared ? reshape(ct, [-1, ct.shape.at(-1)!]) : ct;
  return transB ? product(dy, x, true, transA) : product(x, dy, !transA, false);
}

/**
 * Matrix product over the last two axes, batched over the others (which broadcast). `transA` and `transB` take an
 * operand transposed, `alpha` scales the product, both without an extra pass.
 */
export function matmul(a: Tensor, b: Tensor, options: Partial<MatmulAttrs> = {}): Tensor {
  return apply1(matmulOp, [a, b], { transA: false, transB: false, alpha: 1, ...options });
}

/** `x wᵀ + b` over the last axis: x [..., I], w [O, I], b [O]. */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const rows = reshape(x, [-1, x.shape.at(-1)!]); // one flat product is the fastest, forward and backward
  const product = reshape(matmul(rows, weight, { transB: true }), [
    ...x.shape.slice(0, -1),
    weight.shape[0]!,
  ]);
  return bias ? product.add(bias) : product;
}

/** Inner product of two vectors. */
export function dot(a: Tensor, b: Tensor): Tensor {
  needRank(a, 1, "dot");
  return reshape(matmul(unsqueeze(a, 0), unsqueeze(b, 1)), []);
}

/**
 * Einstein summation in explicit or implicit form: `einsum("bqd,bkd->bqk", q, k)`. Operands are contracted from left
 * to right, each pair by one matrix product.
 */
export function einsum(equation: string, ...operands: Tensor[]): Tensor {
  const [left, right] = equation.replaceAll(" ", "").split("->");
  const terms = left!.split(",");
  if (terms.length !== operands.length)
    throw new ArgumentError(
      `einsum: "${equation}" has ${terms.length} terms for ${operands.length} operands`,
    );
  const sizes = letterSizes(equation, terms, operands);
  const letters = [...left!.replaceAll(",", "")];
  const result =
    right ??
    [...new Set(letters)]
      .filter((c) => letters.filter((d) => d === c).length === 1)
      .sort()
      .join("");
  if (new Set(result).size !== result.length || [...result].some((c) => !sizes.has(c))) {
    throw new ArgumentError(`einsum: "${equation}" has an impossible result "${result}"`);
  }
  let term = terms[0]!;
  let value = diagonalOf(operands[0]!, term);
  term = [...new Set(term)].join("");
  for (let i = 1; i < operands.length; i++) {
    const next = [...new Set(terms[i]!)].join("");
    const needed = new Set(result + terms.slice(i + 1).join(""));
    [value, term] = contract(value, term, diagonalOf(operands[i]!, terms[i]!), next, needed, sizes);
  }
  const dropped = [...term].flatMap((c, i) => (result.includes(c) ? [] : [i]));
  const kept = [...term].filter((c) => result.includes(c));
  const summed = dropped.length ? value.sum(dropped) : value;
  return transpose(
    summed,
    [...result].map((c) => kept.indexOf(c)),
  );
}

function letterSizes(
  equation: string,
  terms: readonly string[],
  operands: readonly Tensor[],
): Map<string, number> {
  const sizes = new Map<string, number>();
  terms.forEach((term, i) => {
    if (!/^[a-zA-Z]*$/.test(term) || term.length !== operands[i]!.rank) {
      throw new ArgumentError(`einsum: term "${term}" of "${equation}" does not describe ${operands[i]}`);
    }
    [...term].forEach((c, axis) => {
      const size = operands[i]!.shape[axis]!;
      if ((sizes.get(c) ?? size) !== size)
        throw new ShapeError(`einsum: "${c}" in "${equation}" is both ${sizes.get(c)} and ${size}`);
      sizes.set(c, size);
    });
  });
  return sizes;
}

/** Repeated letters within one term take the diagonal: masked by the identity and summed, the first one stays. */
function diagonalOf(x: Tensor, term: string): Tensor {
  const second = [...term].findIndex((c, i) => term.indexOf(c) !== i);
  if (second < 0) return x;
  const first = term.indexOf(term[second]!);
  const mask = reshape(
    eye(x.shape[first]!, x.dtype),
    x.shape.map((d, i) => (i === first || i === second ? d : 1)),
  );
  return diagonalOf(x.mul(mask).sum(second), term.slice(0, second) + term.slice(second + 1));
}

/** One pair: letters shared and still needed are batch axes, shared and no longer needed are summed. */
function contract(
  a: Tensor,
  ta: string,
  b: Tensor,
  tb: string,
  needed: Set<string>,
  sizes: Map<string, number>,
): [Tensor, string] {
  const onlyIn = (t: string, other: string): string[] => [...t].filter((c) => !other.includes(c));
  const [sumA, sumB] = [
    onlyIn(ta, tb).filter((c) => !needed.has(c)),
    onlyIn(tb, ta).filter((c) => !needed.has(c)),
  ];
  const reduce = (x: Tensor, t: string, drop: string[]): [Tensor, string] =>
    drop.length
      ? [x.sum(drop.map((c) => t.indexOf(c))), [...t].filter((c) => !drop.includes(c)).join("")]
      : [x, t];
  const [ra, la] = reduce(a, ta, sumA);
  const [rb, lb] = reduce(b, tb, sumB);
  const shared = [...la].filter((c) => lb.includes(c));
  const batch = shared.filter((c) => needed.has(c));
  const inner = shared.filter((c) => !needed.has(c));
  const [rows, columns] = [onlyIn(la, lb), onlyIn(lb, la)];
  const count = (cs: readonly string[]): number => cs.reduce((n, c) => n * sizes.get(c)!, 1);
  const arrange = (x: Tensor, t: string, x1: readonly string[], x2: readonly string[]): Tensor =>
    reshape(
      transpose(
        x,
        [...batch, ...x1, ...x2].map((c) => t.indexOf(c)),
      ),
      [count(batch), count(x1), count(x2)],
    );
  const product = matmul(arrange(ra, la, rows, inner), arrange(rb, lb, inner, columns));
  const out = [...batch, ...rows, ...columns];
  return [
    reshape(
      product,
      out.map((c) => sizes.get(c)!),
    ),
    out.join(""),
  ];
}

/** Matrix products, by name. */
export const matmulOps = { matmul: matmulOp };
