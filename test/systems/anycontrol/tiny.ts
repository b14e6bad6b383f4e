/** A small untrained base, for tests. */
import { openBase } from "../../../src/systems/anycontrol/base.ts";
import { newPipeline, SHAPES_TEXT } from "../../../src/training/index.ts";

const CAPTIONS = [
  "a red circle on teal",
  "a blue square and a green person on brown",
  "an orange triangle on pink",
];
const SIZES = { ...SHAPES_TEXT, channels: [8, 16], text: { width: 16, layers: 1 }, steps: 3 };

/** Pictures of 32 x 32, a U-Net of two levels. */
export const tinyPipeline = () => newPipeline(SIZES, CAPTIONS, 1);
export const tinyBase = () => openBase(tinyPipeline(), { threads: 1 });
