/** The denoising network of a pipeline, compiled once for a whole run: weights, timestep and conditions are its inputs. */
import { ArgumentError } from "../errors.ts";
import {
  type ControlNetModel,
  DiTTransformer2DModel,
  sumControls,
  UNet2DConditionModel,
  UNet2DModel,
} from "../networks/index.ts";
import { isQuantized, type Module, modules } from "../nn/index.ts";
import { type Tensor, tensor } from "../tensor/index.ts";
import { CompiledFunctions } from "./compiled-functions.ts";
import type { PipelineComponents } from "./components.ts";

/** The conditions of a network; each tensor has one row, or one per sample. */
export interface Condition {
  /** Text features [1 or N, T, D]. */
  readonly context?: Tensor;
  /** Of SDXL: the text as a whole [1 or N, P], and sizes [1 or N, 6]. */
  readonly textEmbeds?: Tensor;
  readonly timeIds?: Tensor;
  /** Embedded guidance of distilled models [1 or N, K]. */
  readonly timestepCond?: Tensor;
  /** Class labels [1 or N]. */
  readonly labels?: Tensor;
}

/** A ControlNet with the picture that it follows. */
export interface Control {
  readonly model: ControlNetModel;
  /** [1, 3, H, W] in [0, 1], at the size of the picture. */
  readonly image: Tensor;
  readonly scale: number;
}

/** Inputs that are the same in every call. */
interface Fixed {
  readonly hints: readonly Tensor[];
  readonly scales: readonly Tensor[];
  /** Further channels of the sample [1, K, H, W]: mask and masked picture of inpainting models. */
  readonly channels?: Tensor;
}

interface Nets {
  /** Absent: it is a constant of the graph. */
  readonly denoiser: Module | undefined;
  readonly controls: readonly ControlNetModel[];
}

/** The network as a function of the sample [N, C, H, W] (scaled as it wants it), the timestep and the conditions. */
export interface ConditionalNetwork {
  call(x: Tensor, timestep: number, condition: Condition): Promise<Tensor>;
  /** Compilations so far. */
  readonly signatures: number;
  /** Frees the compiled networks. */
  close(): Promise<void>;
}

type Predict = (x: Tensor, t: Tensor, condition: Condition, fixed: Fixed) => Tensor;

const rows = (x: Tensor, n: number): Tensor =>
  x.shape[0] === n ? x : x.broadcastTo([n, ...x.shape.slice(1)]);

function predictWithText(unet: UNet2DConditionModel, controlNets: readonly ControlNetModel[]): Predict {
  return (x, t, condition, { hints, scales, channels }) => {
    const { context, textEmbeds, timeIds, timestepCond, labels } = condition;
    const n = x.shape[0]!;
    const added = textEmbeds && timeIds && { textEmbeds: rows(textEmbeds, n), timeIds: rows(timeIds, n) };
    const conditions = { addedConditions: added, classLabels: labels };
    const residuals = controlNets.map((net, i) =>
      net.call(x, t, context, rows(hints[i]!, n), { ...conditions, conditioningScale: scales[i]! }),
    );
    const input = channels ? x.concat(rows(channels, n), 1) : x;
    const controls = residuals.length > 0 ? sumControls(residuals) : undefined;
    return unet.call(input, t, context, { ...conditions, timestepCond, controls });
  };
}

/** What the network computes, for use inside `jit`. */
function predictor(denoiser: Module, controls: readonly ControlNetModel[]): Predict {
  if (denoiser instanceof UNet2DConditionModel) return predictWithText(denoiser, controls);
  if (denoiser instanceof DiTTransformer2DModel) return (x, t, { labels }) => denoiser.call(x, t, labels!);
  if (denoiser instanceof UNet2DModel)
    return (x, t, { labels }) => denoiser.call(x, t, { classLabels: labels });
  throw new ArgumentError(`a pipeline cannot sample from a ${denoiser.constructor.name}`);
}

/** Compiles the denoiser of a pipeline with its ControlNets. With `functions` it is theirs, and they close it. */
export function conditionalNetwork(
  { unet, transformer }: PipelineComponents,
  {
    controls = [],
    channels,
    functions,
  }: { controls?: readonly Control[]; channels?: Tensor; functions?: CompiledFunctions } = {},
): ConditionalNetwork {
  const { model } = (unet ?? transformer)!;
  // The integer kernels want their weights as constants of the graph; floats are inputs, which need no second copy.
  const embedded = [...modules(model).values()].some(isQuantized);
  const nets: Nets = { denoiser: embedded ? undefined : model, controls: controls.map((c) => c.model) };
  const own = functions ?? new CompiledFunctions();
  const predict = own.get("denoiser", (given: Nets, ...inputs: Parameters<Predict>) =>
    predictor(given.denoiser ?? model, given.controls)(...inputs),
  );
  const fixed: Fixed = {
    hints: controls.map((c) => c.image),
    scales: controls.map((c) => tensor(c.scale)),
    ...(channels && { channels }),
  };
  return {
    call: (x, timestep, condition) => predict(nets, x, tensor([timestep]), condition, fixed),
    get signatures() {
      return predict.signatures;
    },
    close: async () => {
      if (!functions) await own.close();
    },
  };
}
