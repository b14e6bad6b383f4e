/** Low-rank adaptation of trained layers (Hu et al. 2021). */
import { ArgumentError, TreeError } from "../../errors.ts";
import { matmul, type Tensor, treeMap, zeros } from "../../tensor/index.ts";
import { blankRng, type Initializer, type Rng, uniformFanIn } from "../init.ts";
import { Module, mapModules, mapParameters, modules, parameters, withFields } from "../module.ts";
import { Conv } from "./conv.ts";
import { Linear } from "./linear.ts";

const freeze = <T>(tree: T): T => treeMap((t) => t.stopGradient(), tree);

/** A frozen layer plus `scale up(down(x))`, where `down` leads to few channels and `up` back. */
export class Lora extends Module {
  readonly base: Linear | Conv;
  readonly down: Linear | Conv;
  readonly up: Linear | Conv;
  readonly scale: number;

  constructor(base: Linear | Conv, rank: number, alpha: number, rng: Rng, init: Initializer = uniformFanIn) {
    super();
    const [out, input] = base.weight.shape as [number, number];
    this.base = base;
    const zero = (_: Rng, shape: readonly number[]): Tensor => zeros(shape);
    if (base instanceof Conv) {
      if (base.groups !== 1)
        throw new ArgumentError(`Lora: a Conv with ${base.groups} groups is not supported`);
      const kernel = base.weight.shape.slice(2);
      this.down = new Conv(input, rank, kernel, rng, { ...base, bias: false, init });
      this.up = new Conv(
        rank,
        out,
        kernel.map(() => 1),
        blankRng,
        { bias: false, init: zero },
      );
    } else {
      this.down = new Linear(input, rank, rng, { bias: false, init });
      this.up = new Linear(rank, out, blankRng, { bias: false, init: zero });
    }
    this.scale = alpha / rank;
  }

  /** The layer's output and the adapter's. */
  call(x: Tensor): Tensor {
    return freeze(this.base)
      .call(x)
      .add(this.up.call(this.down.call(x)).mul(this.scale));
  }

  /** The weight that does the same in one layer. */
  get weight(): Tensor {
    const { base, down, up } = this;
    const rank = down.weight.shape[0]!;
    const change = matmul(up.weight.reshape([-1, rank]), down.weight.reshape([rank, -1]), {
      alpha: this.scale,
    });
    return base.weight.stopGradient().add(change.reshape(base.weight.shape));
  }

  get bias(): Tensor | undefined {
    return this.base.bias?.stopGradient();
  }

  /** The one layer that does the same. */
  merged(): Linear | Conv {
    return withFields<Linear | Conv>(this.base, { weight: this.weight });
  }
}

/** Options of `addLora`. */
export interface LoraOptions {
  readonly rank: number;
  /** The change is scaled by alpha / rank. Default: rank. */
  readonly alpha?: number;
  /** Which layers to adapt, by checkpoint key such as `mid_block.attentions.0.to_q`. */
  readonly match: RegExp | ((key: string, layer: Linear | Conv) => boolean);
  readonly rng: Rng;
  /** Of the matrices that lead down; those that lead up are 0. Default: `uniformFanIn`. */
  readonly init?: Initializer;
}

/**
 * A new module whose matching layers are adapted. It computes the same until the adapters are trained. Layers that are
 * adapted already stay as they are. Throws `ArgumentError` when nothing matches.
 *
 * @example
 * ```ts
 * const adapted = addLora(model, { rank: 4, match: /to_q|to_v/, rng: createRng(0) });
 * const adapters = loraParameters(adapted); // what is trained and saved
 * const merged = mergeLora(withLoraParameters(adapted, adapters));
 * ```
 */
export function addLora<T extends object>(module: T, options: LoraOptions): T {
  const { rank, alpha = rank, match, rng, init } = options;
  if (!Number.isInteger(rank) || rank < 1)
    throw new ArgumentError(`addLora: rank must be a positive integer, got ${rank}`);
  const matches = typeof match === "function" ? match : (key: string) => key.search(match) >= 0;
  let count = 0;
  const adapted = mapModules(module, (layer, key) => {
    if (layer instanceof Lora) return withFields(layer, {}); // a copy: nothing inside it is looked at
    if (!(layer instanceof Linear || layer instanceof Conv) || !matches(key, layer)) return layer;
    count++;
    return new Lora(layer, rank, alpha, rng, init);
  });
  if (count === 0) throw new ArgumentError(`addLora: no Linear or Conv matches ${match}`);
  return adapted;
}

/** A new module with every adapter folded into its layer, of the structure it had before `addLora`. */
export function mergeLora<T extends object>(module: T): T {
  return mapModules(module, (layer) => (layer instanceof Lora ? layer.merged() : layer));
}

/** A new module without its adapters: the layers as they were before `addLora`. Weights are shared. */
export const withoutLora = <T extends object>(module: T): T =>
  mapModules(module, (layer) => (layer instanceof Lora ? layer.base : layer));

/** Keys of the tensors that belong to adapters. */
function adapterKeys(module: object): Set<string> {
  const keys = [...modules(module)].flatMap(([at, layer]) => {
    if (!(layer instanceof Lora)) return [];
    const { down, up } = layer;
    return [...parameters({ down, up }).keys()].map((key) => (at ? `${at}.${key}` : key));
  });
  return new Set(keys);
}

/** The adapters alone, by key: a tree to differentiate, train and save. */
export function loraParameters(module: object): Record<string, Tensor> {
  const keys = adapterKeys(module);
  return Object.fromEntries([...parameters(module)].filter(([key]) => keys.has(key)));
}

/** The module with other adapters, for example with those that are being trained. Throws `TreeError` unless the keys are the same. */
export function withLoraParameters<T extends object>(
  module: T,
  adapters: Readonly<Record<string, Tensor>>,
): T {
  const keys = adapterKeys(module);
  const given = new Set(Object.keys(adapters));
  const missing = [...keys].filter((key) => !given.has(key));
  const unexpected = [...given].filter((key) => !keys.has(key));
  if (missing.length + unexpected.length > 0) {
    throw new TreeError(
      `withLoraParameters: missing [${missing.join(", ")}], unexpected [${unexpected.join(", ")}]`,
    );
  }
  return mapParameters(module, (value, key) => adapters[key] ?? value);
}
