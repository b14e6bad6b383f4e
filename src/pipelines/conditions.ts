/** What the denoiser of each kind of pipeline is told: the wanted condition, and the one to lead away from. */
import { DiTTransformer2DModel } from "../networks/index.ts";
import { fromHost, type Tensor, tensor } from "../tensor/index.ts";
import { encodePrompts } from "./encode-prompt.ts";
import type { Condition } from "./network.ts";
import type { PicturePlan } from "./plan.ts";

export interface Conditions {
  readonly condition: Condition;
  /** Absent where there is nothing to lead away from: no guidance then. */
  readonly negative?: Condition;
  readonly warnings: readonly string[];
}

const label = (value: number): Tensor => fromHost("i64", [1], BigInt64Array.of(BigInt(value)));

/** SDXL is told the size of its picture, as original size and as target size, and where it is cut: nowhere. */
function timeIds({ width, height }: { width: number; height: number }): Tensor {
  return tensor([[height, width, 0, 0, height, width]]);
}

async function textConditions({ components, options, settings }: PicturePlan): Promise<Conditions> {
  const { prompt = "", negative, emphasis, longPrompts, clipSkip } = options;
  const encoded = await encodePrompts(components, prompt, negative, { emphasis, longPrompts, clipSkip });
  const isXl = components.kind === "sdxl";
  const conditionOf = ({ context, pooled }: { context: Tensor; pooled?: Tensor }): Condition => ({
    context,
    ...(isXl && { textEmbeds: pooled, timeIds: timeIds(settings) }),
  });
  return {
    condition: conditionOf(encoded.positive),
    negative: conditionOf(encoded.negative),
    warnings: encoded.warnings,
  };
}

/** The conditions of a plan. Prompts are encoded; the text encoders are not needed any more afterwards. */
export async function pictureConditions(plan: PicturePlan): Promise<Conditions> {
  const { components, options } = plan;
  if (components.kind === "sd" || components.kind === "sdxl") return textConditions(plan);
  if (options.label === undefined) return { condition: {}, warnings: [] };
  const condition = { labels: label(options.label) };
  const model = components.transformer?.model;
  if (!(model instanceof DiTTransformer2DModel) || !model.config.nullClass)
    return { condition, warnings: [] };
  return { condition, negative: { labels: label(model.nullClass) }, warnings: [] };
}
