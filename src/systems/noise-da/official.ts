/**
 * Checkpoints in the layout of the official code, as safetensors: `RestorationNet.*`, `denoise_fn.*` and six buffers of the
 * schedule in one file, or the network alone; `module.` before any of them.
 */
import { FormatError } from "../../errors.ts";
import { RestorationUNet, type Restorer } from "../../networks/index.ts";
import { blankRng } from "../../nn/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import {
  type LoadedModel,
  loadWeights,
  type RestorerNotes,
  readWeights,
  restorerFile,
} from "../../training/index.ts";
import { DIFFUSION_SIZES, NoiseGuesser } from "./model.ts";

const PREFIX = /^(module\.)?(RestorationNet\.)?(module\.)?/;
const DIFFUSION = /^(module\.)?denoise_fn\.(module\.)?/;
/** Buffers of the schedule. */
const BUFFERS = /^(module\.)?(gammas|sqrt_recip_gammas|sqrt_recipm1_gammas|posterior_\w+)$/;

/** Which values a network has learned from: "unit" as published for noise, "signed" as for rain and blur. */
export type OfficialRange = "unit" | "signed";

/**
 * The U-Net of such a file, whatever its width and depth. Its files do not say their range; `range` does.
 *
 * @throws FormatError listing tensors that are missing, unexpected or of another shape
 */
export function officialRestorer(
  path: string,
  weights: ReadonlyMap<string, Tensor>,
  range: OfficialRange = "unit",
): RestorationUNet {
  const own = new Map(
    [...weights]
      .filter(([key]) => !DIFFUSION.test(key) && !BUFFERS.test(key))
      .map(([key, t]) => [key.replace(PREFIX, ""), t]),
  );
  const first = own.get("down_path.0.block.0.weight");
  if (first?.rank !== 4)
    throw new FormatError(
      `${path}: no restoration U-Net; expected a tensor down_path.0.block.0.weight, got ${[...own.keys()].slice(0, 5).join(", ") || "none"}`,
    );
  const [base, channels] = first.shape as [number, number, number, number];
  const levels = [...own.keys()].map((key) => Number(/^down_path\.(\d+)\./.exec(key)?.[1] ?? -1));
  const config = { channels, base, depth: Math.max(...levels) + 1, alignCorners: true, range };
  return loadWeights(path, new RestorationUNet(config, blankRng), own);
}

/** The diffusion model of such a file, with `cond_embed` under its name here. @throws FormatError as above */
export function officialDiffusion(path: string, weights: ReadonlyMap<string, Tensor>): NoiseGuesser {
  const own = new Map(
    [...weights]
      .filter(([key]) => DIFFUSION.test(key))
      .map(([key, t]) => [key.replace(DIFFUSION, "").replace(/^cond_embed\./, "time_embed."), t]),
  );
  if (own.size === 0) throw new FormatError(`${path}: no tensors of a diffusion model (denoise_fn.*)`);
  return loadWeights(path, new NoiseGuesser(DIFFUSION_SIZES.published, blankRng), own);
}

/** Our own checkpoint, or one in the official layout (its metadata may give its `range`). @throws FormatError for others */
export async function loadAnyRestorer(path: string): Promise<LoadedModel<Restorer, RestorerNotes>> {
  const { weights, metadata } = await readWeights(path);
  if (restorerFile.matches(metadata) || metadata.has("format")) {
    const isForeign = !restorerFile.matches(metadata) && metadata.get("format") === "pt";
    if (!isForeign) return restorerFile.load(path);
  }
  const range = metadata.get("range") ?? "unit";
  if (range !== "unit" && range !== "signed")
    throw new FormatError(`${path}: expected a range of unit or signed, got ${range}`);
  return { model: officialRestorer(path, weights, range), notes: { training: "official layout" } };
}
