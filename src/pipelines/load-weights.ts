/**
 * Loads weights into a module: names and shapes are compared first, by the header alone; then values are read one by
 * one.
 */
import { AbortError, FormatError } from "../errors.ts";
import type { HostTensor } from "../io/index.ts";
import { mapParameters, parameters } from "../nn/index.ts";
import { cast, convertHost, type DType, fromHost, type Tensor } from "../tensor/index.ts";
import type { WeightEntry, WeightSource } from "./weights.ts";

/** How weights are read. */
export interface ReadOptions {
  /**
   * `stored` (the default): f16 weights stay f16 in memory and are widened where they are used, which halves the
   * memory. `f32`: widened once, which saves a few percent of the time of every step.
   */
  readonly precision?: "stored" | "f32";
  readonly signal?: AbortSignal;
  /** Called with the number of values read so far and in all. */
  readonly onProgress?: (read: number, total: number) => void;
}

const FLOATS = new Set(["F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"]);
/** Codes of packed layers, which are taken as they are. */
const CODES: Readonly<Partial<Record<DType, string>>> = { u8: "U8", i8: "I8" };
/** Problems that one error lists. */
const LISTED = 20;

/** Names that no network uses: buffers of diffusers. */
const BUFFER = /(?:^|\.)(?:position_ids|num_batches_tracked)$/;

const shownEntry = ({ dtype, shape }: WeightEntry): string => `${dtype} [${shape.join(", ")}]`;
const shownTensor = (t: Tensor): string => `[${t.shape.join(", ")}]`;

/** Whether a parameter can be filled with what an entry holds. */
const fits = (parameter: Tensor, { dtype, shape }: WeightEntry): boolean =>
  String(shape) === String(parameter.shape) &&
  (CODES[parameter.dtype] ? dtype === CODES[parameter.dtype] : FLOATS.has(dtype));

function problemsOf(expected: ReadonlyMap<string, Tensor>, source: WeightSource): string[] {
  const problems: string[] = [];
  for (const [name, parameter] of expected) {
    const entry = source.entries.get(name);
    if (!entry) problems.push(`missing "${name}": expected ${shownTensor(parameter)}`);
    else if (!fits(parameter, entry))
      problems.push(`wrong "${name}": expected ${shownTensor(parameter)}, got ${shownEntry(entry)}`);
  }
  for (const [name, entry] of source.entries)
    if (!expected.has(name) && !BUFFER.test(name))
      problems.push(`unexpected "${name}": got ${shownEntry(entry)}`);
  return problems;
}

/** Throws one `FormatError` that lists problems by name, when there are any. */
export function refuse(path: string, what: string, problems: readonly string[]): void {
  if (problems.length === 0) return;
  const listed = problems.slice(0, LISTED);
  if (problems.length > LISTED) listed.push(`… and ${problems.length - LISTED} more`);
  const count = `${problems.length} problem${problems.length > 1 ? "s" : ""}`;
  throw new FormatError(
    `${path}: the weights do not fit ${what}: ${count}, nothing was loaded:\n  ${listed.join("\n  ")}`,
  );
}

/** Compares names and shapes of a source with those of a module; no value is read. @throws {FormatError} listing what differs */
export const checkWeights = (module: object, source: WeightSource, what: string): void =>
  refuse(source.path, what, problemsOf(parameters(module), source));

/** A weight as a parameter of the module. */
function asParameter({ dtype, shape, data }: HostTensor, as: DType, precision: "stored" | "f32"): Tensor {
  if (dtype === "f16" && precision === "stored") return cast(fromHost(dtype, shape, data), as);
  return fromHost(as, shape, convertHost(data, dtype, as));
}

/**
 * The module with the weights of a source. All or nothing: throws one `FormatError` that lists missing, unexpected and
 * mis-shaped names before any value is read.
 *
 * @param what the module's name in messages
 */
export async function loadWeights<T extends object>(
  module: T,
  source: WeightSource,
  what: string,
  { precision = "stored", signal, onProgress }: ReadOptions = {},
): Promise<T> {
  checkWeights(module, source, what);
  const expected = parameters(module);
  const total = [...expected.values()].reduce((n, t) => n + t.size, 0);
  const loaded = new Map<string, Tensor>();
  let done = 0;
  // In the order of the file, so that it is read once from front to back.
  for (const name of source.entries.keys()) {
    const parameter = expected.get(name);
    if (!parameter) continue;
    if (signal?.aborted) throw new AbortError();
    loaded.set(name, asParameter(await source.read(name), parameter.dtype, precision));
    done += parameter.size;
    onProgress?.(done, total);
  }
  return mapParameters(module, (_, name) => loaded.get(name)!);
}
