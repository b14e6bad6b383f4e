/** What the actions of SDSeg take, and the checkpoints that ship. */
import { z } from "zod";
import {
  batch,
  beside,
  data,
  dataFolder,
  how,
  limit,
  model,
  modelNamed,
  optionalOutFile,
  outFolder,
  pictures,
  runFolder,
  seed,
  startingCheckpoint,
  studyShard,
  threads,
  weightsFile,
  workFolder,
} from "../options.ts";
import { hinted } from "../system.ts";

export const CHECKPOINTS = [
  {
    name: "membranes",
    file: "checkpoints/sdseg-membranes.safetensors",
    about: "cell membranes in electron microscopy",
  },
  {
    name: "nuclei",
    file: "checkpoints/sdseg-nuclei.safetensors",
    about: "cell nuclei in fluorescence microscopy",
  },
  { name: "lesions", file: "checkpoints/sdseg-lesions.safetensors", about: "procedural lesions" },
] as const;

/** How values become brightness. */
const range = data(
  z
    .string()
    .regex(/^[^:]+:[^:]+$/, "expected LOW:HIGH, such as -125:275 or 1%:99%")
    .optional(),
  "values that are black and white, as numbers or percentiles (default: the checkpoint's; of volumes 0.5%:99.5%)",
  "LOW:HIGH",
);

/** What values mean; the procedural lesions, which are the data without a folder, need none of it. */
const meaning = beside(
  { data: [true] },
  {
    range,
    maskColours: data(
      z.string().optional(),
      "masks in colours: those of the classes, of the background first, as in #000000,#ff0000",
      "LIST",
    ),
    foreground: data(
      z.boolean().default(false),
      "all classes of the masks as one: foreground against the rest, with which several classes begin",
    ),
    invertMasks: data(z.boolean().default(false), "what is to be found is 0 in the masks"),
  },
);

/** Ways to run the reverse process in several steps, and the method's one step. */
export const SAMPLERS = ["ddim", "plms", "ddpm", "dpm-solver"] as const;
/** Ways to make a mask. */
export const MODES = ["direct", ...SAMPLERS] as const;
/** `leading`: from t = 1 up in equal strides, as released; `trailing`: from the last timestep down. */
export const SPACINGS = ["leading", "trailing"] as const;
/**
 * How emptiness counts: `standard`: both empty 1, one empty 0; `sdseg`: as released, where an empty truth gives 1 for any
 * prediction but an empty one.
 */
export const CONVENTIONS = ["standard", "sdseg"] as const;

const inference = {
  mode: how(
    z.enum(MODES).default("direct"),
    "one call of the denoiser, or a reverse process of several steps",
  ),
  ...beside(
    { mode: SAMPLERS },
    {
      steps: how(z.int().min(1).max(1000).default(50), "steps of a reverse process", "N"),
      spacing: how(
        z.enum(SPACINGS).default("leading"),
        "which timesteps are visited: as released, or from the noisiest on",
      ),
    },
  ),
  ...beside(
    { mode: ["ddim"] },
    { eta: how(z.number().min(0).max(1).default(1), "fresh noise of DDIM", "E") },
  ),
  ensemble: how(z.int().min(1).max(1000).default(1), "samples whose probabilities are averaged", "M"),
  seed,
};

/** Options of a fresh model, which a checkpoint to go on from decides itself. */
const FRESH = { from: [false] };

export const trainOptions = z.object({
  data: dataFolder("folder with images/ and masks/, or of a known data set; procedural lesions by default"),
  classes: data(z.int().min(2).max(256).default(2), "classes in the masks, the background included", "N"),
  ...beside(FRESH, {
    colour: data(z.enum(["gray", "rgb"]).optional(), "what the model sees (default: the preset's)"),
  }),
  scale: data(z.number().min(0.01).max(16).optional(), "size of what the model sees over the files'", "F"),
  ...meaning,
  preset: model(
    z.enum(["mini", "paper", "smoke"]).default("mini"),
    "sizes of networks and length of training",
  ),
  ...beside(FRESH, {
    head: model(
      z.enum(["raw", "vskip", "image-only"]).optional(),
      "what the denoiser predicts: the noise (paper), v (mini), or the mask without diffusion",
    ),
  }),
  from: startingCheckpoint(
    "checkpoint to go on from, of SDSeg's own code too; its autoencoder, scale and range are kept",
  ),
  ...beside(FRESH, {
    initAutoencoder: weightsFile("published KL-f8 weights, as safetensors (preset paper)"),
    initDenoiser: weightsFile("published LSUN-churches LDM weights, as safetensors (preset paper)"),
  }),
  steps: how(z.int().min(1).optional(), "steps of the denoiser (default: the preset's)", "N"),
  ...beside(
    { ...FRESH, initAutoencoder: [false] },
    {
      autoencoderSteps: how(
        z.int().min(1).optional(),
        "steps of the autoencoder (default: the preset's)",
        "N",
      ),
      decoderSteps: how(
        z.int().min(0).optional(),
        "further steps of its decoder alone (default: the preset's)",
        "N",
      ),
    },
  ),
  batch: how(z.int().min(1).max(4096).optional(), "pictures per step (default: the preset's)", "N"),
  learningRate: how(z.number().min(0).optional(), "rate of the denoiser (default: the preset's)", "R"),
  ...beside(
    { head: ["raw", "vskip", false] },
    { lambda: how(z.number().min(0).default(1), "weight of the latent loss; 0 trains the noise alone", "L") },
  ),
  crop: how(z.int().min(8).optional(), "side of the training crops (default: the preset's)", "PX"),
  augment: how(z.enum(["none", "flips", "turns"]).optional(), "how crops are varied"),
  seed,
  threads,
  out: runFolder("out/sdseg"),
});

export const runOptions = z.object({
  image: pictures("picture or volume (NIfTI, TIFF of several pages), or a folder of them"),
  page: data(
    z
      .string()
      .regex(/^\d+(-\d+)?$/, "expected N or FIRST-LAST, such as 0 or 3-7")
      .optional(),
    "pages or slices alone, counted from 0, as pictures (default: all, as volumes)",
    "N|A-B",
  ),
  range,
  maxPixels: hinted(z.int().min(1).default(100_000_000).describe("most pixels that a picture may have"), {
    group: "Data",
    hint: "N",
    role: "command-line",
  }),
  model: modelNamed(CHECKPOINTS),
  ...inference,
  tile: how(z.int().min(16).max(8192).default(512), "larger pictures go in tiles of this side", "PX"),
  overlap: how(z.int().min(0).optional(), "pixels that tiles share (default: a quarter)", "PX"),
  ...batch,
  out: outFolder("out/sdseg-run", "where masks, probability maps and overlays go"),
});

export const evaluateOptions = z.object({
  data: dataFolder(
    "folder with images/ and masks/, or of a known data set (its test split); lesions by default",
  ),
  limit,
  ...meaning,
  model: modelNamed(CHECKPOINTS),
  ...inference,
  convention: how(
    z.enum(CONVENTIONS).default("standard"),
    "Dice of empty masks: 1 when both are empty, or as in the released code",
  ),
  stability: how(z.int().min(0).max(1000).default(0), "seeds over which to measure the spread", "M"),
  out: optionalOutFile("file for the numbers, as JSON"),
});

export const reproduceOptions = z.object({
  data: dataFolder("folder that holds em-membrane/, dsb2018-nuclei/ and others; without it lesions alone"),
  sets: data(
    z.string().default("lesions,em-membrane,dsb2018-nuclei"),
    "what is trained and measured, with commas between; sets that are not in the folder are left out",
    "NAMES",
  ),
  variants: how(
    z.string().default("lambda-1,lambda-0,image-only,plain"),
    "what is compared, with commas between; lambda-1 is always there",
    "NAMES",
  ),
  steps: how(z.int().min(1).default(1200), "denoiser steps on lesions", "N"),
  ...beside(
    { data: [true] },
    { realSteps: how(z.int().min(1).default(3000), "denoiser steps on real sets", "N") },
  ),
  autoencoderSteps: how(z.int().min(1).default(800), "steps of the shared autoencoder", "N"),
  decoderSteps: how(z.int().min(0).default(1500), "further steps of its decoder alone", "N"),
  test: data(z.int().min(1).max(400).default(400), "lesions in the test split", "N"),
  window: data(
    z.int().min(64).optional(),
    "side of the middle of test pictures that is measured (default: all of them)",
    "PX",
  ),
  seeds: how(z.int().min(2).max(100).default(10), "seeds over which the spread is measured", "M"),
  extras: how(
    z.boolean().default(false),
    "also the raw head, a frozen vision encoder, and diffusion in pixels, on lesions",
  ),
  shapes: how(z.boolean().default(false), "also a model of three classes, on procedural shapes"),
  seed,
  threads,
  shard: studyShard,
  work: workFolder("out/sdseg/reproduce"),
  out: outFolder("out/sdseg-results", "tables and figures"),
});

export type TrainActionOptions = z.output<typeof trainOptions>;
export type RunActionOptions = z.output<typeof runOptions>;
export type EvaluateActionOptions = z.output<typeof evaluateOptions>;
export type ReproduceActionOptions = z.output<typeof reproduceOptions>;
