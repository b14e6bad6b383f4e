/** The description of packed layers in a checkpoint, from which a network is built to load them into. */
import { ArgumentError, FormatError } from "../../errors.ts";
import { zeros } from "../../tensor/index.ts";
import { Linear } from "../layers/linear.ts";
import { modules } from "../module.ts";
import { replaceLayers } from "./model.ts";
import { blockSizeFor, IntegerLinear, PackedLinear } from "./packed.ts";

/** A packed layer without its values. */
export interface PackedDescription {
  readonly bits: 4 | 8;
  readonly block: number;
  /** Whether the layer has zero points of its own. */
  readonly zeros: boolean;
  /** 8: rounded by the kernel; 16: floats. */
  readonly activations: 8 | 16;
}

/** The entry `quantization_config` of a model's configuration. */
export interface QuantizationConfig {
  readonly quant_method: "tweedie";
  readonly layers: Readonly<Record<string, PackedDescription | { readonly activations: "tensor" | "token" }>>;
}

/** Describes the packed layers of a model. Throws `ArgumentError` when there are none. */
export function quantizationConfig(model: object): QuantizationConfig {
  const layers: Record<string, QuantizationConfig["layers"][string]> = {};
  for (const [key, layer] of modules(model)) {
    if (layer instanceof PackedLinear) {
      const { bits, blockSize: block, zeroPoints, activations } = layer;
      layers[key] = { bits, block, zeros: !!zeroPoints, activations };
    } else if (layer instanceof IntegerLinear) layers[key] = { activations: layer.activations };
  }
  if (Object.keys(layers).length === 0)
    throw new ArgumentError("quantizationConfig: the model has no packed layers");
  return { quant_method: "tweedie", layers };
}

/** Checks what a file says. Throws `FormatError` naming the layer. */
function checkDescription(key: string, value: unknown): QuantizationConfig["layers"][string] {
  const d = (value ?? {}) as Partial<Record<"bits" | "block" | "zeros" | "activations", unknown>>;
  if (d.activations === "tensor" || d.activations === "token") return { activations: d.activations };
  const { bits, block, zeros: own, activations } = d;
  const legal =
    (bits === 4 || bits === 8) &&
    [16, 32, 64, 128, 256].includes(block as number) &&
    typeof own === "boolean" &&
    (activations === 8 || activations === 16);
  if (!legal) throw new FormatError(`quantization_config: layer "${key}" is ${JSON.stringify(value)}`);
  return { bits, block: block as number, zeros: own, activations };
}

/** A packed layer of zeros in the place of a linear one. */
function blankPacked(layer: Linear, key: string, described: QuantizationConfig["layers"][string]): object {
  const [n, k] = layer.weight.shape as [number, number];
  if (!("bits" in described)) {
    const codes = { codes: new Int8Array(n * k), scales: new Float32Array(n) };
    return new IntegerLinear(codes, layer.bias, described.activations);
  }
  const { bits, block: blockSize, zeros: own, activations } = described;
  if (k % blockSize !== 0 || blockSizeFor(blockSize) !== blockSize)
    throw new FormatError(
      `quantization_config: blocks of ${blockSize} do not divide the ${k} inputs of "${key}"`,
    );
  const blocks = k / blockSize;
  const arrays = {
    layout: { k, n, bits, blockSize },
    codes: new Uint8Array((n * k * bits) / 8),
    scales: new Float32Array(n * blocks),
    zeros: own ? new Uint8Array(n * Math.ceil((blocks * bits) / 8)) : undefined,
  };
  const bias = layer.bias && zeros(layer.bias.shape);
  return new PackedLinear(arrays, bias, activations);
}

/**
 * A network whose linear layers are packed as a configuration says, to load a checkpoint into. Throws `FormatError` for
 * another method, layers that are not there, or sizes that do not fit.
 */
export function withPackedLayers<M extends object>(model: M, config: unknown): M {
  const { quant_method: method, layers } = (config ?? {}) as Partial<QuantizationConfig>;
  if (method !== "tweedie" || typeof layers !== "object" || layers === null)
    throw new FormatError(
      `quantization_config: expected the method "tweedie", got ${JSON.stringify(method)}`,
    );
  const known = modules(model);
  const replaced = new Map<string, object>();
  for (const [key, value] of Object.entries(layers)) {
    const layer = known.get(key);
    if (!(layer instanceof Linear))
      throw new FormatError(`quantization_config: "${key}" is no linear layer of the network`);
    replaced.set(key, blankPacked(layer, key, checkDescription(key, value)));
  }
  return replaceLayers(model, replaced);
}
