/** What a model was trained on, from the configuration of its scheduler: what further training of it needs. */
import { COUNT, Fields, NUMBER, oneOf } from "../../io/fields.ts";
import {
  epsilonObjective,
  flowObjective,
  type Objective,
  sampleObjective,
  vObjective,
} from "../objectives/targets.ts";
import { shiftFlow } from "../sigmas.ts";
import { trainingTable } from "./levels.ts";
import type { SchedulerConfig } from "./table.ts";

/** Training targets by the names of configurations. */
export const OBJECTIVES = {
  epsilon: epsilonObjective,
  sample: sampleObjective,
  v_prediction: vObjective,
  flow_prediction: flowObjective,
} as const satisfies Record<string, Objective>;
/** What a network predicts. */
export type PredictionType = keyof typeof OBJECTIVES;

/** Noise levels by index, from little noise to much: x = alpha x0 + sigma noise. */
export interface TrainingSchedule {
  readonly prediction: PredictionType;
  readonly alphas: Float64Array; // [T]
  readonly sigmas: Float64Array; // [T]
  /** What the network is told of each level. */
  readonly timesteps: Float64Array; // [T]
}

/**
 * The levels that a model was trained on. Of flow matching: times spread evenly over (0, 1], shifted as configured.
 *
 * @throws FormatError naming the setting that is wrong
 */
export function trainingSchedule(config: SchedulerConfig): TrainingSchedule {
  const name = String(config._class_name ?? "scheduler");
  const c = new Fields(name, config);
  if (name.startsWith("FlowMatch")) {
    const count = c.value("num_train_timesteps", COUNT, 1000);
    const shift = c.value("shift", NUMBER, 1);
    const sigmas = Float64Array.from({ length: count }, (_, i) => shiftFlow((i + 1) / count, shift));
    return {
      prediction: "flow_prediction",
      alphas: sigmas.map((s) => 1 - s),
      sigmas,
      timesteps: sigmas.map((s) => s * count),
    };
  }
  const ratios = Float64Array.from(trainingTable(c).sigmas); // sigma / alpha
  const alphas = ratios.map((r) => (r === Number.POSITIVE_INFINITY ? 0 : 1 / Math.sqrt(1 + r * r)));
  return {
    prediction: c.value("prediction_type", oneOf("epsilon", "sample", "v_prediction"), "epsilon"),
    alphas,
    sigmas: alphas.map((a) => Math.sqrt(1 - a * a)),
    timesteps: ratios.map((_, i) => i),
  };
}
