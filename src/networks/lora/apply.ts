/** Attaches adapters beside a network's layers, to be trained, or merges them into its weights. */
import { ArgumentError } from "../../errors.ts";
import {
  blankRng,
  type Conv,
  type Linear,
  Lora,
  type Module,
  mapModules,
  withFields,
} from "../../nn/index.ts";
import { cast, castHost, fromHost, matmul, type Tensor } from "../../tensor/index.ts";
import { adaptableLayers, COMPONENTS, type LoraComponent, type LoraTargets } from "./names.ts";
import type { LoraAdapter, LoraAdapters } from "./read.ts";

/** Adapters and their scale. */
export interface WeightedLora {
  readonly adapters: LoraAdapters;
  /** Factor of the change, for all networks or by network. Default 1; negative numbers take the change away. */
  readonly weight?: number | { readonly [C in LoraComponent]?: number };
}

/** One adapter of a layer with the factor of its product. */
interface Change {
  readonly down: Tensor;
  readonly up: Tensor;
  readonly scale: number;
}

/** Changes by layer. Throws `ArgumentError` for factors that are not finite and layers that the network does not have. */
function changesOf(
  component: LoraComponent,
  module: Module,
  loras: readonly WeightedLora[],
): Map<string, Change[]> {
  const layers = adaptableLayers(module);
  const changes = new Map<string, Change[]>();
  for (const { adapters, weight = 1 } of loras) {
    const factor = typeof weight === "number" ? weight : (weight[component] ?? 1);
    if (!Number.isFinite(factor)) throw new ArgumentError(`LoRA: expected a finite weight, got ${factor}`);
    for (const [key, { down, up, alpha }] of adapters[component] ?? []) {
      if (!layers.has(key)) throw new ArgumentError(`LoRA: the ${component} has no layer "${key}"`);
      if (factor === 0) continue;
      const change = { down, up, scale: (factor * alpha) / down.shape[0]! };
      changes.set(key, [...(changes.get(key) ?? []), change]);
    }
  }
  return changes;
}

/** The targets, with `f` applied to each network that is there. */
function mapTargets<T extends LoraTargets>(
  targets: T,
  f: (component: LoraComponent, module: Module) => Module,
): T {
  const there = COMPONENTS.filter((component) => targets[component]);
  return { ...targets, ...Object.fromEntries(there.map((c) => [c, f(c, targets[c]!)])) };
}

/** A layer and its adapter, of the precision of the layer. */
function adapted(base: Linear | Conv, { down, up, scale }: Change): Lora {
  const lora = new Lora(base, down.shape[0]!, 1, blankRng);
  const { dtype } = base.weight;
  const kernel = base.weight.shape.slice(1);
  return withFields<Lora>(lora, {
    down: withFields<Linear | Conv>(lora.down, { weight: cast(down, dtype).reshape([-1, ...kernel]) }),
    up: withFields<Linear | Conv>(lora.up, { weight: cast(up, dtype).reshape(lora.up.weight.shape) }),
    scale,
  });
}

/** Several changes as one: their ranks add up. */
function joined(changes: readonly Change[]): Change {
  if (changes.length === 1) return changes[0]!;
  const [down, ...downs] = changes.map((change) => change.down) as [Tensor, ...Tensor[]];
  const [up, ...ups] = changes.map((change) => change.up.mul(change.scale)) as [Tensor, ...Tensor[]];
  return { down: down.concat(downs, 0), up: up.concat(ups, 1), scale: 1 };
}

/**
 * Networks with adapters beside their layers (`Lora` of `nn`), which can be trained and taken out again. Adapters that
 * are there already stay. Weights of the networks are shared, not copied.
 */
export function attachLoras<T extends LoraTargets>(targets: T, loras: readonly WeightedLora[]): T {
  return mapTargets(targets, (component, module) => {
    const changes = changesOf(component, module, loras);
    if (changes.size === 0) return module;
    return mapModules(module, (layer, key) => {
      const added = changes.get(key);
      if (layer instanceof Lora) {
        if (!added) return withFields(layer, {}); // a copy: nothing inside it is looked at
        const { base, scale } = layer;
        const [down, up] = [cast(layer.down.weight, "f32"), cast(layer.up.weight, "f32")];
        return adapted(base, joined([{ down, up, scale }, ...added]));
      }
      return added ? adapted(layer as Linear | Conv, joined(added)) : layer;
    });
  });
}

/** The weight with all changes added, in f32 and rounded once. Factors are multiplied in on the host: no graph for each. */
async function fusedWeight(weight: Tensor, changes: readonly Change[]): Promise<Tensor> {
  const ups = await Promise.all(
    changes.map(async ({ up, scale }) => {
      const values = (await castHost(up, "f32").then((t) => t.data())) as Float32Array;
      return fromHost(
        "f32",
        [up.shape[0]!, up.shape[1]!],
        values.map((v) => v * scale),
      );
    }),
  );
  const downs = changes.map(({ down }) => down.reshape([down.shape[0]!, -1]));
  const [up, down] = [ups[0]!.concat(ups.slice(1), 1), downs[0]!.concat(downs.slice(1), 0)];
  const change = matmul(up, down).reshape(weight.shape);
  const fused = await cast(weight, "f32").add(change).eval();
  return weight.dtype === "f32" ? fused : castHost(fused, weight.dtype);
}

/**
 * Networks with adapters folded into their weights: they run as fast as before. Layer by layer, so that at most the
 * changed weights are in memory twice. What `attachLoras` put beside a layer stays there.
 */
export async function fuseLoras<T extends LoraTargets>(
  targets: T,
  loras: readonly WeightedLora[],
): Promise<T> {
  const fused = new Map<Linear | Conv, Linear | Conv>();
  for (const component of COMPONENTS) {
    const module = targets[component];
    if (!module) continue;
    const layers = adaptableLayers(module);
    for (const [key, changes] of changesOf(component, module, loras)) {
      const layer = layers.get(key)!;
      fused.set(
        layer,
        withFields<Linear | Conv>(layer, { weight: await fusedWeight(layer.weight, changes) }),
      );
    }
  }
  return mapTargets(targets, (_, module) =>
    mapModules(module, (layer) => fused.get(layer as Linear | Conv) ?? layer),
  );
}

/** The adapters that sit beside a network's layers, by key: what training has made, ready to be written. */
export function attachedAdapters(module: Module): Map<string, LoraAdapter> {
  const found = new Map<string, LoraAdapter>();
  mapModules(module, (layer, key) => {
    if (!(layer instanceof Lora)) return layer;
    const { down, up, scale } = layer;
    found.set(key, { down: down.weight, up: up.weight, alpha: scale * down.weight.shape[0]! });
    return withFields(layer, {}); // a copy: nothing inside it is looked at
  });
  return found;
}
