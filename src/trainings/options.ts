/** What the trainings of pipelines take. */
import { z } from "zod";
import { CAPTION_SOURCES } from "../data/index.ts";
import { beside, count, data, dataFolder, how, model, runFolder, seed, threads } from "../systems/options.ts";
import { hinted } from "../systems/system.ts";

const set = (about: string) => hinted(dataFolder(about), { path: "file-or-folder", hint: "DIR|FILE" });
const limit = data(z.int().min(1).optional(), "only the first so many pictures", "N");
const captions = data(
  z.enum(["auto", ...CAPTION_SOURCES]).default("auto"),
  "where captions are; auto: the first that is there",
);
const flip = how(
  z.enum(["auto", "yes", "no"]).default("auto"),
  "mirrors half of the pictures; auto: unless captions say left or right",
);
const learningRate = (standard: number) =>
  how(z.number().positive().max(1).default(standard), "at its peak; it falls to 0 as a cosine", "R");
const WITH_DATA = { data: [true] };

/** `tweedie train text-to-picture`. */
export const textToPictureOptions = z.object({
  data: set("pictures with captions, in a folder, a zip or a Parquet file; the shape world by default"),
  ...beside(WITH_DATA, { captions, limit, flip }),
  from: hinted(model(z.string().optional(), "pipeline of this training to go on from", "DIR"), {
    role: "command-line",
    path: "folder",
  }),
  size: model(z.int().min(8).max(256).default(32), "side of the pictures in pixels", "N"),
  channels: model(
    z
      .string()
      .regex(/^\d+(,\d+){1,4}$/, "expected numbers such as 32,64,64")
      .optional(),
    "channels of the U-Net's levels (default: by the number of pictures)",
    "N,N,N",
  ),
  steps: how(
    z.int().min(1).max(10_000_000).optional(),
    "training steps (default: by the number of pictures)",
    "N",
  ),
  batch: count(32, "pictures per step", 4096),
  learningRate: learningRate(1e-3),
  seed,
  threads,
  out: runFolder("out/text-to-picture"),
});
export type TextToPictureOptions = z.output<typeof textToPictureOptions>;

const modelFolder = model(
  z.string(),
  "the pipeline that is adapted: a folder in diffusers' layout, or a single file",
  "DIR|FILE",
);
const pipeline = hinted(modelFolder, { role: "command-line", path: "file-or-folder" });
const needed = (about: string) =>
  hinted(data(z.string(), about, "DIR|FILE"), { role: "data", path: "file-or-folder" });

const adapting = {
  model: pipeline,
  data: needed("pictures with captions, in a folder, a zip or a Parquet file"),
  captions,
  limit,
  size: how(z.int().min(8).max(2048).optional(), "side of the pictures (default: the model's own)", "N"),
};

/** `tweedie train lora`. */
export const loraOptions = z.object({
  ...adapting,
  rank: how(z.int().min(1).max(256).default(8), "rank of the adapters", "N"),
  alpha: how(
    z.number().positive().optional(),
    "the change counts alpha / rank times (default: the rank)",
    "X",
  ),
  layers: how(z.enum(["attention", "all"]).default("attention"), "layers that are adapted"),
  steps: count(500, "training steps"),
  batch: count(4, "pictures per step", 4096),
  learningRate: learningRate(1e-3),
  seed,
  threads,
  out: runFolder("out/lora"),
});
export type LoraOptions = z.output<typeof loraOptions>;

/** `tweedie train controlnet`. */
export const controlNetOptions = z.object({
  ...adapting,
  controls: hinted(
    data(z.string(), "their control maps (edges, depth, poses …), of the same names", "DIR|FILE"),
    {
      role: "data",
      path: "file-or-folder",
    },
  ),
  steps: count(2000, "training steps"),
  batch: count(8, "pictures per step", 4096),
  learningRate: learningRate(3e-4),
  seed,
  threads,
  out: runFolder("out/controlnet"),
});
export type ControlNetOptions = z.output<typeof controlNetOptions>;
