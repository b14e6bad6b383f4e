/** Networks of pipelines as ONNX files, for other runtimes: inputs and outputs have the names that Optimum gives them. */
import { ArgumentError } from "../errors.ts";
import {
  AutoencoderKL,
  AutoencoderTiny,
  CLIPTextModel,
  CLIPTextModelWithProjection,
  DiTTransformer2DModel,
  UNet2DConditionModel,
  UNet2DModel,
} from "../networks/index.ts";
import { isQuantized, modules, parameters } from "../nn/index.ts";
import { type DType, exportOnnx, formatBytes, storedOf, type Tensor, zeros } from "../tensor/index.ts";
import { ONNX_RUNTIME } from "../tensor/onnx/builder.ts";
import type { Config, LoadedModel } from "./components.ts";

/** Options of `exportModel`. */
export interface ExportModelOptions {
  /** Samples in a batch; shapes in the file are fixed. Default 1. */
  readonly batch?: number;
  /** Height and width: of latents for a denoiser, of pictures for an autoencoder. Default: the configuration's. */
  readonly height?: number;
  readonly width?: number;
}

/** A function of named inputs. */
interface Graph {
  readonly name: string;
  readonly inputs: Readonly<Record<string, readonly [dtype: DType, ...shape: number[]]>>;
  readonly outputs: readonly string[];
  readonly call: (inputs: Readonly<Record<string, Tensor>>) => readonly Tensor[];
}

/** A file of this format is one protobuf message, which ends at 2 GiB. */
const MAX_BYTES = 2 ** 31 - 2 ** 20;

function numberOf(config: Config, key: string, fallback?: number): number {
  const value = config[key] ?? fallback;
  if (typeof value !== "number") throw new ArgumentError(`export: the configuration needs a number "${key}"`);
  return value;
}

type Sizes = Required<ExportModelOptions>;

function conditionalUNet(net: UNet2DConditionModel, config: Config, { batch, height, width }: Sizes): Graph {
  const context = numberOf(config, "cross_attention_dim", 1280);
  const hasAdded = config.addition_embed_type === "text_time";
  const pooled = hasAdded
    ? numberOf(config, "projection_class_embeddings_input_dim") -
      6 * numberOf(config, "addition_time_embed_dim")
    : 0;
  return {
    name: "unet",
    inputs: {
      sample: ["f32", batch, numberOf(config, "in_channels", 4), height, width],
      timestep: ["f32", 1],
      encoder_hidden_states: ["f32", batch, 77, context],
      ...(hasAdded && { text_embeds: ["f32", batch, pooled], time_ids: ["f32", batch, 6] }),
    },
    outputs: ["out_sample"],
    call: (x) => {
      const addedConditions = hasAdded ? { textEmbeds: x.text_embeds!, timeIds: x.time_ids! } : undefined;
      return [net.call(x.sample!, x.timestep!, x.encoder_hidden_states, { addedConditions })];
    },
  };
}

/** The two halves of an autoencoder. */
function autoencoder(
  net: AutoencoderKL | AutoencoderTiny,
  config: Config,
  { batch, height, width }: Sizes,
): Graph[] {
  const tiny = net instanceof AutoencoderTiny;
  const factor = tiny ? 8 : net.sizeFactor;
  const latents = [batch, numberOf(config, "latent_channels", 4), height / factor, width / factor];
  if (!latents.every(Number.isInteger))
    throw new ArgumentError(`export: expected a size in multiples of ${factor}, got ${width}x${height}`);
  return [
    {
      name: "vae_encoder",
      inputs: { sample: ["f32", batch, numberOf(config, "in_channels", 3), height, width] },
      outputs: [tiny ? "latent_sample" : "latent_parameters"],
      call: ({ sample }) => [tiny ? net.encode(sample!) : net.moments(sample!)],
    },
    {
      name: "vae_decoder",
      inputs: { latent_sample: ["f32", ...latents] },
      outputs: ["sample"],
      call: ({ latent_sample }) => [net.decode(latent_sample!)],
    },
  ];
}

function textEncoder(net: CLIPTextModel, config: Config, { batch }: Sizes): Graph {
  const projected = net instanceof CLIPTextModelWithProjection;
  const layers = numberOf(config, "num_hidden_layers", 12);
  const states = Array.from({ length: layers + 1 }, (_, i) => `hidden_states.${i}`);
  return {
    name: "text_encoder",
    inputs: { input_ids: ["i64", batch, numberOf(config, "max_position_embeddings", 77)] },
    // The first state is what goes into the first layer; the later ones serve "clip skip".
    outputs: [
      ...(projected ? ["text_embeds"] : []),
      "last_hidden_state",
      "pooler_output",
      ...states.slice(1),
    ],
    call: ({ input_ids }) => {
      const out = net.call(input_ids!);
      const first = projected ? [(out as ReturnType<CLIPTextModelWithProjection["call"]>).textEmbeds] : [];
      return [...first, out.lastHiddenState, out.poolerOutput, ...out.hiddenStates.slice(1)];
    },
  };
}

function graphsOf({ model, config, className }: LoadedModel, sizes: Sizes): Graph[] {
  const { batch, height, width } = sizes;
  const sample = ["f32", batch, numberOf(config, "in_channels", 4), height, width] as const;
  if (model instanceof UNet2DConditionModel) return [conditionalUNet(model, config, sizes)];
  if (model instanceof AutoencoderKL || model instanceof AutoencoderTiny)
    return autoencoder(model, config, sizes);
  if (model instanceof CLIPTextModel) return [textEncoder(model, config, sizes)];
  if (model instanceof DiTTransformer2DModel)
    return [
      {
        name: "transformer",
        inputs: { sample, timestep: ["f32", batch], class_labels: ["i64", batch] },
        outputs: ["out_sample"],
        call: (x) => [model.call(x.sample!, x.timestep!, x.class_labels!)],
      },
    ];
  if (model instanceof UNet2DModel)
    return [
      {
        name: "unet",
        inputs: { sample, timestep: ["f32", 1] },
        outputs: ["out_sample"],
        call: (x) => [model.call(x.sample!, x.timestep!)],
      },
    ];
  throw new ArgumentError(`export: there is no ONNX form of ${className} yet`);
}

/** Bytes of ONNX files. */
export interface ExportedModel {
  /** Such as `unet` or `vae_decoder`. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** It has packed layers, and with them operators of ONNX Runtime (`com.microsoft`). */
  readonly integers: boolean;
}

/**
 * The ONNX files of a network, one after the other: two for an autoencoder. Weights are embedded in the width that they
 * have in memory; those in half precision are widened within the graph. Packed layers stay integers: their files are
 * for ONNX Runtime, which multiplies integers where the layer rounds its inputs.
 *
 * @throws {ArgumentError} for weights of more than 2 GiB, the limit of the format
 */
export async function* exportModel(
  loaded: LoadedModel,
  options: ExportModelOptions = {},
): AsyncGenerator<ExportedModel> {
  const bytes = [...parameters(loaded.model).values()].reduce((n, t) => n + storedOf(t).bytes, 0);
  if (bytes > MAX_BYTES)
    throw new ArgumentError(
      `export: ${loaded.className} has ${formatBytes(bytes)} of weights, and one ONNX file holds 2 GiB: convert it to half precision first`,
    );
  const { sample_size: size = 32 } = loaded.config;
  const [high, wide] = (Array.isArray(size) ? size : [size, size]) as [number, number];
  const { batch = 1, height = high, width = wide } = options;
  const packed = [...modules(loaded.model).values()].some(isQuantized);
  for (const graph of graphsOf(loaded, { batch, height, width })) {
    const names = Object.keys(graph.inputs);
    const example = Object.values(graph.inputs).map(([dtype, ...shape]) => zeros(shape as number[], dtype));
    const call = (...tensors: Tensor[]) => [
      ...graph.call(Object.fromEntries(tensors.map((t, i) => [names[i]!, t]))),
    ];
    const metadata = { "tweedie.class": loaded.className };
    const options = { inputNames: names, outputNames: graph.outputs, metadata };
    const bytes = await exportOnnx(
      call,
      example,
      packed ? { ...options, capabilities: ONNX_RUNTIME } : options,
    );
    yield { name: graph.name, bytes, integers: packed };
  }
}
