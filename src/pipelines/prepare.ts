/** Networks that are built and compared with their weights, but not read yet: so that loading is all or nothing. */
import { blankRng, parameterCount } from "../nn/index.ts";
import type { Config, LoadedModel } from "./components.ts";
import { checkWeights, loadWeights, type ReadOptions } from "./load-weights.ts";
import { networkClass } from "./registry.ts";
import { selected, type WeightSource } from "./weights.ts";

/** A network whose weights have been checked but not read. */
export interface Prepared {
  /** Number of values. */
  readonly size: number;
  load(options: ReadOptions): Promise<LoadedModel>;
  close(): Promise<void>;
}

/**
 * Builds the network of a configuration and compares its names and shapes with the weights. The source is closed with
 * what comes back, or at once when this fails.
 *
 * @throws {FormatError | ArgumentError} for an unknown class, a configuration that cannot be, weights that do not fit
 */
export async function prepare(
  className: string | undefined,
  config: Config,
  source: WeightSource,
  where: string,
): Promise<Prepared> {
  try {
    const network = networkClass(className, where);
    const name = className!; // known, or the line above had thrown
    const module = network.build(config, blankRng);
    const weights = network.modernName ? selected(source, network.modernName) : source;
    checkWeights(module, weights, name);
    return {
      size: parameterCount(module),
      load: async (options) => ({
        className: name,
        config,
        model: await loadWeights(module, weights, name, options),
      }),
      close: () => source.close(),
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Several networks, prepared one after the other; when one fails, those before it are closed. */
export async function prepareAll(
  parts: ReadonlyMap<string, () => Promise<Prepared>>,
): Promise<Map<string, Prepared>> {
  const prepared = new Map<string, Prepared>();
  try {
    for (const [name, part] of parts) prepared.set(name, await part());
  } catch (error) {
    for (const network of prepared.values()) await network.close();
    throw error;
  }
  return prepared;
}

/** Reads prepared networks one after the other, with one count of progress, and closes them. */
export async function loadAll(
  prepared: ReadonlyMap<string, Prepared>,
  options: ReadOptions,
): Promise<Map<string, LoadedModel>> {
  const loaded = new Map<string, LoadedModel>();
  const total = [...prepared.values()].reduce((n, network) => n + network.size, 0);
  let before = 0;
  try {
    for (const [name, network] of prepared) {
      const onProgress = (read: number): void => options.onProgress?.(before + read, total);
      loaded.set(name, await network.load({ ...options, onProgress }));
      before += network.size;
    }
  } finally {
    for (const network of prepared.values()) await network.close();
  }
  return loaded;
}
