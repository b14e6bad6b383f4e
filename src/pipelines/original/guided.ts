/** Networks of guided-diffusion (Dhariwal and Nichol 2021), whose files do not tell all of their configuration. */
import { ArgumentError } from "../../errors.ts";
import { ADM_CLASSIFIER_256, ADM_UNETS } from "../../networks/index.ts";
import { blankRng, parameters } from "../../nn/index.ts";
import type { Config } from "../components.ts";
import type { GuidedClass } from "../detect.ts";
import { networkClass } from "../registry.ts";
import { selected, type WeightSource } from "../weights.ts";
import type { OriginalNetwork } from "./original-network.ts";

/** The published configurations, by class and name. */
export const GUIDED_PRESETS: Readonly<Record<GuidedClass, Readonly<Record<string, Config>>>> = {
  GuidedDiffusionUNet: ADM_UNETS,
  GuidedDiffusionClassifier: { classifier256: ADM_CLASSIFIER_256 },
};

/** Whether a configuration asks for exactly the names and shapes of a file. */
function fits(className: GuidedClass, config: Config, { entries }: WeightSource): boolean {
  const expected = parameters(networkClass(className, "preset").build(config, blankRng));
  return (
    expected.size === entries.size &&
    [...expected].every(([name, { shape }]) => String(entries.get(name)?.shape) === String(shape))
  );
}

/** @throws {ArgumentError} without a configuration, naming the published ones that its shapes fit */
export function openGuided(source: WeightSource, className: GuidedClass, config?: Config): OriginalNetwork {
  if (config) {
    const weights = selected(source, (name) => name);
    return { className, config: { _class_name: className, ...config }, weights, unknown: [] };
  }
  const presets = Object.entries(GUIDED_PRESETS[className]);
  const fitting = presets.filter(([, preset]) => fits(className, preset, source)).map(([name]) => name);
  const what = className === "GuidedDiffusionUNet" ? "a U-Net" : "a classifier";
  throw new ArgumentError(
    `${source.path}: this is ${what} of guided-diffusion (ADM), whose shapes do not tell its heads, the order of its ` +
      `attention and its dropout: give its configuration, with the argument names of the original code, or the name ` +
      `of a published one (${presets.map(([name]) => name).join(", ")}). ` +
      (fitting.length > 0
        ? `Its names and shapes are those of ${fitting.join(" and ")}`
        : "Its shapes are of none of these"),
  );
}
