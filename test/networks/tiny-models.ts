/**
 * Small models whose weights and inputs come from a hash of their names, so that nothing is downloaded: outputs and the
 * output of every module, as the reference library computes them, are in `fixtures/networks/models.json`.
 */
import { readFileSync } from "node:fs";
import { expect } from "vitest";
import { mapModules, mapParameters, modules, parameterCount, parameters } from "../../src/nn/index.ts";
import { evaluate, fnv1a32, sizeOf, type Tensor, tensor, treeLeaves } from "../../src/tensor/index.ts";

type Shape = readonly number[];

/** [module, shape of its first output, mean of its absolute values, first three values] in the order of the calls. */
export type TraceEntry = readonly [name: string, shape: Shape, meanAbs: number, first: readonly number[]];

interface TinyOutput {
  readonly shape: Shape;
  readonly sum: number;
  /** All values, f32 little endian in base64. */
  readonly f32le: string;
}

interface FilledInput {
  readonly fill: string;
  readonly shape: Shape;
}

export interface TinyCase {
  readonly config: Record<string, unknown>;
  readonly params: number;
  readonly weightAbsSum: number;
  readonly layout?: Record<string, Shape>;
  readonly inputs: Record<string, FilledInput | number | number[] | number[][]>;
  readonly outputs: Record<string, TinyOutput>;
  readonly trace?: readonly TraceEntry[];
}

const json = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../fixtures/networks/${name}`, import.meta.url), "utf8"));
const { models } = json("models.json") as { models: Record<string, TinyCase> };

/** A case of `models.json`. */
export function tinyCase(name: string): TinyCase {
  const found = models[name];
  if (!found) throw new Error(`no tiny model "${name}"; there are ${Object.keys(models).join(", ")}`);
  return found;
}

/** Checkpoint keys and shapes of an official model: unet_sd15, vae_sd, controlnet_sd15, dit_xl2_256, clip_text_l14. */
export const officialLayout = (name: string): Record<string, Shape> =>
  (json("keys.json") as Record<string, Record<string, Shape>>)[name]!;

/** n values in [-1, 1] that depend on the key alone: a counter in FNV-1a's value, through MurmurHash3's finaliser. */
export function fill(key: string, n: number): Float64Array {
  const start = fnv1a32(key);
  return Float64Array.from({ length: n }, (_, i) => {
    let x = (start + Math.imul(i + 1, 0x9e3779b9)) >>> 0;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b) >>> 0;
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35) >>> 0;
    x = (x ^ (x >>> 16)) >>> 0;
    return (2 * x) / 0xffffffff - 1;
  });
}

function weight(key: string, shape: Shape): Float32Array {
  const raw = fill(key, sizeOf(shape));
  if (shape.length >= 2) {
    const scale = Math.sqrt(3 / sizeOf(shape.slice(1)));
    return Float32Array.from(raw, (v) => v * scale);
  }
  return Float32Array.from(raw, key.endsWith(".weight") ? (v) => 1 + v / 4 : (v) => v / 10);
}

/** The module with the weights that its keys prescribe. */
export const withTinyWeights = <T extends object>(module: T): T =>
  mapParameters(module, (parameter, key) => tensor(weight(key, parameter.shape), { shape: parameter.shape }));

/** An input of a case: from its hash, or the numbers that are given. */
export function tinyInput(tiny: TinyCase, name: string): Tensor {
  const given = tiny.inputs[name];
  if (given === undefined) throw new Error(`the case has no input "${name}"`);
  if (typeof given !== "object" || Array.isArray(given)) return tensor(given);
  const values = Float32Array.from(fill(given.fill, sizeOf(given.shape)), (v) => v * Math.sqrt(3));
  return tensor(values, { shape: given.shape });
}

/** Keys and shapes of all tensors of a module. */
export const layoutOf = (module: object): Record<string, Shape> =>
  Object.fromEntries([...parameters(module)].map(([key, t]) => [key, t.shape]));

/** Names, shapes, count and sum of the weights are those of the case. */
export async function expectTinyLayout(module: object, tiny: TinyCase): Promise<void> {
  if (tiny.layout) expect(layoutOf(module)).toEqual(tiny.layout);
  expect(parameterCount(module)).toBe(tiny.params);
  const all = [...parameters(module).values()];
  await evaluate(all);
  const sums = await Promise.all(
    all.map(async (t) => (await t.toArray()).reduce((s, v) => s + Math.abs(v), 0)),
  );
  const total = sums.reduce((a, b) => a + b, 0);
  expect(Math.abs(total / tiny.weightAbsSum - 1)).toBeLessThan(1e-6);
}

/** All values of an output within `tolerance` of the reference's. */
export async function expectTinyOutput(got: Tensor, tiny: TinyCase, name: string, tolerance: number) {
  const expected = tiny.outputs[name]!;
  expect(got.shape, name).toEqual(expected.shape);
  const bytes = Buffer.from(expected.f32le, "base64");
  const values = await got.toArray();
  const worst = values.reduce((m, v, i) => Math.max(m, Math.abs(v - bytes.readFloatLE(4 * i))), 0);
  expect(worst, `${name}: largest error`).toBeLessThan(tolerance);
}

/** What every module of a network gave, by key; a module that is called twice has two entries. */
export type Recording = Map<string, Tensor[]>;

/** A copy of a network whose modules record their (first) outputs when they are called. Not for use inside `jit`. */
export function recorded<T>(network: T): { network: T; recording: Recording } {
  const copy = mapModules(network, (module) => module);
  const recording: Recording = new Map();
  for (const [key, module] of modules(copy)) {
    const { call } = module as unknown as { call?: (...args: unknown[]) => unknown };
    if (!call) continue;
    const value = (...args: unknown[]): unknown => {
      const out = call.apply(module, args);
      const list = recording.get(key) ?? [];
      recording.set(key, [...list, treeLeaves(out)[0]!]);
      return out;
    };
    Object.defineProperty(module, "call", { value });
  }
  return { network: copy, recording };
}

/**
 * The first module whose output is not that of the trace, described, or undefined. `skip` says which names of the trace
 * have no module here (activations, dropout of rate zero); any other name that is missing counts as bad.
 */
export async function firstBadLayer(
  trace: readonly TraceEntry[],
  recording: Recording,
  { tolerance, skip }: { tolerance: number; skip: RegExp },
): Promise<string | undefined> {
  await evaluate([...recording.values()].flat());
  const seen = new Map<string, number>();
  for (const [name, shape, meanAbs, first] of trace) {
    const call = seen.get(name) ?? 0;
    seen.set(name, call + 1);
    const got = recording.get(name)?.[call];
    if (!got) {
      if (skip.test(name)) continue;
      return `${name}: no such module was called`;
    }
    if (got.shape.join() !== shape.join()) return `${name}: expected shape [${shape}], got [${got.shape}]`;
    const values = await got.toArray();
    const mean = values.reduce((sum, v) => sum + Math.abs(v), 0) / values.length;
    const pairs = [[mean, meanAbs], ...first.map((v, i) => [values[i]!, v])] as [number, number][];
    const bad = pairs.find(([a, b]) => !(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(b))));
    if (bad) return `${name}: mean |x| ${mean}, first ${values.slice(0, 3)}; expected ${meanAbs}, ${first}`;
  }
  return undefined;
}
