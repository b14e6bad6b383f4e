/** A linear layer whose weight and inputs were rounded to a grid and are computed in floats: the study of the error. */
import { linear, type Tensor } from "../../tensor/index.ts";
import { Module } from "../module.ts";
import { type ActivationGrid, quantizeActivations, type StaticRange } from "./activation.ts";

/**
 * A change of variables of the inputs, x = scale x' + shift for each channel, that the weight and the bias undo. It
 * changes nothing in exact arithmetic and makes x' easier to round.
 */
export interface InputChange {
  readonly scale: Tensor; // [K]
  readonly shift: Tensor | undefined; // [K]
}

/** `weight round((x - shift) / scale) + bias`. */
export class SimulatedLinear extends Module {
  readonly weight: Tensor; // [O, I], already on its grid
  readonly bias: Tensor | undefined; // [O]
  readonly change: InputChange | undefined;
  readonly range: StaticRange | undefined;
  readonly activation: ActivationGrid | undefined;

  constructor(
    weight: Tensor,
    bias: Tensor | undefined,
    activation: ActivationGrid | undefined,
    { change, range }: { change?: InputChange; range?: StaticRange } = {},
  ) {
    super();
    this.weight = weight;
    this.bias = bias;
    this.change = change;
    this.range = range;
    this.activation = activation;
  }

  /** x [..., I] gives [..., O]. */
  call(x: Tensor): Tensor {
    const { change, range, activation } = this;
    let input = x;
    if (change) input = (change.shift ? x.sub(change.shift) : x).div(change.scale);
    if (activation) input = range ? range.call(input, activation) : quantizeActivations(input, activation);
    return linear(input, this.weight, this.bias);
  }
}
