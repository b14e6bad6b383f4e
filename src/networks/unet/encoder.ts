/** What the conditional U-Net and its ControlNet share: the embeddings of all conditions, the way down, the middle. */
import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  type Activation,
  activate,
  Conv2d,
  Embedding,
  GaussianFourierFeatures,
  Linear,
  Module,
  type Rng,
  TimestepEmbedding,
} from "../../nn/index.ts";
import { cast, concat, type Tensor } from "../../tensor/index.ts";
import {
  attentionOf,
  type BlockInputs,
  ConditionedTimestepEmbedding,
  DownBlock2D,
  MidBlock2D,
  Timesteps,
  timesOf,
} from "../blocks/index.ts";
import type { ClassEmbedding, EncoderConfig, TimesConfig } from "./config.ts";

/** The further conditions of SDXL. */
export interface AddedConditions {
  /** Pooled text [N, P]. */
  readonly textEmbeds: Tensor;
  /** Original size, crop and target size (y before x): [N, 6]. */
  readonly timeIds: Tensor;
}

/** What a network is told beside sample, time and context. */
export interface UNetConditions {
  readonly addedConditions?: AddedConditions;
  /** Labels [N] (i32 or i64), times [N], or vectors [N, K], as `class_embed_type` says. */
  readonly classLabels?: Tensor;
  /** Condition of time [N, K], such as the embedded guidance scale of distilled models. */
  readonly timestepCond?: Tensor;
  /** Which tokens of the context count: [N or 1, L], true or 1 for those that do. */
  readonly mask?: Tensor;
  /** Key of dropout (see `makeKey`); absent: nothing is dropped. */
  readonly key?: Tensor;
}

function timeProjection(times: TimesConfig, rng: Rng): Timesteps | GaussianFourierFeatures {
  const { kind, inputDim, flipSinToCos } = times;
  return kind === "fourier"
    ? new GaussianFourierFeatures(inputDim / 2, rng, { flipSinToCos })
    : new Timesteps(inputDim, times);
}

/** The layer behind class labels; identity has none. */
export function classLayer(
  classes: ClassEmbedding | undefined,
  times: Pick<TimesConfig, "inputDim" | "dim">,
  activation: Activation,
  rng: Rng,
): Embedding | TimestepEmbedding | Linear | undefined {
  switch (classes?.kind) {
    case "labels":
      return new Embedding(classes.classes, times.dim, rng);
    case "timestep":
      return new TimestepEmbedding(times.inputDim, times.dim, rng, { activation });
    case "projection":
      return new TimestepEmbedding(classes.inputDim, times.dim, rng);
    case "simple_projection":
      return new Linear(classes.inputDim, times.dim, rng);
    default:
      return undefined;
  }
}

/** The condition, when the network takes it; throws `ArgumentError` when it is missing or of no use. */
export function needed<T>(
  network: object,
  name: string,
  given: T | undefined,
  takes: boolean,
): T | undefined {
  if (takes === (given !== undefined)) return given;
  const [expected, got] = takes ? [name, "none"] : [`no ${name}`, "some"];
  throw new ArgumentError(`${network.constructor.name}: expected ${expected}, got ${got}`);
}

/** The attention mask as scores that are added, as in diffusers: [N or 1, 1, L]. */
function maskScores(mask: Tensor, context: Tensor | undefined): Tensor {
  if (mask.rank !== 2 || !context || mask.shape[1] !== context.shape[1])
    throw new ShapeError(`mask: expected one value for each token of the context ${context}, got ${mask}`);
  return cast(mask, context.dtype).neg().add(1).mul(-10000).unsqueeze(1);
}

/** Base of networks that descend through the levels of a conditional U-Net. */
export abstract class ConditionalEncoder extends Module {
  readonly convIn: Conv2d;
  readonly timeProj: Timesteps | GaussianFourierFeatures;
  readonly timeEmbedding: ConditionedTimestepEmbedding;
  readonly classEmbedding: Embedding | TimestepEmbedding | Linear | undefined;
  readonly addTimeProj: Timesteps | undefined;
  readonly addEmbedding: TimestepEmbedding | undefined;
  readonly encoderHidProj: Linear | undefined;
  readonly downBlocks: readonly DownBlock2D[];
  readonly midBlock: MidBlock2D | undefined;
  readonly centerInput: boolean;
  readonly classKind: ClassEmbedding["kind"] | undefined;
  readonly joinClasses: boolean;
  readonly timeActivation: Activation;

  constructor(config: EncoderConfig, rng: Rng) {
    super();
    const { network, levels, times, kernelIn, classes, textTime, contextInput, mid } = config;
    const { activation } = network;
    const first = levels[0]!.inChannels;
    this.convIn = new Conv2d(config.inChannels, first, kernelIn, rng, { padding: (kernelIn - 1) / 2 });
    this.timeProj = timeProjection(times, rng);
    const { postActivation, conditionDim } = times;
    const timeOptions = { activation, postActivation, conditionDim };
    this.timeEmbedding = new ConditionedTimestepEmbedding(times.inputDim, times.dim, rng, timeOptions);
    this.classEmbedding = classLayer(classes, times, activation, rng);
    this.addTimeProj = textTime && new Timesteps(textTime.dim, times);
    this.addEmbedding = textTime && new TimestepEmbedding(textTime.inputDim, times.dim, rng);
    this.encoderHidProj =
      contextInput === undefined ? undefined : new Linear(contextInput, levels[0]!.contextDim, rng);
    const padding = config.downsamplePadding;
    this.downBlocks = levels.map((level) => new DownBlock2D({ ...level, padding }, network, rng));
    this.midBlock = mid && middle(mid, config, rng);
    this.centerInput = config.centerInput;
    this.classKind = classes?.kind;
    this.joinClasses = config.joinClasses;
    this.timeActivation = times.activation ?? "identity";
  }

  /** The time embedding [N or 1, T] with all that is added to it. */
  protected embed(x: Tensor, timestep: Tensor, conditions: UNetConditions): Tensor {
    const { classLabels, addedConditions, timestepCond } = conditions;
    const times = (t: Tensor): Tensor => cast(this.timeProj.call(cast(t, "f32")), x.dtype);
    const time = this.timeEmbedding.call(times(timesOf(timestep, x.shape[0]!)), timestepCond);
    const labels = needed(this, "classLabels", classLabels, this.classKind !== undefined);
    const classes = labels && this.embedClasses(this.classKind === "timestep" ? times(labels) : labels);
    const withClasses = classes ? this.addClasses(time, classes) : time;
    const added = needed(this, "addedConditions", addedConditions, this.addEmbedding !== undefined);
    const all = added ? withClasses.add(this.embedAdded(added)) : withClasses;
    return activate(this.timeActivation, all);
  }

  private embedClasses(labels: Tensor): Tensor {
    return this.classEmbedding ? this.classEmbedding.call(labels) : labels;
  }

  private addClasses(time: Tensor, classes: Tensor): Tensor {
    if (!this.joinClasses) return time.add(classes);
    return concat(time.broadcastTo([classes.shape[0]!, time.shape[1]!]), classes, 1);
  }

  private embedAdded({ textEmbeds, timeIds }: AddedConditions): Tensor {
    const n = textEmbeds.shape[0]!;
    if (timeIds.rank !== 2 || timeIds.shape[0] !== n)
      throw new ShapeError(
        `timeIds: expected [${n}, ids], as textEmbeds ${textEmbeds} has it, got ${timeIds}`,
      );
    const ids = this.addTimeProj!.call(timeIds.reshape([-1])).reshape([n, -1]);
    return this.addEmbedding!.call(concat(textEmbeds, cast(ids, textEmbeds.dtype), 1));
  }

  /** What every block is given. */
  protected blockInputs(
    x: Tensor,
    timestep: Tensor,
    context: Tensor | undefined,
    conditions: UNetConditions,
  ): BlockInputs {
    const { mask, key } = conditions;
    const tokens = context && this.encoderHidProj ? this.encoderHidProj.call(context) : context;
    return {
      time: this.embed(x, timestep, conditions),
      context: tokens,
      mask: mask && maskScores(mask, tokens),
      key,
    };
  }

  /** From the sample x [N, C, H, W] to the first map. */
  protected enter(x: Tensor): Tensor {
    return this.convIn.call(this.centerInput ? x.mul(2).sub(1) : x);
  }

  /**
   * From the first map down and through the middle: what comes out, and the skip connections from the top. `features`: of
   * each level, where the levels take any.
   */
  protected descend(
    first: Tensor,
    inputs: BlockInputs,
    features?: readonly Tensor[],
  ): { x: Tensor; skips: Tensor[] } {
    const skips = [first];
    let h = first;
    for (const [i, block] of this.downBlocks.entries()) {
      const out = block.call(h, features ? { ...inputs, features: features[i]! } : inputs);
      skips.push(...out.skips);
      h = out.x;
    }
    return { x: this.midBlock ? this.midBlock.call(h, inputs) : h, skips };
  }
}

function middle(mid: NonNullable<EncoderConfig["mid"]>, { network }: EncoderConfig, rng: Rng): MidBlock2D {
  const { level, scaleFactor } = mid;
  const { attention } = level.type;
  const skipTimeActivation = attention === "added" && network.skipTimeActivation;
  const options = { ...network, skipTimeActivation, outputScaleFactor: scaleFactor };
  const attentions = attention === "none" ? [] : [attentionOf(attention, 0, level, network, rng)];
  return new MidBlock2D(level.outChannels, options, attentions, rng);
}
