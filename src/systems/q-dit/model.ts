/** The miniature: a class-conditional diffusion transformer for pictures of 28x28 in ten classes, and its files. */
import { type DiTConfig, DiTTransformer2DModel, initDiT } from "../../networks/index.ts";
import {
  blankRng,
  createRng,
  isQuantized,
  modules,
  quantizationConfig,
  withPackedLayers,
} from "../../nn/index.ts";
import { type LoadedModel, modelFile } from "../../training/index.ts";
import { modelPath } from "../shipped.ts";
import { CHECKPOINTS } from "./options.ts";

/** Patches of 4 give 49 tokens; widths of 128 and 512 leave room for groups of 16, 32, 64 and 128. */
export const MINIATURE: DiTConfig = {
  sampleSize: 28,
  patchSize: 4,
  inChannels: 1,
  outChannels: 1,
  layers: 4,
  heads: 4,
  headDim: 32,
  classes: 10,
  nullClass: true,
  freqShift: 0,
  mlpNormEps: 1e-6,
  attentionBias: true,
  activation: "geluTanh",
  dropout: 0,
  sharedEmbedding: true,
};

/** A miniature to train from scratch. */
export const newMiniature = (seed: number): DiTTransformer2DModel => initDiT(MINIATURE, createRng(seed));

/** Notes that are kept with the weights: on what and how the model was trained, how it was quantised. */
export type Notes = Readonly<Record<string, string>>;

/** Files of small DiTs, in floats or packed: sizes, origin and packing are in the metadata. */
export const ditFile = modelFile<DiTTransformer2DModel, Notes>({
  format: "tweedie.dit",
  name: "small DiT",
  describe: (model) => ({
    config: JSON.stringify(model.config),
    ...([...modules(model).values()].some(isQuantized) && {
      quantization_config: JSON.stringify(quantizationConfig(model)),
    }),
  }),
  blank(field) {
    const blank = new DiTTransformer2DModel(JSON.parse(field("config") ?? "") as DiTConfig, blankRng);
    const packing = field("quantization_config");
    return packing === undefined ? blank : withPackedLayers(blank, JSON.parse(packing));
  },
});

/** Loads and saves models with their notes. */
export const { load: loadDiT, save: saveDiT } = ditFile;

/** File of a model by name or path. @throws ArgumentError when there is none */
export const fileOf = (name: string): Promise<string> => modelPath("Q-DiT", CHECKPOINTS, name);

/** A model by name or path. @throws ArgumentError when there is none, FormatError for other files */
export const openModel = async (name: string): Promise<LoadedModel<DiTTransformer2DModel, Notes>> =>
  loadDiT(await fileOf(name));
