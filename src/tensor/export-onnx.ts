/** A traced function as an ONNX file. */
import { ArgumentError } from "../errors.ts";
import { loadFiles } from "./eager.ts";
import { lowerGraph } from "./lower.ts";
import { type Capabilities, PLAIN_ONNX } from "./onnx/builder.ts";
import { captured, trace } from "./trace.ts";
import { flatten } from "./tree.ts";

export interface ExportOptions {
  /** Names of the inputs, in the order of the example's leaves; default: their property paths. */
  readonly inputNames?: readonly string[];
  readonly outputNames?: readonly string[];
  /** Operators that the target understands; default: standard ONNX only. */
  readonly capabilities?: Capabilities;
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * Bytes of an ONNX file that computes the function for inputs of the example's shapes. Tensors that the function
 * captures (its weights) are embedded. The file needs no Tweedie to run.
 *
 * @example
 * ```ts
 * const bytes = await exportOnnx((x: Tensor) => model.call(x), [zeros([1, 3, 64, 64])], { inputNames: ["picture"] });
 * await writeFile("model.onnx", bytes);
 * ```
 */
export async function exportOnnx<Args extends unknown[], R>(
  f: (...args: Args) => R,
  example: Args,
  options: ExportOptions = {},
): Promise<Uint8Array> {
  const { def } = flatten(example);
  const { inputs, outputs, resultDef } = trace("exportOnnx", f, example);
  const named =
    (given: readonly string[] | undefined, paths: readonly string[], fallback: string) => (i: number) =>
      given?.[i] ?? (paths[i] ? `${fallback}.${paths[i]}` : fallback);
  for (const t of outputs)
    if (!t.node.op) throw new ArgumentError(`exportOnnx: result ${t} is not computed from the inputs`);
  await loadFiles(captured(outputs));
  return lowerGraph(outputs, {
    capabilities: { ...(options.capabilities ?? PLAIN_ONNX), externalWeights: false },
    inputs,
    data: "embed",
    inputName: named(options.inputNames, def.paths, "input"),
    outputName: named(options.outputNames, resultDef.paths, "output"),
    metadata: options.metadata,
  }).model;
}
