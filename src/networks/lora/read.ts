/** Reads LoRA files of any tool, as adapters by layer. */
import { FormatError, TreeError } from "../../errors.ts";
import { cast, type Tensor } from "../../tensor/index.ts";
import {
  adaptableLayers,
  COMPONENTS,
  type LayerName,
  type LoraComponent,
  type LoraTargets,
  layerIndex,
} from "./names.ts";

/** The change `alpha / rank * up down` of one layer's weight. */
export interface LoraAdapter {
  readonly down: Tensor; // [rank, in, ...kernel]
  readonly up: Tensor; // [out, rank, ...1]
  readonly alpha: number;
}

/** Adapters by the key of the layer, for each network. */
export type LoraAdapters = { readonly [C in LoraComponent]?: ReadonlyMap<string, LoraAdapter> };

/** Options of `readLora`. */
export interface ReadLoraOptions {
  /** Names that belong to no layer are left out instead of being an error. Default false. */
  readonly ignoreUnmatched?: boolean;
  /** `__metadata__` of the file: newer versions of diffusers keep alpha there. */
  readonly metadata?: ReadonlyMap<string, string>;
  /** `adapter_config.json` beside the file, where PEFT keeps alpha. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** An adapter read from a file. */
export interface LoadedLora {
  readonly adapters: LoraAdapters;
  /** Names that belong to no layer, when they are ignored. */
  readonly unmatched: readonly string[];
}

type Part = "down" | "up" | "mid" | "alpha";

/** Tensors of one layer, with their names in the file. */
type Group = Map<Part, { readonly name: string; readonly value: Tensor }>;

/** What the end of a name says; the adapter's own name may stand before `weight`. */
const SUFFIX =
  /(?:\.lora_(A|B)(?:\.[\w-]+)?\.weight|\.lora_(down|up|mid)\.weight|[._]lora\.(down|up)\.weight|\.lora_linear_layer\.(down|up)\.weight|\.(alpha))$/;

/** Which layer a name is about, and which of its tensors it names. */
function partOf(name: string): { stem: string; part: Part } | undefined {
  const found = SUFFIX.exec(name);
  if (!found) return undefined;
  const [a, ...others] = found.slice(1);
  const part = a === "A" ? "down" : a === "B" ? "up" : (others.find(Boolean) as Part);
  return { stem: stemOf(name.slice(0, found.index)), part };
}

/** The layer's name without what tools put around it. */
const stemOf = (name: string): string =>
  name
    .replace(/^base_model\.model\./, "")
    .replace(".processor.", ".")
    .replace(/_lora$/, "");

/** Kinds of adapters that are recognised and not applied, by the names of their tensors. */
const OTHER_KINDS: readonly (readonly [RegExp, string])[] = [
  [/\.(dora_scale|lora_magnitude_vector|magnitude)(\.[\w.-]+)?$/, "DoRA"],
  [/\.hada_\w+$/, "LoHa"],
  [/\.lokr_\w+$/, "LoKr"],
  [/\.(oft|boft)_\w+$/, "OFT"],
  [/\.(diff|diff_b|set_weight)$/, "a full difference of weights"],
  [/\.(w_norm|b_norm)$/, "a difference of norms"],
  [/\.(ia3_\w+|on_input)$/, "IA3"],
  [/\.lora_[AB](\.[\w-]+)?\.bias$|\.lora_(up|down)\.bias$/, "a LoRA with biases"],
];

function problemsError(problems: readonly string[]): TreeError {
  const count = `${problems.length} problem${problems.length > 1 ? "s" : ""}`;
  return new TreeError(`readLora: ${count}, nothing was loaded:\n  ${problems.join("\n  ")}`);
}

/**
 * The adapters of a file for the networks of a pipeline. Understood are diffusers and PEFT, older diffusers, kohya (SD
 * and SDXL, also with the block names of the original code) and LoCon. All or nothing: throws one `TreeError` that
 * lists every name that belongs to no layer and every tensor that is missing or mis-shaped. DoRA is refused.
 */
export async function readLora(
  weights: ReadonlyMap<string, Tensor>,
  targets: LoraTargets,
  { ignoreUnmatched = false, metadata, config }: ReadLoraOptions = {},
): Promise<LoadedLora> {
  const alphas = alphaRules(metadata?.get("lora_adapter_metadata"), config);
  const find = layerIndex(targets);
  const groups = new Map<string, { layer: LayerName; group: Group }>();
  const unmatched: string[] = [];
  const problems: string[] = [];
  for (const [name, value] of weights) {
    const other = OTHER_KINDS.find(([pattern]) => pattern.test(name));
    if (other && !(ignoreUnmatched && !find(stemOf(name.replace(other[0], ""))))) {
      problems.push(`"${name}": ${other[1]} is not supported`);
      continue;
    }
    const parsed = partOf(name);
    const layer = parsed && find(parsed.stem);
    if (!layer) {
      unmatched.push(name);
      continue;
    }
    const id = `${layer.component} ${layer.key}`;
    const { group } = groups.get(id) ?? { group: new Map() as Group };
    const twin = group.get(parsed.part);
    if (twin) problems.push(`"${name}" and "${twin.name}" are about the same layer`);
    groups.set(id, { layer, group: group.set(parsed.part, { name, value }) });
  }
  if (!ignoreUnmatched) problems.push(...unmatched.map((name) => `"${name}" belongs to no layer`));
  const adapters = await adaptersOf(groups.values(), targets, alphas, problems);
  if (groups.size === 0 && problems.length === 0)
    problems.push("no name belongs to a layer of the given networks");
  if (problems.length > 0) throw problemsError(problems);
  return { adapters, unmatched };
}

async function adaptersOf(
  groups: Iterable<{ layer: LayerName; group: Group }>,
  targets: LoraTargets,
  alphaOf: AlphaRules,
  problems: string[],
): Promise<LoraAdapters> {
  const layers = new Map(COMPONENTS.map((c) => [c, targets[c] ? adaptableLayers(targets[c]) : new Map()]));
  const out: { [C in LoraComponent]?: Map<string, LoraAdapter> } = {};
  for (const { layer, group } of groups) {
    const { weight } = layers.get(layer.component)!.get(layer.key)!;
    const shaped = shapedPair(group, weight, problems);
    if (!shaped) continue;
    const rank = shaped.down.shape[0]!;
    const alpha = (await group.get("alpha")?.value.item()) ?? alphaOf(layer, rank) ?? rank;
    if (!Number.isFinite(alpha))
      problems.push(`"${group.get("alpha")?.name}": expected a finite alpha, got ${alpha}`);
    (out[layer.component] ??= new Map()).set(layer.key, { ...shaped, alpha });
  }
  return out;
}

const shapeText = (t: Tensor): string => `[${t.shape.join(", ")}]`;

/** The two matrices in the shape that the layer needs, in f32; undefined, with the problem noted, when they do not fit. */
function shapedPair(
  group: Group,
  weight: Tensor,
  problems: string[],
): { down: Tensor; up: Tensor } | undefined {
  const [down, up, mid] = [group.get("down"), group.get("up"), group.get("mid")];
  if (!down || !up) {
    const one = [...group.values()][0]!.name;
    problems.push(`"${one}": its ${down ? "up" : "down"} matrix is missing`);
    return undefined;
  }
  const rank = down.value.shape[0]!;
  if (rank === 0) {
    problems.push(`"${down.name}": a matrix of rank 0`);
    return undefined;
  }
  const [out, ...input] = weight.shape as [number, ...number[]];
  const values = mid
    ? throughMiddle(cast(mid.value, "f32"), cast(down.value, "f32"), input)
    : cast(down.value, "f32");
  const fits = values && values.size === rank * input.reduce((a, b) => a * b, 1);
  if (!fits || up.value.size !== out * rank || up.value.shape[0] !== out) {
    const got = [down, up, ...(mid ? [mid] : [])].map(({ value }) => shapeText(value)).join(", ");
    problems.push(`"${down.name}": expected matrices for a weight ${shapeText(weight)}, got ${got}`);
    return undefined;
  }
  return {
    down: values.reshape([rank, ...input]),
    up: cast(up.value, "f32").reshape([out, rank, ...input.slice(1).map(() => 1)]),
  };
}

/** LyCORIS splits a kernel in three: mid [r, r, ...kernel] between down [r, in, 1, 1] and up. Here the first two in one. */
function throughMiddle(mid: Tensor, down: Tensor, [channels, ...kernel]: number[]): Tensor | undefined {
  const rank = down.shape[0]!;
  const points = kernel.reduce((a, b) => a * b, 1);
  if (mid.size !== rank * rank * points || down.size !== rank * channels!) return undefined;
  const perPoint = mid.reshape([rank, rank, points]).transpose([0, 2, 1]); // [r, points, r]
  return perPoint.matmul(down.reshape([rank, channels!])).transpose([0, 2, 1]); // [r, in, points]
}

/** Alpha of a layer where no tensor says it. */
type AlphaRules = (layer: LayerName, rank: number) => number | undefined;

/** Names of components in the metadata of diffusers. */
const METADATA_NAMES: { readonly [C in LoraComponent]: string } = {
  unet: "unet",
  transformer: "transformer",
  textEncoder: "text_encoder",
  textEncoder2: "text_encoder_2",
};

/** Longest expression of `alpha_pattern` that is tried as one: they come from files. */
const LONGEST_PATTERN = 256;

/** Whether a layer is meant by a name of `alpha_pattern`: as in PEFT an expression for the end of the layer's name. */
function isMeant(key: string, pattern: string): boolean {
  if (key === pattern || key.endsWith(`.${pattern}`)) return true;
  if (pattern.length > LONGEST_PATTERN) return false;
  try {
    return new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(key);
  } catch {
    return false; // a name with brackets, say
  }
}

/** Alpha as the metadata of diffusers say, by component, or PEFT's configuration, for all of the file. */
function alphaRules(json: string | undefined, config: ReadLoraOptions["config"]): AlphaRules {
  let values: unknown;
  try {
    values = json === undefined ? null : JSON.parse(json);
  } catch (error) {
    throw new FormatError("readLora: expected JSON in the metadata lora_adapter_metadata", { cause: error });
  }
  const at = (component: LoraComponent, name: string): unknown =>
    (values as Record<string, unknown> | null)?.[`${METADATA_NAMES[component]}.${name}`] ?? config?.[name];
  return ({ component, key }, rank) => {
    const patterns = Object.entries((at(component, "alpha_pattern") ?? {}) as Record<string, unknown>);
    const special = patterns.find(([pattern]) => isMeant(key, pattern))?.[1];
    const alpha = special ?? at(component, "lora_alpha");
    if (typeof alpha !== "number") return undefined;
    return at(component, "use_rslora") === true ? alpha * Math.sqrt(rank) : alpha; // divided by rank later
  };
}
