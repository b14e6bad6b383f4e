/** What `tweedie quantize` does. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ArgumentError } from "../../errors.ts";
import { openSafetensors } from "../../io/index.ts";
import {
  linearLayers,
  type PackedOptions,
  packedSchemes,
  quantizationConfig,
  quantizeLayers,
  weightErrors,
  withQuantized,
} from "../../nn/index.ts";
import { loadModel, saveModel } from "../../pipelines/index.ts";
import { loadDiT, saveDiT } from "../../systems/q-dit/model.ts";
import { UsageError } from "../errors.ts";
import { type GivenOptions, readOptions } from "../options.ts";
import { QUANTIZE_OPTIONS } from "./options.ts";

const text = ({ values }: GivenOptions, name: keyof typeof QUANTIZE_OPTIONS): string | undefined => {
  const given = values.get(name);
  const option = QUANTIZE_OPTIONS[name];
  return Array.isArray(given) ? given[0] : "default" in option ? String(option.default) : undefined;
};

function whole(given: GivenOptions, name: "weights" | "activations" | "group"): number {
  const value = Number(text(given, name));
  if (!Number.isInteger(value))
    throw new UsageError(`--${name} needs a whole number, got "${text(given, name)}"`);
  return value;
}

function optionsOf(given: GivenOptions): PackedOptions {
  const exclude = text(given, "exclude");
  let pattern: RegExp | undefined;
  try {
    pattern = exclude === undefined ? undefined : new RegExp(exclude);
  } catch {
    throw new UsageError(`--exclude needs a regular expression, got "${exclude}"`);
  }
  return {
    weights: whole(given, "weights"),
    activations: whole(given, "activations") as 8 | 16,
    group: whole(given, "group"),
    symmetric: given.values.get("symmetric") === true,
    ...(pattern && { exclude: pattern }),
  };
}

async function bytesOfPath(path: string): Promise<number> {
  const found = await stat(path);
  if (found.isFile()) return found.size;
  const names = (await readdir(path)).filter((name) => name.endsWith(".safetensors"));
  const sizes = await Promise.all(names.map(async (name) => (await stat(join(path, name))).size));
  return sizes.reduce((a, b) => a + b, 0);
}

/** Whether a file is a checkpoint of a small DiT, which holds its own configuration. */
async function isSmallDiT(path: string): Promise<boolean> {
  if (!path.endsWith(".safetensors") || !(await stat(path).catch(() => undefined))?.isFile()) return false;
  const file = await openSafetensors(path);
  const format = file.metadata.get("format");
  await file.close();
  return format === "tweedie.dit";
}

const WIDTHS = ["f16", "bf16", "f32"] as const;

/** A model with packed layers, and how well its weights were met. */
async function packed<M extends object>(model: M, options: PackedOptions) {
  const original = linearLayers(model);
  const layers = await quantizeLayers(model, packedSchemes(options));
  return { model: withQuantized(model, layers, "packed"), errors: await weightErrors(layers, original) };
}

/** Reads a model, packs it, writes it. */
async function quantizeFile(path: string, out: string, options: PackedOptions, given: GivenOptions) {
  if (await isSmallDiT(path)) {
    const { model, notes } = await loadDiT(path);
    const result = await packed(model, options);
    const { weights, activations, group } = options;
    await saveDiT(out, result.model, {
      ...notes,
      quantized: `W${weights}A${activations}, groups of ${group}`,
    });
    return result.errors;
  }
  const dtype = text(given, "dtype") as (typeof WIDTHS)[number];
  if (!WIDTHS.includes(dtype)) throw new UsageError(`--dtype needs ${WIDTHS.join(", ")}, got "${dtype}"`);
  const loaded = await loadModel(path);
  const { model, errors } = await packed(loaded.model, options);
  const config = { ...loaded.config, quantization_config: quantizationConfig(model) };
  await saveModel(
    out,
    { ...loaded, model, config },
    { dtype, overwrite: given.values.get("overwrite") === true },
  );
  return errors;
}

/** Runs the command. */
export async function quantize(args: readonly string[]): Promise<void> {
  const given = readOptions(args, QUANTIZE_OPTIONS);
  const path = given.positionals[0]!;
  const out = text(given, "out");
  if (!out) throw new UsageError("--out needs a value: where the quantised model goes");
  if (await isSmallDiT(path)) {
    if (!out.endsWith(".safetensors")) throw new UsageError(`--out needs a file .safetensors, got "${out}"`);
    if ((await stat(out).catch(() => undefined)) && given.values.get("overwrite") !== true)
      throw new ArgumentError(`${out}: is there already; --overwrite replaces it`);
  }
  const options = optionsOf(given);
  const errors = await quantizeFile(path, out, options, given);
  const [before, after] = [await bytesOfPath(path), await bytesOfPath(out)];
  const worst = [...errors].sort((a, b) => a[1] - b[1])[0]!;
  const mean = [...errors.values()].reduce((a, b) => a + b, 0) / errors.size;
  if (given.values.get("json") === true) {
    console.log(
      JSON.stringify({
        out,
        layers: errors.size,
        bytesBefore: before,
        bytesAfter: after,
        decibels: Object.fromEntries(errors),
      }),
    );
    return;
  }
  const mega = (bytes: number): string => `${(bytes / 1e6).toFixed(2)} MB`;
  console.log(
    `${out}: ${errors.size} layers in packed integers, ${mega(before)} before, ${mega(after)} after`,
  );
  console.log(
    `signal-to-noise ratio of the weights: ${mean.toFixed(1)} dB on average, least ${worst[1].toFixed(1)} dB (${worst[0]})`,
  );
}
