/** What `tweedie quantize` does: reads a network, packs it, writes it, and measures what was written. */
import { readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { schedulerFromConfig } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { openSafetensors } from "../../io/index.ts";
import { openFeatureNetwork } from "../../metrics/index.ts";
import { DiTTransformer2DModel } from "../../networks/index.ts";
import {
  isQuantized,
  linearLayers,
  type Module,
  modules,
  packedSchemes,
  quantizationConfig,
  quantizeLayers,
  weightErrors,
  withQuantized,
} from "../../nn/index.ts";
import { loadModel, resolveModelPath, saveModel } from "../../pipelines/index.ts";
import { fileFingerprint, fingerprint, mean } from "../../study/index.ts";
import { readPictures } from "../../systems/q-dit/data.ts";
import { ditFile } from "../../systems/q-dit/model.ts";
import { checkPredictions, quantizeOwn } from "../../systems/q-dit/quantize.ts";
import type { Running } from "../../systems/q-dit/trajectories.ts";
import { shippedFile } from "../../systems/shipped.ts";
import type { ActionContext, ActionResult } from "../../systems/system.ts";
import type { Table, Work } from "../../work.ts";
import { UsageError } from "../errors.ts";
import type { QuantizeOptions } from "./options.ts";

/** Weight files of a network, in order. */
async function weightFiles(path: string): Promise<string[]> {
  if ((await stat(path)).isFile()) return [path];
  const names = (await readdir(path)).filter((name) => name.endsWith(".safetensors")).sort();
  return names.map((name) => join(path, name));
}

/** What the files of a network hold: all bytes, and the tensors of floats outside of packed layers. */
async function weighed(path: string, packed: ReadonlySet<string> = new Set()) {
  let [bytes, floats, floatBytes] = [0, 0, 0];
  for (const name of await weightFiles(path)) {
    bytes += (await stat(name)).size;
    const file = await openSafetensors(name);
    for (const [key, entry] of file.entries) {
      if (packed.has(key.replace(/\.(weight|scales|zero_points)$/, "")) && !key.endsWith(".bias")) continue;
      floats++;
      floatBytes += entry.bytes;
    }
    await file.close();
  }
  return { bytes, floats, floatBytes };
}

/** Whether a file is a checkpoint of a small DiT, which holds its own configuration. */
async function isSmallDiT(path: string): Promise<boolean> {
  if (!path.endsWith(".safetensors") || !(await stat(path).catch(() => undefined))?.isFile()) return false;
  const file = await openSafetensors(path);
  const { metadata } = file;
  await file.close();
  return ditFile.matches(metadata);
}

/** A network in its file, and how its like is written and read. `origin` says how it was made: plain data. */
interface Opened {
  readonly model: Module;
  readonly save: (packed: Module, origin: object) => Promise<void>;
  readonly read: () => Promise<Module>;
}

async function openSmall(path: string, { out, dtype, overwrite }: QuantizeOptions): Promise<Opened> {
  if (!out.endsWith(".safetensors")) throw new UsageError(`--out needs a file .safetensors, got "${out}"`);
  if ((await stat(out).catch(() => undefined)) && !overwrite)
    throw new ArgumentError(`${out}: is there already; --overwrite replaces it`);
  const { model, notes } = await ditFile.load(path);
  return {
    model,
    save: (packed, origin) =>
      ditFile.save(
        out,
        packed as DiTTransformer2DModel,
        { ...notes, quantized: JSON.stringify(origin) },
        dtype,
      ),
    read: async () => (await ditFile.load(out)).model,
  };
}

async function openNetwork(path: string, { out, dtype, overwrite }: QuantizeOptions): Promise<Opened> {
  const loaded = await loadModel(path);
  return {
    model: loaded.model,
    save(model, origin) {
      const config = { ...loaded.config, quantization_config: { ...quantizationConfig(model), origin } };
      return saveModel(out, { ...loaded, model, config }, { dtype, overwrite });
    },
    read: async () => (await loadModel(out)).model,
  };
}

/** The schedule of the pipeline that a transformer's folder lies in. Variances that were learned are not sampled with. */
async function pipelineSchedule(path: string): Promise<Running["scheduler"]> {
  const { readConfig, SCHEDULER_NAME } = await import("../../pipelines/model-files.ts");
  const file = join(dirname(path), "scheduler", SCHEDULER_NAME);
  if (!(await stat(file).catch(() => undefined))) return undefined;
  const { variance_type: _, ...config } = await readConfig(file);
  return (steps) => schedulerFromConfig(config, { steps });
}

const METHOD_OPTIONS = {
  nearest: ["symmetric", "shrink", "exclude"],
  "q-dit": [
    ...["search", "budget", "population", "generations", "data", "pictures", "samples", "steps", "guidance"],
  ],
} as const;

/** Options without effect are refused. */
function checkCombination(o: QuantizeOptions): void {
  const refuse = (names: readonly string[], why: string): void => {
    const given = names.find((name) => ![undefined, false].includes(o[name as "search"]));
    if (given) throw new UsageError(`--${given} ${why}`);
  };
  if (o.method === "nearest") refuse(METHOD_OPTIONS["q-dit"], "is for --method q-dit");
  else refuse(METHOD_OPTIONS.nearest, "is for --method nearest");
  if (!o.search) refuse(["budget", "population", "generations", "data"], "is for --search");
  if (o.search) refuse(["group"], "cannot go with --search, which finds the sizes; --budget bounds them");
  if (!o.data) refuse(["pictures"], "needs --data");
  if (o.method === "nearest" && o.group?.includes(","))
    throw new UsageError(`--group takes one size with --method nearest, got "${o.group}"`);
}

/** A packed model and how it was made: plain data. */
interface Packed {
  readonly model: Module;
  readonly origin: object;
  readonly bitOperations?: { readonly packed: number; readonly budget: number };
}

function patternOf(text: string | undefined): RegExp | undefined {
  try {
    return text === undefined ? undefined : new RegExp(text);
  } catch {
    throw new UsageError(`--exclude needs a regular expression, got "${text}"`);
  }
}

async function toNearest(model: Module, o: QuantizeOptions): Promise<Packed> {
  const { weights, symmetric, shrink } = o;
  const [activations, group, exclude] = [
    o.activations as 8 | 16,
    Number(o.group ?? 64),
    patternOf(o.exclude),
  ];
  const options = { weights, activations, group, symmetric, shrink };
  const layers = await quantizeLayers(model, packedSchemes({ ...options, ...(exclude && { exclude }) }));
  return { model: withQuantized(model, layers, "packed"), origin: { ...options, exclude: o.exclude } };
}

async function* byQDiT(model: Module, o: QuantizeOptions, running: Running): Work<Packed> {
  if (!(model instanceof DiTTransformer2DModel))
    throw new ArgumentError(`${o.model}: --method q-dit is for diffusion transformers with classes (DiT)`);
  const { samples = 256, steps = 50, guidance = 1.5, seed } = o;
  const { budget = 64, population = 16, generations = 6, pictures = 500 } = o;
  const bits = { weights: o.weights, activations: o.activations as 8 | 16 };
  const calibration = { samples, steps, guidance, seed };
  const search = { budget, population, generations };
  const sizes = (o.group ?? "64").split(",").map(Number);
  const judged = o.data && {
    judge: (await openFeatureNetwork(await shippedFile("checkpoints/fashion-features.safetensors"))).network,
    real: await readPictures(o.data, "test"),
    pictures,
  };
  const { packed, groups, found, bitOperations } = yield* quantizeOwn(model, {
    ...{ bits, search, calibration, ...running },
    groups: o.search ? undefined : sizes.length === 1 ? sizes[0]! : sizes,
    ...(judged && { judged }),
  });
  const judge = judged ? `distance of ${pictures} pictures` : "error of predictions";
  const searched = found && { ...search, judge, fitness: found.fitness, history: found.history };
  if (found) {
    const { uniform, best, random } = found.fitness;
    const values = Object.entries({ uniform, searched: best, "as many at random": random });
    const told = values.map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", ");
    yield { type: "message", text: `group sizes ${found.best.join(",")}; ${judge}: ${told}` };
  }
  return { model: packed, origin: { ...bits, groups, calibration, search: searched }, bitOperations };
}

const text = (decibels: number): string => (Number.isFinite(decibels) ? decibels.toFixed(1) : "exact");

/** Errors of the weights by kinds of layers: mean and least of those that were rounded at all. */
function errorTable(model: Module, errors: ReadonlyMap<string, number>): Table {
  const kinds = new Map<string, [string, number][]>();
  for (const [key, described] of Object.entries(quantizationConfig(model).layers)) {
    const kind =
      "bits" in described
        ? `${described.bits}-bit codes in blocks of ${described.block}, inputs of ${described.activations} bits`
        : "bytes";
    kinds.set(kind, [...(kinds.get(kind) ?? []), [key, errors.get(key)!]]);
  }
  return {
    columns: ["layers", "number", "mean dB", "least dB", "of"],
    rows: [...kinds].map(([kind, layers]) => {
      const rounded = layers.filter(([, decibels]) => Number.isFinite(decibels));
      const [worst, least] = [...rounded].sort((a, b) => a[1] - b[1])[0] ?? ["", Number.POSITIVE_INFINITY];
      const average = rounded.length > 0 ? mean(rounded.map(([, decibels]) => decibels)) : least;
      return [kind, layers.length, text(average), text(least), worst];
    }),
  };
}

const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;

/** Quantises a network from file to file. */
export async function* quantizeNetwork(o: QuantizeOptions, { signal }: ActionContext): Work<ActionResult> {
  checkCombination(o);
  const path = await resolveModelPath(o.model);
  const small = await isSmallDiT(path);
  const opened = await (small ? openSmall : openNetwork)(path, o);
  const original = linearLayers(opened.model);
  const { threads, seed, method, out } = o;
  const running: Running = { threads, signal, scheduler: small ? undefined : await pipelineSchedule(path) };
  const before = (await weighed(path)).bytes;
  const hashes = await Promise.all((await weightFiles(path)).map(fileFingerprint));
  const packed =
    method === "q-dit" ? yield* byQDiT(opened.model, o, running) : await toNearest(opened.model, o);
  await opened.save(packed.model, { method, ...packed.origin, seed, source: fingerprint(hashes) });
  yield { type: "file", path: out, about: "the packed model" };

  const written = await opened.read();
  const errors = await weightErrors(written, original);
  const { bytes, floats, floatBytes } = await weighed(out, new Set(errors.keys()));
  const table = errorTable(written, errors);
  yield { type: "table", title: "Weights as they were written, signal to noise", table };
  const draws = opened.model instanceof DiTTransformer2DModel && (small || method === "q-dit");
  const decibels = draws
    ? await checkPredictions(
        opened.model as DiTTransformer2DModel,
        written as DiTTransformer2DModel,
        seed,
        running,
      )
    : undefined;
  const count = [...modules(written).values()].filter(isQuantized).length;
  const sentences = [
    `${out}: ${count} layers in packed integers, ${floats} tensors in floats (${mega(floatBytes)}); ${mega(before)} before, ${mega(bytes)} after`,
    ...(decibels === undefined
      ? []
      : [`predictions: ${decibels.toFixed(1)} dB to the model that it was packed from`]),
  ];
  const rounded = [...errors].filter(([, value]) => Number.isFinite(value));
  return {
    summary: `${sentences.join(". ")}.`,
    metrics: {
      ...{ layers: count, bytesBefore: before, bytesAfter: bytes, floatTensors: floats, floatBytes },
      ...(decibels !== undefined && { predictionDecibels: decibels }),
      ...(packed.bitOperations && {
        bitOperations: packed.bitOperations.packed,
        bitOperationsOfBudget: packed.bitOperations.budget,
      }),
      ...Object.fromEntries(rounded.map(([key, value]) => [`decibels of ${key}`, value])),
    },
  };
}
