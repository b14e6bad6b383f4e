/** How each network is built from its configuration, and which tensors of a case go in and come out. */
import { FormatError } from "../../src/errors.ts";
import {
  type AutoencoderKL,
  autoencoderKL,
  type ControlNetModel,
  controlNet,
  DiTTransformer2DModel,
  ditConfig,
  type UNet2DConditionModel,
  type UNet2DModel,
  type UNetConditions,
  unet2D,
  unet2DCondition,
  unet2DWeights,
} from "../../src/networks/index.ts";
import { blankRng, loadParameters, type Module } from "../../src/nn/index.ts";
import type { Tensor } from "../../src/tensor/index.ts";
import { type Config, type Network, tensorOf } from "./cases.ts";
import type { ModelFolder } from "./model-folder.ts";

/** Tensors by name, without their prefix (`in.`, `out.`). */
export type Named = ReadonlyMap<string, Tensor>;

interface Adapter {
  build(config: Config): Module;
  /** The outputs of the case, by name. */
  outputs(model: Module, inputs: Named, settings: Config): Record<string, Tensor>;
}

const need = (inputs: Named, name: string): Tensor => tensorOf(inputs, name);

/** Conditions that only some cases have. */
const conditions = (inputs: Named): UNetConditions => ({
  ...(inputs.has("text_embeds") && {
    addedConditions: { textEmbeds: need(inputs, "text_embeds"), timeIds: need(inputs, "time_ids") },
  }),
  classLabels: inputs.get("class_labels"),
  timestepCond: inputs.get("timestep_cond"),
  mask: inputs.get("encoder_attention_mask"),
});

/** What the reference's cases scale the residuals of a ControlNet by, unless they say so themselves. */
const CONDITIONING_SCALE = 0.7;

const ADAPTERS: Readonly<Record<Network, Adapter>> = {
  UNet2DConditionModel: {
    build: (config) => unet2DCondition(config, blankRng),
    outputs: (model, inputs) => {
      const context = inputs.get("encoder_hidden_states");
      const [x, timestep] = [need(inputs, "sample"), need(inputs, "timestep")];
      return {
        sample: (model as UNet2DConditionModel).call(x, timestep, context, conditions(inputs)),
      };
    },
  },
  UNet2DModel: {
    build: (config) => unet2D(config, blankRng),
    outputs: (model, inputs) => {
      const [x, timestep] = [need(inputs, "sample"), need(inputs, "timestep")];
      return {
        sample: (model as UNet2DModel).call(x, timestep, { classLabels: inputs.get("class_labels") }),
      };
    },
  },
  ControlNetModel: {
    build: (config) => controlNet(config, blankRng),
    outputs: (model, inputs, settings) => {
      const given = settings.conditioning_scale ?? settings.conditioningScale;
      const conditioningScale = typeof given === "number" ? given : CONDITIONING_SCALE;
      const { down, mid } = (model as ControlNetModel).call(
        need(inputs, "sample"),
        need(inputs, "timestep"),
        inputs.get("encoder_hidden_states"),
        need(inputs, "controlnet_cond"),
        { ...conditions(inputs), conditioningScale },
      );
      return { ...Object.fromEntries(down.map((t, i) => [`down.${i}`, t])), mid };
    },
  },
  AutoencoderKL: {
    build: (config) => autoencoderKL(config, blankRng),
    outputs: (model, inputs) => {
      const vae = model as AutoencoderKL;
      const [picture, latent] = [inputs.get("sample"), inputs.get("latent")];
      const { mean, logvar } = picture ? vae.encode(picture) : {};
      return {
        ...(mean && logvar && { mean, logvar }),
        ...(latent && { decoded: vae.decode(latent) }),
      };
    },
  },
  Transformer2DModel: {
    build: (config) => new DiTTransformer2DModel(ditConfig(config), blankRng),
    outputs: (model, inputs) => ({
      sample: (model as DiTTransformer2DModel).call(
        need(inputs, "hidden_states"),
        need(inputs, "timestep"),
        need(inputs, "class_labels"),
      ),
    }),
  },
};

/** The network of a folder with its weights. */
export function buildNetwork({ network, config, weights }: ModelFolder): Module {
  const named = network === "UNet2DModel" ? unet2DWeights(weights) : weights;
  return loadParameters(ADAPTERS[network].build(config), named, { widen: true });
}

/** What a network makes of the inputs of a case. */
export const networkOutputs = (
  network: Network,
  model: Module,
  inputs: Named,
  settings: Config,
): Record<string, Tensor> => ADAPTERS[network].outputs(model, inputs, settings);

/** A denoiser as sampling and training see it. */
export type DenoiserCall = (model: Module, x: Tensor, timestep: Tensor, context?: Tensor) => Tensor;

/** The call of a network that predicts noise from a noisy sample. Throws `FormatError` for the others. */
export function denoiserOf(network: Network): DenoiserCall {
  if (network !== "UNet2DConditionModel" && network !== "UNet2DModel")
    throw new FormatError(`a sampling or training case needs a U-Net, got a ${network}`);
  return (model, sample, timestep, context) => {
    const inputs = new Map(Object.entries({ sample, timestep }));
    if (context) inputs.set("encoder_hidden_states", context);
    return networkOutputs(network, model, inputs, {}).sample!;
  };
}
