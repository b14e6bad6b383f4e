/** `tweedie generate` as a tool: pictures from a text, a class, another picture, or from nothing but noise. */
import { randomInt } from "node:crypto";
import { z } from "zod";
import { ArgumentError } from "../errors.ts";
import { type Picture, pictureSize, readMask, readPicture, toPixels } from "../io/index.ts";
import type { ControlNetModel } from "../networks/index.ts";
import {
  type Control,
  generatePictures,
  loadModel,
  loadPipelineComponents,
  ownSize,
  PIPELINE_SAMPLERS,
  PIPELINE_SCHEDULES,
  type PipelineComponents,
  planPictures,
  withLoras,
} from "../pipelines/index.ts";
import { hinted } from "../systems/system.ts";
import type { Tensor } from "../tensor/index.ts";
import { worldSamples } from "./samples.ts";
import type { CatalogSettings, TaskContext, TaskEvent, Tool } from "./tool.ts";

const SEEDS = 2 ** 32;

/** One of the names that the studio was started with. */
const oneOf = (files: Readonly<Record<string, string>>) =>
  z.enum(Object.keys(files) as [string, ...string[]]);
const words = (about: string) => hinted(z.string().max(4000).optional().describe(about), { role: "text" });
const share = (about: string) => z.number().min(0).max(2).default(1).describe(about);

/** Fields of what the studio was started with; without a LoRA or a ControlNet there is nothing to choose. */
const adapterOptions = ({ loras, controls }: CatalogSettings) => ({
  ...(Object.keys(loras).length > 0 && {
    lora: oneOf(loras).optional().describe("low-rank adapter"),
    loraWeight: share("how much the adapter counts"),
  }),
  ...(Object.keys(controls).length > 0 && {
    control: oneOf(controls).optional().describe("ControlNet that follows the control picture"),
    controlScale: share("how much the control picture counts"),
  }),
});

interface AdapterOptions {
  readonly lora?: string;
  readonly loraWeight?: number;
  readonly control?: string;
  readonly controlScale?: number;
}

const optionsOf = (settings: CatalogSettings) =>
  z.object({
    model: oneOf(settings.models)
      .default(Object.keys(settings.models)[0]!)
      .describe("one of the models that the studio was started with"),
    prompt: words("what the picture shows; (word:1.3) weighs a word"),
    negative: words("what it should not show"),
    seed: z
      .int()
      .min(0)
      .max(SEEDS - 1)
      .optional()
      .describe("seed of the first picture; a new one when empty"),
    count: z.int().min(1).max(64).default(1).describe("pictures to make, with seeds one after the other"),
    steps: z.int().min(1).max(1000).optional().describe("denoising steps; 50 when empty, 1000 for DDPM"),
    guidance: z.number().min(0).max(50).optional().describe("classifier-free guidance; 1 turns it off"),
    label: z.int().min(0).optional().describe("class of a class-conditional model"),
    width: z.int().min(8).max(4096).optional().describe("pixels; the model's own when empty"),
    height: z.int().min(8).max(4096).optional().describe("pixels; the model's own when empty"),
    sampler: z.enum(PIPELINE_SAMPLERS).optional().describe("the model's own when empty"),
    schedule: z.enum(PIPELINE_SCHEDULES).optional().describe("noise levels; the sampler's own when empty"),
    strength: z.number().min(0).max(1).optional().describe("how much of the given picture is replaced"),
  });

type Options = z.output<ReturnType<typeof optionsOf>> & AdapterOptions;

async function pictureOf(image: Tensor): Promise<Picture> {
  const [, , height, width] = image.shape as [number, number, number, number];
  return { width, height, channels: 3, data: await toPixels(image) };
}

/** The size that is made: as asked, else that of the picture to start from cut to what the model takes, else its own. */
async function sizeOf(options: Options, init: string | undefined, components: PipelineComponents) {
  const own = ownSize(components);
  if (options.width && options.height) return { width: options.width, height: options.height };
  if (init === undefined) return { width: options.width ?? own.width, height: options.height ?? own.height };
  const { width, height } = await pictureSize(init);
  const cut = (side: number): number => Math.max(own.multiple, side - (side % own.multiple));
  return { width: cut(width), height: cut(height) };
}

/** The ControlNet that was chosen, with its picture. */
async function controlsOf(
  { control, controlScale = 1 }: Options,
  { controls }: CatalogSettings,
  picture: string | undefined,
  size: { readonly width: number; readonly height: number },
): Promise<Control[]> {
  if (control === undefined) return [];
  if (picture === undefined) throw new ArgumentError("a ControlNet needs a control picture");
  const { className, model } = await loadModel(controls[control]!);
  if (className !== "ControlNetModel")
    throw new ArgumentError(`${control}: expected a ControlNetModel, got a ${className}`);
  const image = await (await readPicture(picture, { size })).add(1).div(2).eval();
  return [{ model: model as ControlNetModel, image, scale: controlScale }];
}

async function* run(settings: CatalogSettings, context: TaskContext): AsyncGenerator<TaskEvent, void> {
  const { signal } = context;
  const [init, mask, control] = ["init", "mask", "control"].map((name) => context.inputs[name]?.[0]?.path);
  const options = context.options as unknown as Options;
  yield { type: "message", text: `Reading ${options.model}` };
  const loaded = await loadPipelineComponents(settings.models[options.model]!, { signal });
  const { lora, loraWeight: weight = 1 } = options;
  const components = await withLoras(loaded, lora ? [{ path: settings.loras[lora]!, weight }] : []);
  const size = await sizeOf(options, init, components);
  const seed = options.seed ?? randomInt(SEEDS);
  const { prompt, negative, label, steps, guidance, sampler, schedule, strength } = options;
  const plan = planPictures(components, {
    ...size,
    seeds: Array.from({ length: options.count }, (_, i) => (seed + i) % SEEDS),
    prompt,
    negative,
    label,
    steps,
    guidance,
    sampler,
    schedule,
    strength,
    init: init ? await readPicture(init, { size }) : undefined,
    mask: mask ? await readMask(mask, { size }) : undefined,
    controls: await controlsOf(options, settings, control, size),
  });
  const previewEvery = Math.max(1, Math.ceil(plan.totalSteps / options.count / 20));
  let done = 0;
  for await (const event of generatePictures(plan, { signal, previewEvery })) {
    if (event.type === "warning") yield { type: "message", text: event.message };
    else if (event.type === "step") {
      yield {
        type: "progress",
        done: ++done,
        total: plan.totalSteps,
        note: `sigma ${event.sigma.toFixed(3)}`,
      };
      if (event.preview) yield { type: "preview", picture: await pictureOf(event.preview) };
    } else
      yield {
        type: "picture",
        name: `seed-${event.seed}`,
        label: `Seed ${event.seed}`,
        picture: await pictureOf(event.image),
      };
  }
}

/** The tool, for models and adapters by the names that the page shows. */
export function generateTool(settings: CatalogSettings): Tool {
  const picture = (label: string, help: string) =>
    ({ kind: "picture", label, help, required: false }) as const;
  return {
    name: "generate",
    title: "Pictures from text, class or noise",
    summary: "Makes pictures with Stable Diffusion, DiT and other pipelines in the layout of diffusers.",
    checkpoints: [],
    samples: worldSamples,
    tasks: {
      run: {
        label: "Make pictures",
        inputs: {
          init: picture("Picture to start from", "It is noised and made anew."),
          mask: picture("Mask", "White is repainted, black is kept; needs a picture to start from."),
          ...(Object.keys(settings.controls).length > 0 && {
            control: picture("Control picture", "What the ControlNet follows, such as edges or depth."),
          }),
        },
        options: optionsOf(settings).extend(adapterOptions(settings)),
        resumable: false,
        checkpoint: "none",
        run: (context) => run(settings, context),
      },
    },
  };
}
