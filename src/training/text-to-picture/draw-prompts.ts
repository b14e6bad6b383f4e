/** Pictures of many prompts at once, each prompt with its own, for judges and sample sheets. */
import { drawSamples, schedulerFromConfig } from "../../diffusion/index.ts";
import type { AutoencoderKL, AutoencoderTiny, SpaceToDepth } from "../../networks/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { createNoise, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import { told, type Work } from "../../work.ts";
import { captionIds, tokenizerOf } from "./caption-ids.ts";
import { type TextToPicture, trainedNetworks } from "./train.ts";

/** How pictures of prompts are drawn. */
export interface PromptDrawing {
  /** Steps and guidance; default: the pipeline's own. */
  readonly steps?: number | undefined;
  readonly guidance?: number | undefined;
  readonly seed?: Seed;
  /** Pictures at once. Default 32. */
  readonly batch?: number;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Draws one picture for each prompt with the scheduler of the pipeline; "" is no caption. Picture i depends on its prompt, the
 * seed and i, not on the batch. Values in [-1, 1], not clipped. // [N, 3, H, W]
 *
 * @throws ArgumentError for pipelines that are not a U-Net with at most one text encoder
 */
export async function* drawPrompts(
  pipeline: PipelineComponents,
  prompts: readonly string[],
  { steps, guidance, seed = 0, batch = 32, threads, signal }: PromptDrawing = {},
): Work<Tensor> {
  const net = trainedNetworks(pipeline);
  const vae = pipeline.vae?.model as AutoencoderKL | AutoencoderTiny | SpaceToDepth | undefined;
  const { config } = pipeline.unet!;
  const [side, channels] = [Number(config.sample_size), Number(config.in_channels)];
  const tokenizer = net.textEncoder && tokenizerOf(pipeline);
  const encode = jit((given: TextToPicture, ids: Tensor) => given.context(ids)!);
  const conditionOf = async (texts: readonly string[]): Promise<{ context?: Tensor }> =>
    tokenizer ? { context: await encode(net, captionIds(tokenizer, texts)) } : {};
  const count = steps ?? pipeline.defaults?.steps ?? 50;
  try {
    const drawing = drawSamples(
      (x: Tensor, t: Tensor, { context }: { context?: Tensor }) => net.call(x, t, context),
      {
        scheduler: schedulerFromConfig(pipeline.scheduler, { steps: count }),
        count: prompts.length,
        shape: [channels, side, side],
        noise: createNoise("philox", seed),
        condition: (first, n) => conditionOf(prompts.slice(first, first + n)),
        negative: (_, n) => conditionOf(new Array<string>(n).fill("")),
        guidance: tokenizer ? (guidance ?? pipeline.defaults?.guidance ?? 7.5) : 1,
        batch,
        threads,
        signal,
      },
    );
    const total = count * Math.ceil(prompts.length / batch);
    let done = 0;
    const values = yield* told(drawing, () => ({
      ...({ type: "progress", stage: "pictures" } as const),
      ...{ done: ++done, total },
    }));
    const z = fromHost("f32", [prompts.length, channels, side, side], values);
    return await (vae ? vae.decode(vae.unscaled(z)) : z).eval();
  } finally {
    await encode.close();
  }
}
