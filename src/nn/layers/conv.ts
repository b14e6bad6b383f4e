/** Convolutions with their parameters. */

import { ArgumentError, ShapeError } from "../../errors.ts";
import {
  type BorderedConvOptions,
  type ConvOptions,
  type ConvTransposeOptions,
  conv,
  convTranspose,
  sizeOf,
  type Tensor,
} from "../../tensor/index.ts";
import { fans, type Initializer, type Rng, uniformFanIn } from "../init.ts";
import { Module } from "../module.ts";
import { checkLayer } from "./check.ts";

/** Kernel size: one number for all spatial axes, or one each. */
export type Kernel = number | readonly number[];

/** Options of `Conv`, `Conv1d` and `Conv2d`. */
export interface ConvLayerOptions extends BorderedConvOptions {
  /** Number of spatial axes; default: as many as the kernel has numbers, 2 for a single number. */
  readonly dims?: number;
  /** Default true. */
  readonly bias?: boolean;
  /** Initialiser of the weight; default: PyTorch's. */
  readonly init?: Initializer;
}

function kernelShape(kernel: Kernel, dims: number | undefined): readonly number[] {
  const shape = typeof kernel === "number" ? Array.from({ length: dims ?? 2 }, () => kernel) : kernel;
  if (dims !== undefined && shape.length !== dims)
    throw new ArgumentError(`Conv: expected a kernel with ${dims} axes, got [${shape.join(", ")}]`);
  return shape;
}

function checkChannels(name: string, inChannels: number, outChannels: number, groups: number): void {
  if (inChannels % groups !== 0 || outChannels % groups !== 0) {
    throw new ArgumentError(
      `${name}: ${inChannels} input and ${outChannels} output channels do not split into ${groups} groups`,
    );
  }
}

function checkInput(name: string, x: Tensor, channels: number, rank: number): void {
  if (x.rank === rank && x.shape[1] === channels) return;
  const axes = ["D", "H", "W"].slice(5 - rank).join(", ");
  throw new ShapeError(`${name}: expected [N, ${channels}, ${axes}], got ${x}`);
}

/** Cross-correlation over 1 to 3 spatial axes. */
export class Conv extends Module {
  readonly weight: Tensor; // [K, C / groups, ...kernel]
  readonly bias: Tensor | undefined; // [K]
  readonly stride: Kernel;
  readonly padding: NonNullable<ConvOptions["padding"]>;
  readonly dilation: Kernel;
  readonly groups: number;
  // Absent where they are the default, so that models saved before have the same static values.
  readonly paddingMode?: Exclude<ConvLayerOptions["paddingMode"], "zeros">;
  readonly causal?: true;

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Kernel,
    rng: Rng,
    options: ConvLayerOptions = {},
  ) {
    super();
    checkLayer("Conv", { inChannels, outChannels }, rng);
    const { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, init = uniformFanIn } = options;
    checkChannels("Conv", inChannels, outChannels, groups);
    const shape = [outChannels, inChannels / groups, ...kernelShape(kernel, options.dims)];
    this.weight = init(rng, shape);
    this.bias = bias ? uniformFanIn(rng, [outChannels], fans(shape).fanIn) : undefined;
    this.stride = stride;
    this.padding = padding;
    this.dilation = dilation;
    this.groups = groups;
    const { paddingMode = "zeros", causal = false } = options;
    if (paddingMode !== "zeros") this.paddingMode = paddingMode;
    if (causal) this.causal = true;
  }

  /** x [N, C, ...] gives [N, K, ...]. */
  call(x: Tensor): Tensor {
    checkInput("Conv", x, this.weight.shape[1]! * this.groups, this.weight.rank);
    return conv(x, this.weight, this.bias, this);
  }
}

/** `Conv` over [N, C, W]. */
export class Conv1d extends Conv {
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Kernel,
    rng: Rng,
    options: ConvLayerOptions = {},
  ) {
    super(inChannels, outChannels, kernel, rng, { ...options, dims: 1 });
  }
}

/** `Conv` over [N, C, H, W]. */
export class Conv2d extends Conv {
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Kernel,
    rng: Rng,
    options: ConvLayerOptions = {},
  ) {
    super(inChannels, outChannels, kernel, rng, { ...options, dims: 2 });
  }
}

/** `Conv` over [N, C, D, H, W]. */
export class Conv3d extends Conv {
  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Kernel,
    rng: Rng,
    options: ConvLayerOptions = {},
  ) {
    super(inChannels, outChannels, kernel, rng, { ...options, dims: 3 });
  }
}

/** Options of `ConvTranspose`. */
export interface ConvTransposeLayerOptions
  extends Omit<ConvLayerOptions, "paddingMode" | "causal">,
    ConvTransposeOptions {}

/** The adjoint of a strided convolution: upsampling with a learned kernel. */
export class ConvTranspose extends Module {
  readonly weight: Tensor; // [C, K / groups, ...kernel], as PyTorch stores it
  readonly bias: Tensor | undefined; // [K]
  readonly stride: Kernel;
  readonly padding: NonNullable<ConvOptions["padding"]>;
  readonly outputPadding: Kernel;
  readonly dilation: Kernel;
  readonly groups: number;

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: Kernel,
    rng: Rng,
    options: ConvTransposeLayerOptions = {},
  ) {
    super();
    checkLayer("ConvTranspose", { inChannels, outChannels }, rng);
    const { stride = 1, padding = 0, outputPadding = 0, dilation = 1, groups = 1 } = options;
    const { bias = true, init = uniformFanIn } = options;
    checkChannels("ConvTranspose", inChannels, outChannels, groups);
    const size = kernelShape(kernel, options.dims);
    this.weight = init(rng, [inChannels, outChannels / groups, ...size]);
    this.bias = bias ? uniformFanIn(rng, [outChannels], (outChannels / groups) * sizeOf(size)) : undefined;
    this.stride = stride;
    this.padding = padding;
    this.outputPadding = outputPadding;
    this.dilation = dilation;
    this.groups = groups;
  }

  /** x [N, C, ...] gives [N, K, ...]. */
  call(x: Tensor): Tensor {
    checkInput("ConvTranspose", x, this.weight.shape[0]!, this.weight.rank);
    return convTranspose(x, this.weight, this.bias, this);
  }
}
