/**
 * Builds networks with placeholder parameters and checks their weights before any is read, so that loading is all or
 * nothing.
 */
import { blankRng, type Module, parameterCount, withPackedLayers } from "../nn/index.ts";
import type { LoadedModel } from "./components.ts";
import { checkWeights, loadWeights, type ReadOptions } from "./load-weights.ts";
import type { OpenNetwork } from "./open-pipeline.ts";
import { networkClass } from "./registry.ts";

/** A network with placeholder parameters whose weights are known to fit. */
export interface BuiltNetwork extends OpenNetwork {
  readonly module: Module;
}

/**
 * Builds the network of a configuration and compares its names and shapes with the weights; none is read.
 *
 * @throws {FormatError | ArgumentError} for a configuration that cannot be, or weights that do not fit
 */
export function buildNetwork(network: OpenNetwork): BuiltNetwork {
  const { className, config, weights, where } = network;
  const whole = networkClass(className, where).build(config, blankRng);
  const packing = config.quantization_config;
  const module = packing === undefined || packing === null ? whole : withPackedLayers(whole, packing);
  checkWeights(module, weights, className);
  return { ...network, module };
}

/** Builds all networks, then reads their weights one after the other, with one progress count. */
export async function loadNetworks(
  networks: ReadonlyMap<string, OpenNetwork>,
  options: ReadOptions,
): Promise<Map<string, LoadedModel>> {
  const prepared = [...networks].map(([name, network]) => ({ name, ...buildNetwork(network) }));
  const total = prepared.reduce((n, { module }) => n + parameterCount(module), 0);
  const loaded = new Map<string, LoadedModel>();
  let before = 0;
  for (const { name, className, config, weights, module } of prepared) {
    const onProgress = (read: number): void => options.onProgress?.(before + read, total);
    const model = await loadWeights(module, weights, className, { ...options, onProgress });
    loaded.set(name, { className, config, model });
    before += parameterCount(module);
  }
  return loaded;
}
