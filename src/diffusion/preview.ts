/** Previews of a sample while it is made: by a linear map from latents to colours, or by a decoder. */
import { ArgumentError, ShapeError } from "../errors.ts";
import { type Tensor, tensor } from "../tensor/index.ts";
import type { Sampling } from "./replace-sample.ts";
import type { SampleStep } from "./sample.ts";

/** Colour of a latent pixel, from -1 to 1: bias + sum over channels of value * factor. */
export interface LatentPreview {
  /** Per latent channel: red, green, blue. */
  readonly factors: readonly (readonly [number, number, number])[];
  readonly bias: readonly [number, number, number];
}

/** Known fits, for latents as the networks see them (already scaled). For others use `fitLatentPreview`. */
export const LATENT_PREVIEWS = {
  /** Stable Diffusion 1 and 2 (Hugging Face forum, "Decoding latents to RGB without upscaling", 2022). */
  sd1: {
    factors: [
      [0.298, 0.207, 0.208],
      [0.187, 0.286, 0.173],
      [-0.158, 0.189, 0.264],
      [-0.184, -0.271, -0.473],
    ],
    bias: [0, 0, 0],
  },
  /** Stable Diffusion XL, as user interfaces have it. */
  sdxl: {
    factors: [
      [0.3651, 0.4232, 0.4341],
      [-0.2533, -0.0042, 0.1068],
      [0.1076, 0.1111, -0.0362],
      [-0.3165, -0.2492, -0.2188],
    ],
    bias: [0.1084, -0.0175, -0.0011],
  },
} as const satisfies Readonly<Record<string, LatentPreview>>;

/** Small pictures [N, 3, h, w], from -1 to 1, of latents [N, C, h, w]. */
export function latentPreview(latents: Tensor, { factors, bias }: LatentPreview): Tensor {
  const [n, channels, h, w] = fourAxes("latentPreview", latents);
  if (channels !== factors.length)
    throw new ShapeError(
      `latentPreview: these factors are for ${factors.length} channels, got [${latents.shape}]`,
    );
  const matrix = tensor(
    [0, 1, 2].map((c) => factors.map((f) => f[c]!)),
    { dtype: latents.dtype },
  ); // [3, C]
  const colours = matrix.matmul(latents.reshape([n, channels, h * w])); // [N, 3, h w]
  const shift = tensor(
    bias.map((b) => [b]),
    { dtype: latents.dtype },
  );
  return colours.add(shift).clip(-1, 1).reshape([n, 3, h, w]);
}

function fourAxes(where: string, x: Tensor): [number, number, number, number] {
  if (x.rank !== 4) throw new ShapeError(`${where}: expected [N, C, H, W], got [${x.shape}]`);
  return x.shape as unknown as [number, number, number, number];
}

/**
 * The linear map that fits pairs of latents [N, C, h, w] and images [N, 3, k h, k w] (from -1 to 1) best, by least
 * squares over all latent pixels; images are averaged down. Throws `ArgumentError` where the pairs do not determine it.
 */
export async function fitLatentPreview(latents: Tensor, images: Tensor): Promise<LatentPreview> {
  const [n, channels, h, w] = fourAxes("fitLatentPreview", latents);
  const [count, colours, height, width] = fourAxes("fitLatentPreview", images);
  const k = height / h;
  if (count !== n || colours !== 3 || !Number.isInteger(k) || width !== k * w)
    throw new ShapeError(
      `fitLatentPreview: expected images [${n}, 3, k ${h}, k ${w}] for latents [${latents.shape}], got [${images.shape}]`,
    );
  const small = images.reshape([n, 3, h, k, w, k]).mean([3, 5]);
  const [inputs, targets] = [await latents.toArray(), await small.toArray()];
  const size = channels + 1; // the last is the bias
  const normal = Array.from({ length: size }, () => new Array<number>(size + 3).fill(0)); // [A^T A | A^T B]
  const row = new Array<number>(size + 3).fill(1);
  for (let b = 0; b < n; b++) {
    for (let p = 0; p < h * w; p++) {
      for (let c = 0; c < channels; c++) row[c] = inputs[(b * channels + c) * h * w + p]!;
      for (let c = 0; c < 3; c++) row[size + c] = targets[(b * 3 + c) * h * w + p]!;
      for (let i = 0; i < size; i++) for (let j = 0; j < size + 3; j++) normal[i]![j]! += row[i]! * row[j]!;
    }
  }
  const solution = solve(normal, size).map((r) => r as unknown as [number, number, number]);
  return { factors: solution.slice(0, channels), bias: solution[channels]! };
}

/** Gauss-Jordan elimination with pivoting on [A | B]; gives A^-1 B. */
function solve(rows: number[][], size: number): number[][] {
  const scale = Math.max(...rows.map((r, i) => Math.abs(r[i]!)));
  for (let i = 0; i < size; i++) {
    const pivot = rows.slice(i).reduce((best, r) => (Math.abs(r[i]!) > Math.abs(best[i]!) ? r : best));
    if (!(Math.abs(pivot[i]!) > 1e-10 * scale))
      throw new ArgumentError("fitLatentPreview: the latents are too few or too alike for a fit");
    rows.splice(rows.indexOf(pivot), 1);
    rows.splice(i, 0, pivot);
    for (const [j, r] of rows.entries()) {
      if (j === i) continue;
      const factor = r[i]! / pivot[i]!;
      for (let c = i; c < r.length; c++) r[c]! -= factor * pivot[c]!;
    }
  }
  return rows.map((r, i) => r.slice(size).map((v) => v / r[i]!));
}

/** A step, with a preview when one is due. */
export interface PreviewedStep<P> extends SampleStep {
  readonly preview?: P;
}

/**
 * Adds a preview, `render(denoised, step)`, to every n-th step of a sampler and to the last. Accepts a sample through
 * `next(x)`, as samplers do.
 */
export async function* withPreviews<P>(
  steps: Sampling,
  render: (denoised: Tensor, step: SampleStep) => P | Promise<P>,
  { every = 1 }: { every?: number } = {},
): AsyncGenerator<PreviewedStep<P>, Tensor, Tensor | undefined> {
  if (!Number.isInteger(every) || every < 1)
    throw new ArgumentError(`withPreviews: every must be a positive integer, got ${every}`);
  let last: Tensor | undefined;
  try {
    let next = await steps.next();
    while (!next.done) {
      const step = next.value;
      const due = (step.step + 1) % every === 0 || step.step + 1 === step.steps;
      const x = yield due ? { ...step, preview: await render(step.denoised, step) } : step;
      last = x ?? step.x;
      next = await steps.next(x);
    }
    return next.value;
  } finally {
    await steps.return(last as Tensor);
  }
}
