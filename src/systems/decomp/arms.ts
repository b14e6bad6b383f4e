import { ArgumentError } from "../../errors.ts";
import type { Made, Study } from "../../study/index.ts";
import type { Work } from "../../work.ts";
import {
  type BetaVAE,
  baselineTraining,
  type Comet,
  type CometConfig,
  cometFile,
  freshComet,
  freshVAE,
  trainComet,
  trainVAE,
  type VAEConfig,
  vaeFile,
} from "./baselines.ts";
import { type DecompSet, madeSet } from "./data.ts";
import { type DecompConfig, type DecompUNet, decompFile, PRESETS } from "./model.ts";
import type { ReproduceActionOptions } from "./options.ts";
import { firstPictures } from "./scores.ts";
import { freshDecomp, type TrainSettings, trainDecomp, training } from "./train.ts";

/** How an arm differs from the method. */
export interface Change {
  readonly config?: (base: DecompConfig) => Partial<DecompConfig>;
  readonly settings?: Partial<TrainSettings>;
}

const linear = (base: DecompConfig): Partial<DecompConfig> => ({ encoder: { ...base.encoder, relu: false } });
const eps = { prediction: "eps" } as const;
const SLOW = { learningRate: 2e-4 };

/** The method; the ablations; latents four times as wide, by which the bottleneck is told from the rest. */
export const CHANGES = {
  x0: {},
  eps: { config: () => eps },
  "eps, slow": { config: () => eps, settings: SLOW },
  "eps, linear": { config: (base) => ({ ...eps, ...linear(base) }) },
  "eps, linear, slow": { config: (base) => ({ ...eps, ...linear(base) }), settings: SLOW },
  single: { config: ({ components, latent }) => ({ components: 1, latent: components * latent }) },
  wide: { config: ({ latent }) => ({ latent: 4 * latent }) },
} as const satisfies Readonly<Record<string, Change>>;

/** What `--arms` chooses among; all four ways to predict the noise count as one arm, the best by its training loss. */
export const ARMS = ["x0", "eps", "single", "wide", "COMET", "beta-VAE"] as const;
export type Arm = (typeof ARMS)[number];

/** Trainings of an arm, of which the best by the loss on training pictures is kept. */
export const variantsOf = (arm: Arm, { tuned }: Pick<ReproduceActionOptions, "tuned">): string[] =>
  arm === "eps" && tuned ? Object.keys(CHANGES).filter((name) => name.startsWith("eps")) : [arm];

/** COMET's steps cost a quarter of the method's. */
const COMET_STEPS = 4;

/** What all cells share. */
export interface Context {
  readonly study: Study;
  readonly options: ReproduceActionOptions;
  readonly base: DecompConfig;
  readonly train: DecompSet;
  readonly test: DecompSet;
  readonly signal?: AbortSignal | undefined;
}

export async function contextOf(
  study: Study,
  options: ReproduceActionOptions,
  signal?: AbortSignal,
): Promise<Context> {
  const { set, preset, test } = options;
  const base: DecompConfig = PRESETS[preset === "smoke" ? "smoke" : set];
  if (preset === "smoke" && set !== "blocks2")
    throw new ArgumentError(`Decomp: the preset for tests is of blocks2, not of ${set}`);
  const of = (half: "train" | "test") => madeSet(set, half, base.size);
  return {
    study,
    options,
    base,
    train: await of("train"),
    test: firstPictures(await of("test"), test),
    signal,
  };
}

/** What is said of the data in fingerprints: they are made of this alone. */
export const dataOf = ({ title, pictures: { count, size } }: DecompSet) => ({ title, count, size });

export interface TrainCell<M> {
  readonly given: object;
  readonly file: {
    readonly cell: { save(path: string, model: M): Promise<void>; load(path: string): Promise<M> };
  };
  readonly run: (folder: string) => Work<{ readonly final: M }>;
}

export const trainedCell = <M extends object>(
  { study, train }: Context,
  name: string,
  cell: TrainCell<M>,
): Work<Made<M>> =>
  study.model<M>(name, {
    given: { ...cell.given, data: dataOf(train) },
    async *make(folder) {
      return (yield* cell.run(folder)).final;
    },
    save: cell.file.cell.save,
    load: cell.file.cell.load,
  });

/** A model of the method, or of one of its changes. */
export function decompCell(context: Context, name: string, seed: number): Work<Made<DecompUNet>> {
  const { options, base, train: set, signal } = context;
  const change: Change = CHANGES[name as keyof typeof CHANGES];
  const config: DecompConfig = { ...base, ...change.config?.(base) };
  const { steps, batch, threads } = options;
  const settings = training({ steps, batch, seed, ...change.settings });
  const stage = `${options.set} ${name}, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: decompFile,
    run: (folder) =>
      trainDecomp({ stage, model: freshDecomp(config, set, seed), set, settings, folder, threads, signal }),
  });
}

export const cometConfig = ({ base: { size, components, latent } }: Context): CometConfig => ({
  ...{ size, components, latent, filters: 32, steps: 5, rate: 500 },
});

export function cometCell(context: Context, seed: number): Work<Made<Comet>> {
  const { options, train: set, signal } = context;
  const { steps, batch, threads } = options;
  const config = cometConfig(context);
  const settings = baselineTraining({ steps: COMET_STEPS * steps, batch, seed });
  const stage = `${options.set} COMET, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: cometFile,
    run: (folder) =>
      trainComet({ stage, model: freshComet(config, seed), set, settings, folder, threads, signal }),
  });
}

export function vaeCell(context: Context, seed: number): Work<Made<BetaVAE>> {
  const { options, base, train: set, signal } = context;
  const { steps, batch, threads } = options;
  const config: VAEConfig = { size: base.size, latent: base.components * base.latent, beta: 4 };
  const settings = baselineTraining({ steps, batch, seed, learningRate: 1e-3 });
  const stage = `${options.set} beta-VAE, seed ${seed}`;
  return trainedCell(context, stage, {
    given: { config, settings },
    file: vaeFile,
    run: (folder) =>
      trainVAE({ stage, model: freshVAE(config, seed), set, settings, folder, threads, signal }),
  });
}
