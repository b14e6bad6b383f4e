/**
 * One graph for all sizes of some axes. The function is lowered at several sizes; where the graphs differ, they differ in
 * numbers (shapes, ends of slices), which are products of sizes. Those are computed from the input's shape instead.
 */
import { ArgumentError } from "../../errors.ts";
import { DTYPES, type DType, type HostArray } from "../dtype.ts";
import type { BuiltGraph } from "../lower.ts";
import { GraphBuilder, type Initializer, type OnnxNode } from "./builder.ts";
import type { NamedAval, NamedOutput } from "./model.ts";

/** A free axis: its name, where an input has it, and its size in each of the graphs. */
export interface FreeAxis {
  readonly name: string;
  readonly input: string;
  readonly axis: number;
  readonly sizes: readonly number[];
}

/** A number of the graphs: offset + numerator / denominator times the product of some axes. */
interface Formula {
  readonly axes: readonly FreeAxis[];
  readonly numerator: number;
  readonly denominator: number;
  readonly offset: number;
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));
/** All choices of some of a list. */
const subsets = <T>(list: readonly T[]): T[][] =>
  Array.from({ length: 2 ** list.length }, (_, bits) => list.filter((_, i) => bits & (1 << i)));

/** How the values of a number, one for each graph, follow from the axes; undefined when in no simple way. */
function formulaOf(values: readonly number[], free: readonly FreeAxis[]): Formula | undefined {
  const [first] = values as [number];
  if (values.every((v) => v === first)) return { axes: [], numerator: first, denominator: 1, offset: 0 };
  for (const axes of subsets(free)) {
    const products = values.map((_, i) => axes.reduce((product, { sizes }) => product * sizes[i]!, 1));
    const other = products.findIndex((p) => p !== products[0]);
    if (other < 0) continue;
    const [rise, run] = [values[other]! - first, products[other]! - products[0]!];
    const common = Math.abs(gcd(rise, run)) * Math.sign(run);
    const [numerator, denominator] = [rise / common, run / common];
    const offset = first - (numerator * products[0]!) / denominator;
    const fits = values.every((v, i) => (numerator * products[i]!) / denominator + offset === v);
    if (fits && Number.isInteger(offset)) return { axes, numerator, denominator, offset };
  }
  return undefined;
}

const refused = (free: readonly FreeAxis[], what: string): ArgumentError =>
  new ArgumentError(
    `exportOnnx: ${free.map(({ name }) => name).join(", ")}: ${what} depends on the size in a way that one graph cannot have`,
  );

const sameAttributes = (a: OnnxNode, b: OnnxNode): boolean =>
  JSON.stringify(a.attributes) === JSON.stringify(b.attributes);

/** What makes a value in each of the graphs. */
interface Made {
  readonly nodes: readonly OnnxNode[];
  readonly constants: readonly Initializer[];
}

/** Writes the graphs as one. */
class Uniting {
  readonly to: GraphBuilder;
  private readonly producers: readonly ReadonlyMap<string, OnnxNode>[];
  private readonly free: readonly FreeAxis[];
  private readonly constants: readonly ReadonlyMap<string, Initializer>[];
  private readonly united = new Map<string, string>();

  constructor(graphs: readonly GraphBuilder[], inputs: readonly string[], free: readonly FreeAxis[]) {
    this.producers = graphs.map(
      (g) => new Map(g.nodes.flatMap((node) => node.outputs.map((name) => [name, node] as const))),
    );
    this.free = free.filter(({ name }, i) => free.findIndex((one) => one.name === name) === i);
    this.to = new GraphBuilder(graphs[0]!.capabilities);
    this.constants = graphs.map((g) => new Map(g.initializers.map((init) => [init.name, init])));
    for (const name of inputs) this.united.set(graphs.map(() => name).join(" "), name);
  }

  /** The value that has these names in the graphs. */
  value(names: readonly string[]): string {
    if (names.every((name) => name === "")) return "";
    const key = names.join(" ");
    const seen = this.united.get(key);
    if (seen !== undefined) return seen;
    const made = this.madeOf(names);
    if (made.constants.length > 0) {
      const constant = this.constant(made.constants);
      this.united.set(key, constant);
      return constant;
    }
    const [node] = made.nodes as [OnnxNode];
    const same = made.nodes.every(
      (n) => n.op === node.op && n.domain === node.domain && sameAttributes(n, node),
    );
    if (!same || made.nodes.some((n) => n.inputs.length !== node.inputs.length))
      throw refused(this.free, node.op);
    const inputs = node.inputs.map((_, k) => this.value(made.nodes.map((n) => n.inputs[k]!)));
    const outputs = this.to.node(node.op, inputs, node.attributes, node.outputs.length, node.domain);
    for (const [k, output] of outputs.entries())
      this.united.set(made.nodes.map((n) => n.outputs[k]!).join(" "), output);
    const united = this.united.get(key);
    if (united === undefined) throw refused(this.free, node.op);
    return united;
  }

  private madeOf(names: readonly string[]): Made {
    const constants = names.flatMap((name, i) => this.constants[i]!.get(name) ?? []);
    if (constants.length === names.length) return { nodes: [], constants };
    const nodes = names.flatMap((name, i) => this.producers[i]!.get(name) ?? []);
    if (nodes.length !== names.length) throw refused(this.free, "what is computed");
    return { nodes, constants: [] };
  }

  /** A constant; of numbers that differ, their formulas; of a filled one, the fill at its size. */
  private constant(all: readonly Initializer[]): string {
    const [first] = all as [Initializer];
    const { dtype, shape } = first;
    const data = all.map((init) => init.data as HostArray);
    if (all.every((init) => init.shape.join() === shape.join())) {
      const equal = data.every((d) => d === data[0] || equalValues(d, data[0]!));
      if (equal) return this.to.constant(dtype, shape, data[0]!);
      const float =
        data.every((d) => d.length === 1) &&
        this.float(
          dtype,
          data.map((d) => Number(d[0])),
        );
      if (float) return this.to.reshape(float, shape);
      if (dtype !== "i64" || shape.length > 1) throw refused(this.free, "a constant");
      const numbers = [...data[0]!.keys()].map((k) => this.number(data.map((d) => Number(d[k]))));
      return shape.length === 0 ? this.to.reshape(numbers[0]!, []) : this.joined(numbers);
    }
    const fill = data[0]![0]!;
    if (
      all.some((init) => init.shape.length !== shape.length) ||
      !data.every((d) => d.every((v: number | bigint) => v === fill))
    )
      throw refused(this.free, "a constant");
    const sizes = shape.map((_, axis) => this.number(all.map((init) => init.shape[axis]!)));
    return this.to.op("Expand", [this.to.constant(dtype, [], data[0]!.slice(0, 1)), this.joined(sizes)]);
  }

  /** A float that is a number of the sizes, or one over it, as of means. // [1] */
  private float(dtype: DType, values: readonly number[]): string | undefined {
    if (dtype !== "f32" && dtype !== "f64") return undefined;
    const rounded = (v: number): number => (dtype === "f32" ? Math.fround(v) : v);
    const counts = values.map((v) => Math.round(1 / v));
    const isMean = values.every((v, i) => rounded(1 / counts[i]!) === v);
    if (!isMean && !values.every(Number.isSafeInteger)) return undefined;
    const number = this.to.op("Cast", [this.number(isMean ? counts : values)], { to: DTYPES[dtype].onnx });
    return isMean ? this.to.op("Reciprocal", [number]) : number;
  }

  private joined(numbers: readonly string[]): string {
    return numbers.length === 1 ? numbers[0]! : this.to.op("Concat", numbers, { axis: 0 });
  }

  /** A number as a tensor [1] of i64. */
  private number(values: readonly number[]): string {
    const formula = formulaOf(values, this.free);
    if (!formula) throw refused(this.free, "a shape");
    const { axes, numerator, denominator, offset } = formula;
    if (axes.length === 0) return this.to.ints([numerator]);
    const sizes = axes.map(({ input, axis }) => this.to.op("Shape", [input], { start: axis, end: axis + 1 }));
    let value = sizes.reduce((product, size) => this.to.op("Mul", [product, size]));
    if (numerator !== 1) value = this.to.op("Mul", [value, this.to.ints([numerator])]);
    if (denominator !== 1) value = this.to.op("Div", [value, this.to.ints([denominator])]);
    return offset === 0 ? value : this.to.op("Add", [value, this.to.ints([offset])]);
  }

  /** A name for a size of a result: the axis's own, or its formula. */
  axisName(values: readonly number[]): string | undefined {
    const formula = formulaOf(values, this.free);
    if (!formula) throw refused(this.free, "the shape of a result");
    const { axes, numerator, denominator, offset } = formula;
    if (axes.length === 0) return undefined;
    const product = axes.map(({ name }) => name).join("*");
    const scaled = `${product}${numerator === 1 ? "" : `*${numerator}`}${denominator === 1 ? "" : `/${denominator}`}`;
    return offset === 0 ? scaled : `${scaled}${offset > 0 ? "+" : ""}${offset}`;
  }
}

function equalValues(a: HostArray, b: HostArray): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (!Object.is(a[i], b[i])) return false;
  return true;
}

/** The graph for all sizes, from graphs of the same function at the sizes that `free` tells. @throws ArgumentError where there is none */
export function unitedGraph(
  built: readonly BuiltGraph[],
  free: readonly FreeAxis[],
): Pick<BuiltGraph, "graph" | "inputs" | "results"> {
  const [first] = built as [BuiltGraph];
  const uniting = new Uniting(
    built.map(({ graph }) => graph),
    first.inputs.map(({ name }) => name),
    free,
  );
  const results = first.results.map((result, k): NamedOutput => {
    const value = uniting.value(built.map(({ results }) => results[k]!.name));
    uniting.to.nodes.push({
      ...{ op: "Identity", domain: "", inputs: [value], outputs: [result.name], attributes: {} },
    });
    const sizes = result.shape!.map((_, axis) =>
      uniting.axisName(built.map(({ results }) => results[k]!.shape![axis]!)),
    );
    return { ...result, free: sizes };
  });
  const inputs = first.inputs.map((input): NamedAval => {
    const own = free.filter(({ input: name }) => name === input.name);
    return { ...input, free: input.shape.map((_, axis) => own.find((one) => one.axis === axis)?.name) };
  });
  return { graph: uniting.to, inputs, results };
}
