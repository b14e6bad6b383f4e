/** The positive and negative conditions of each kind of pipeline. */
import { DiTTransformer2DModel } from "../networks/index.ts";
import { fromHost, type Tensor, tensor } from "../tensor/index.ts";
import type { CompiledFunctions } from "./compiled-functions.ts";
import type { Condition } from "./compiled-network.ts";
import { encodePrompts } from "./encode-prompt.ts";
import type { PicturePlan } from "./plan.ts";

export interface Conditions {
  readonly condition: Condition;
  /** Absent without guidance. */
  readonly negative?: Condition;
  readonly warnings: readonly string[];
}

const label = (value: number): Tensor => fromHost("i64", [1], BigInt64Array.of(BigInt(value)));

/** SDXL is told the size of its picture, as original size and as target size, and where it is cut: nowhere. */
function timeIds({ width, height }: { width: number; height: number }): Tensor {
  return tensor([[height, width, 0, 0, height, width]]);
}

/**
 * The guidance scale as an input of distilled models: sines, then cosines, of 1000 (guidance - 1) at falling
 * frequencies (Luo et al. 2023, latent consistency models).
 */
export function embeddedGuidance(guidance: number, dim: number): Tensor {
  const half = Math.floor(dim / 2);
  const angles = Array.from({ length: half }, (_, i) => 1000 * (guidance - 1) * 10000 ** (-i / (half - 1)));
  const padding = new Array<number>(dim - 2 * half).fill(0);
  return tensor([[...angles.map(Math.sin), ...angles.map(Math.cos), ...padding]]);
}

async function textConditions(
  { components, options, settings }: PicturePlan,
  functions: CompiledFunctions | undefined,
): Promise<Conditions> {
  const { prompt = "", negative, emphasis, longPrompts, clipSkip } = options;
  const encoded = await encodePrompts(
    components,
    prompt,
    negative,
    { emphasis, longPrompts, clipSkip },
    functions,
  );
  const isXl = components.kind === "sdxl";
  const guidanceDim = components.unet?.config.time_cond_proj_dim;
  const timestepCond =
    typeof guidanceDim === "number" ? embeddedGuidance(settings.guidance, guidanceDim) : undefined;
  const conditionOf = ({ context, pooled }: { context: Tensor; pooled?: Tensor }): Condition => ({
    context,
    ...(timestepCond && { timestepCond }),
    ...(isXl && { textEmbeds: pooled, timeIds: timeIds(settings) }),
  });
  return {
    condition: conditionOf(encoded.positive),
    negative: timestepCond ? undefined : conditionOf(encoded.negative), // guided already
    warnings: encoded.warnings,
  };
}

/** The conditions of a plan. Prompts are encoded; the text encoders are not needed any more afterwards. */
export async function pictureConditions(
  plan: PicturePlan,
  functions?: CompiledFunctions,
): Promise<Conditions> {
  const { components, options } = plan;
  if (components.kind === "sd" || components.kind === "sdxl") return textConditions(plan, functions);
  if (options.label === undefined) return { condition: {}, warnings: [] };
  const condition = { labels: label(options.label) };
  const model = components.transformer?.model;
  if (!(model instanceof DiTTransformer2DModel) || !model.config.nullClass)
    return { condition, warnings: [] };
  return { condition, negative: { labels: label(model.nullClass) }, warnings: [] };
}
