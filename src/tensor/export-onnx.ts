/** A traced function as an ONNX file. */
import { ArgumentError } from "../errors.ts";
import { loadFiles } from "./eager.ts";
import { type BuiltGraph, buildGraph } from "./lower.ts";
import { type Capabilities, PLAIN_ONNX } from "./onnx/builder.ts";
import { type FreeAxis, unitedGraph } from "./onnx/free-axes.ts";
import { encodeModel } from "./onnx/model.ts";
import { zeros } from "./ops/create.ts";
import type { Tensor } from "./tensor.ts";
import { captured, trace } from "./trace.ts";
import { flatten, treeMap } from "./tree.ts";

/** Options of `exportOnnx` and `exportOnnxWithWeights`. */
export interface ExportOptions {
  /** Names of the inputs, in the order of the example's leaves; default: their property paths. */
  readonly inputNames?: readonly string[];
  readonly outputNames?: readonly string[];
  /** Operators that the target understands; default: standard ONNX only. */
  readonly capabilities?: Capabilities;
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Axes that may have any size, by input name: `{ picture: { 0: "batch", 2: "height", 3: "width" } }`. Axes of one name
   * have one size. The function is traced at two, three and five times the example's sizes, so it must take those; what it
   * computes may depend on sizes by shapes alone.
   */
  readonly freeAxes?: Readonly<Record<string, Readonly<Record<number, string>>>>;
}

type Free = NonNullable<ExportOptions["freeAxes"]>;

/** Multiples of the example's sizes at which a function of free axes is traced. One is not among them: code may take 1 for "repeat". */
const [TWICE, OTHER, LARGE] = [2, 3, 5];

/** The free axes with their sizes: all twice, each alone three times, all five times. @throws ArgumentError for axes that are none */
function freeAxesOf(free: Free, names: readonly string[], leaves: readonly Tensor[]): FreeAxis[] {
  const all = Object.entries(free).flatMap(([input, axes]) => {
    const leaf = leaves[names.indexOf(input)];
    if (!leaf)
      throw new ArgumentError(`exportOnnx: freeAxes: no input "${input}"; there are ${names.join(", ")}`);
    return Object.entries(axes).map(([axis, name]) => {
      const size = leaf.shape[Number(axis)];
      if (size === undefined)
        throw new ArgumentError(`exportOnnx: freeAxes: "${input}" [${leaf.shape}] has no axis ${axis}`);
      if (!/^[A-Za-z_]\w*$/.test(name))
        throw new ArgumentError(
          `exportOnnx: freeAxes: expected a name for axis ${axis}, got ${JSON.stringify(name)}`,
        );
      return { name, input, axis: Number(axis), size };
    });
  });
  const distinct = [...new Set(all.map(({ name }) => name))];
  return all.map(({ size, ...axis }) => {
    const other = all.find((one) => one.name === axis.name && one.size !== size);
    if (other)
      throw new ArgumentError(
        `exportOnnx: freeAxes: "${axis.name}" is ${size} and ${other.size} in the example`,
      );
    const alone = distinct.map((name) => (name === axis.name ? OTHER : TWICE));
    return { ...axis, sizes: [TWICE, ...alone, LARGE].map((times) => times * size) };
  });
}

/** The function's graph: of the example's sizes, or of all sizes of its free axes. */
async function builtOf<Args extends unknown[], R>(
  f: (...args: Args) => R,
  example: Args,
  options: ExportOptions,
): Promise<Pick<BuiltGraph, "graph" | "inputs" | "results">> {
  const { def, leaves } = flatten(example);
  const named =
    (given: readonly string[] | undefined, paths: readonly string[], fallback: string) => (i: number) =>
      given?.[i] ?? (paths[i] ? `${fallback}.${paths[i]}` : fallback);
  const inputName = named(options.inputNames, def.paths, "input");
  const build = async (args: Args): Promise<BuiltGraph> => {
    const { inputs, outputs, resultDef } = trace("exportOnnx", f, args);
    for (const t of outputs)
      if (!t.node.op) throw new ArgumentError(`exportOnnx: result ${t} is not computed from the inputs`);
    await loadFiles(captured(outputs));
    return buildGraph(outputs, {
      capabilities: { ...(options.capabilities ?? PLAIN_ONNX), externalWeights: false },
      inputs,
      data: "embed",
      inputName,
      outputName: named(options.outputNames, resultDef.paths, "output"),
    });
  };
  if (!options.freeAxes) return build(example);
  const names = leaves.map((_, i) => inputName(i));
  const free = freeAxesOf(options.freeAxes, names, leaves);
  const graphs: BuiltGraph[] = [];
  for (const k of free[0]?.sizes.keys() ?? []) {
    const sized = new Map(
      leaves.map((leaf, i) => {
        const own = free.filter(({ input }) => input === names[i]);
        const shape = leaf.shape.map((d, axis) => own.find((one) => one.axis === axis)?.sizes[k] ?? d);
        return [leaf, zeros(shape, leaf.dtype)] as const;
      }),
    );
    graphs.push(await build(treeMap((leaf) => sized.get(leaf)!, example)));
  }
  return unitedGraph(graphs, free);
}

/**
 * Bytes of an ONNX file that computes the function for inputs of the example's shapes, or of any size along `freeAxes`.
 * Tensors that the function captures (its weights) are embedded. The file needs no Tweedie to run.
 *
 * @throws ArgumentError for results that are no function of the inputs, and for free axes that one graph cannot have
 *
 * @example
 * ```ts
 * const bytes = await exportOnnx((x: Tensor) => model.call(x), [zeros([1, 3, 64, 64])], {
 *   inputNames: ["picture"],
 *   freeAxes: { picture: { 0: "batch" } },
 * });
 * await writeFile("model.onnx", bytes);
 * ```
 */
export async function exportOnnx<Args extends unknown[], R>(
  f: (...args: Args) => R,
  example: Args,
  options: ExportOptions = {},
): Promise<Uint8Array> {
  const { graph, inputs, results } = await builtOf(f, example, options);
  return encodeModel(graph, inputs, results, options.metadata);
}

/** An ONNX model whose weights lie in a file beside it. */
export interface OnnxWithWeights {
  /** To be written beside the weights, under any name. */
  readonly model: Uint8Array;
  /** Parts of the weights' file, in order: `writeFileAtomic` takes them as they are. */
  readonly weights: readonly Uint8Array[];
}

/** Weights begin at multiples of this, so that a runtime can map them. */
const ALIGNMENT = 4096;

/**
 * The same with large constants in a file of their own, `weightsFile`, which the model refers to by that name: for models of
 * more than the 2 GiB that an ONNX file can hold.
 */
export async function exportOnnxWithWeights<Args extends unknown[], R>(
  f: (...args: Args) => R,
  example: Args,
  { weightsFile, ...options }: ExportOptions & { readonly weightsFile: string },
): Promise<OnnxWithWeights> {
  const { graph, inputs, results } = await builtOf(f, example, options);
  const weights: Uint8Array[] = [];
  let end = 0;
  const append = (bytes: Uint8Array): void => {
    weights.push(bytes);
    end += bytes.length;
  };
  const model = encodeModel(graph, inputs, results, options.metadata, (_, bytes) => {
    append(new Uint8Array((ALIGNMENT - (end % ALIGNMENT)) % ALIGNMENT));
    const offset = end;
    append(bytes);
    return { path: weightsFile, offset };
  });
  return { model, weights };
}
