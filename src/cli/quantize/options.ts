/** Options of `tweedie quantize`. */
import { z } from "zod";
import { data, how, model, seed, threads } from "../../systems/options.ts";
import { hinted } from "../../systems/system.ts";

const METHODS = ["nearest", "q-dit"] as const;
const WIDTHS = ["f16", "bf16", "f32"] as const;

const only = (type: z.ZodType<number>, about: string) => how(type.optional(), `q-dit: ${about}`, "N");
const whole = (min: number) => z.int().min(min);

export const quantizeOptions = z.object({
  model: hinted(
    model(
      z.string(),
      "folder or file of one network (such as a pipeline's unet or transformer), or a small DiT's checkpoint",
    ),
    { positional: true, path: "file-or-folder" },
  ),
  method: how(
    z.enum(METHODS).default("nearest"),
    "nearest, or q-dit: by GPTQ on samples that a DiT draws itself",
  ),
  weights: how(z.int().default(4), "bits of the weights, 2 to 8", "BITS"),
  activations: how(
    z.int().default(8),
    "8: the kernel rounds activations too and multiplies integers; 16: they stay floats",
    "BITS",
  ),
  group: how(
    z
      .string()
      .regex(/^\d+(,\d+)*$/, "expected a number, or several with commas")
      .optional(),
    "input channels that share a scale, a multiple of 16 (default 64); q-dit: also one size for qkv, out, fc1 and fc2 of every block, with commas",
    "N",
  ),
  symmetric: how(
    z.boolean().default(false),
    "nearest: scales from the largest magnitude, without zero points",
  ),
  shrink: how(
    z.boolean().default(false),
    "nearest: ranges of up to 4 bits shrunk to where the error of the weights is least; that of predictions may grow",
  ),
  exclude: how(z.string().optional(), "nearest: layers, by name, that stay as they are", "REGEX"),
  search: how(z.boolean().default(false), "q-dit: searches the group size of every layer"),
  budget: only(whole(16), "the search keeps the bit operations of groups of this size (default 64)"),
  population: only(whole(2), "candidates of a generation of the search (default 16)"),
  generations: only(whole(1), "generations of the search (default 6)"),
  data: hinted(
    data(
      z.string().optional(),
      "q-dit: Fashion-MNIST, or pictures in its format: the search then judges pictures by their distance to these, and not predictions by their error",
    ),
    { path: "folder", hint: "DIR" },
  ),
  pictures: only(whole(70), "pictures by which the search then judges a candidate (default 500)"),
  samples: only(whole(16), "samples for calibration (default 256)"),
  steps: only(whole(4), "steps of drawing them (default 50)"),
  guidance: how(z.number().min(0).max(20).optional(), "q-dit: guidance of drawing them (default 1.5)", "W"),
  seed,
  threads,
  dtype: how(z.enum(WIDTHS).default("f16"), "width of everything that is not quantised", "TYPE"),
  out: hinted(z.string().describe("folder to write (a file for a small DiT's checkpoint)"), {
    ...{ group: "Output", hint: "PATH", path: "output" },
  }),
  overwrite: hinted(z.boolean().default(false).describe("replaces what is there"), { group: "Output" }),
});

export type QuantizeOptions = z.output<typeof quantizeOptions>;
