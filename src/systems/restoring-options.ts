/** Options of `run` and `evaluate` of systems that restore pictures, which they have alike. */
import { z } from "zod";
import { DEGRADATION_NAMES } from "../data/index.ts";
import type { Restorer } from "../networks/index.ts";
import { type LoadedModel, type RestorerNotes, restorerFile } from "../training/index.ts";
import {
  batch,
  beside,
  data,
  dataFolder,
  how,
  limit,
  modelNamed,
  optionalOutFile,
  outFolder,
  pictures,
  seed,
  startingCheckpoint,
  threads,
} from "./options.ts";
import { modelPath } from "./shipped.ts";
import type { Checkpoint } from "./system.ts";

/** A network that was opened, its file, and what that says of it. */
export interface OpenedRestorer extends LoadedModel<Restorer, RestorerNotes> {
  readonly file: string;
}

/** A system that restores: its name, and how its networks are opened. */
export interface RestoringSystem {
  readonly system: string;
  /** A network by the name of a checkpoint that ships, or by its path. @throws ArgumentError when there is none */
  open(model: string): Promise<OpenedRestorer>;
}

/** A system by its name and its checkpoints; `title` is named in errors. `load` reads files. */
export const restoringSystem = (
  system: string,
  title: string,
  checkpoints: readonly Checkpoint[],
  load: (path: string) => Promise<LoadedModel<Restorer, RestorerNotes>> = restorerFile.load,
): RestoringSystem => ({
  system,
  async open(model) {
    const file = await modelPath(title, checkpoints, model);
    return { file, ...(await load(file)) };
  },
});

/** What `run` takes. */
export const restoringRunOptions = (system: string, checkpoints: readonly Checkpoint[]) =>
  z.object({
    image: pictures("picture, or a folder of them"),
    model: modelNamed(checkpoints),
    tile: how(
      z.int().min(32).max(8192).default(512),
      "side of a tile; larger pictures go through in several",
      "PX",
    ),
    overlap: how(z.int().min(0).max(4096).default(96), "pixels that neighbouring tiles share", "PX"),
    maxPixels: how(z.int().min(1).default(64_000_000), "largest picture", "N"),
    ...batch,
    threads,
    out: outFolder(`out/${system}-run`, "folder for restored pictures, differences and sheets"),
  });

/** What `evaluate` takes. */
export const restoringEvaluateOptions = (checkpoints: readonly Checkpoint[]) =>
  z.object({
    model: modelNamed(checkpoints),
    against: startingCheckpoint("another network to compare with"),
    pairs: dataFolder("folder of degraded pictures and their truth"),
    ...beside(
      { pairs: [false] },
      {
        data: dataFolder("folder of clean pictures, degraded on the spot; our own by default"),
        task: data(
          z.enum(DEGRADATION_NAMES).optional(),
          "what happens to clean pictures (default: what the model was trained for)",
        ),
        sigma: data(
          z.number().min(0).max(255).optional(),
          "white noise of this strength instead of the task",
          "S",
        ),
      },
    ),
    lpips: dataFolder("folder with squeezenet1_1 and lpips_v0.1, for LPIPS as well"),
    limit,
    seed,
    threads,
    out: optionalOutFile("numbers as JSON"),
  });

export type RunOptions = z.output<ReturnType<typeof restoringRunOptions>>;
export type EvaluateOptions = z.output<ReturnType<typeof restoringEvaluateOptions>>;
