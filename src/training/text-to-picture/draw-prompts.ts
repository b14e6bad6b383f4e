/** Pictures of many prompts at once, each prompt with its own, for judges and sample sheets. */
import { drawSamples, schedulerFromConfig } from "../../diffusion/index.ts";
import type { AutoencoderKL, AutoencoderTiny, SpaceToDepth } from "../../networks/index.ts";
import type { PipelineComponents } from "../../pipelines/index.ts";
import { createNoise, fromHost, jit, type Seed, type Tensor } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import { captionIds, tokenizerOf } from "./caption-ids.ts";
import { trainedNetworks } from "./train.ts";

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
  const encode = jit((given: typeof net, ids: Tensor) => given.textEncoder!.call(ids).lastHiddenState);
  const contexts = async (texts: readonly string[]): Promise<Tensor | undefined> =>
    tokenizer && encode(net, captionIds(tokenizer, texts));
  const count = steps ?? pipeline.defaults?.steps ?? 50;
  try {
    const drawing = drawSamples(
      (x: Tensor, t: Tensor, { context }: { context?: Tensor }) =>
        "textEncoder" in net && net.textEncoder
          ? (net.unet as { call(x: Tensor, t: Tensor, c?: Tensor): Tensor }).call(x, t, context)
          : net.call(x, t),
      {
        scheduler: schedulerFromConfig(pipeline.scheduler, { steps: count }),
        count: prompts.length,
        shape: [channels, side, side],
        noise: createNoise("philox", seed),
        condition: async (first, n) => conditionOf(await contexts(prompts.slice(first, first + n))),
        negative: async (_, n) => conditionOf(await contexts(new Array<string>(n).fill(""))),
        guidance: tokenizer ? (guidance ?? pipeline.defaults?.guidance ?? 7.5) : 1,
        batch,
        threads,
        signal,
      },
    );
    const total = count * Math.ceil(prompts.length / batch);
    for (let done = 0; ; done++) {
      const next = await drawing.next();
      if (!next.done) {
        yield { type: "progress", stage: "pictures", done: done + 1, total };
        continue;
      }
      const z = fromHost("f32", [prompts.length, channels, side, side], next.value);
      return await (vae ? vae.decode(vae.unscaled(z)) : z).eval();
    }
  } finally {
    await encode.close();
  }
}

const conditionOf = (context: Tensor | undefined): { context?: Tensor } => (context ? { context } : {});
