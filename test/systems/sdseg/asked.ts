/** The study of SDSeg on made-up pictures: what it asks for, without training or measuring anything. */
import { type Dataset, fromArray } from "../../../src/data/index.ts";
import { type Sample, toSample } from "../../../src/systems/sdseg/data.ts";
import { createSDSeg, PRESETS } from "../../../src/systems/sdseg/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/sdseg/options.ts";
import type { Sources } from "../../../src/systems/sdseg/sets.ts";
import { findings } from "../../../src/systems/sdseg/study.ts";
import type { AskedCell } from "../../study/recording-study.ts";
import { askedCells, type StudyUnderTest } from "../deciding-options.ts";

/** Larger than the smallest window, so that a window changes what is measured. */
const SIDE = 80;

const numberOf = (text: string): number =>
  [...text].reduce((sum, c) => (sum * 31 + c.charCodeAt(0)) % 997, 7);

/** A square on a ground; membranes are darker than the rest, everything else is brighter. */
function picture(set: string, split: string, root: string, index: number) {
  const dark = set === "em-membrane";
  const from = 20 + ((numberOf(set + split + root) + index) % 20);
  const labels = Int32Array.from({ length: SIDE * SIDE }, (_, i) => {
    const [x, y] = [i % SIDE, Math.floor(i / SIDE)];
    return x >= from && x < from + 20 && y >= from && y < from + 20 ? 1 : 0;
  });
  const data = Uint8Array.from(labels, (label) => (label === 1 ? (dark ? 30 : 220) : dark ? 200 : 60));
  return { name: `${set} ${index}`, image: { width: SIDE, height: SIDE, channels: 1, data }, labels };
}

/** Three pictures a split; what is not procedural needs a folder. */
export const madeUp = (root: string | undefined): Sources => ({
  has: async (set) => set === "lesions" || root !== undefined,
  async open(set, split, config): Promise<Dataset<Sample>> {
    const one = (index: number): Sample => toSample(picture(set, split, root ?? "", index), { config });
    return fromArray([0, 1, 2].map(one));
  },
});

export const MODEL = createSDSeg(PRESETS.smoke, 0);

export const optionsOf = (given: Record<string, unknown> = {}): ReproduceActionOptions =>
  reproduceOptions.parse({ data: "DIR", seeds: 2, ...given });

const REACHED = { dice: 0.5, iou: 0.4, perPicture: [0.5, 0.5, 0.5] };

/** The study, for the test of its options. */
export const STUDY: StudyUnderTest = {
  schema: reproduceOptions,
  base: { data: "DIR", seeds: 2 },
  run: (study, options: ReproduceActionOptions) =>
    findings(study, options, { sources: madeUp(options.data) }),
  valueFor: ({ kind }) => (kind === "model" ? MODEL : REACHED),
  deciding: {
    data: { data: "OTHER" },
    sets: { sets: "lesions" },
    variants: { variants: "lambda-1" },
    steps: { steps: 7 },
    realSteps: { realSteps: 7 },
    autoencoderSteps: { autoencoderSteps: 7 },
    decoderSteps: { decoderSteps: 7 },
    test: { test: 2 },
    window: { window: 64 },
    seeds: { seeds: 5 },
    extras: { extras: true },
    shapes: { shapes: true },
    seed: { seed: 1 },
  },
  undeciding: {
    threads: { threads: 2 },
    shard: { shard: "1/1" },
    work: { work: "elsewhere" },
    out: { out: "elsewhere" },
  },
};

/** What the study asks for. */
export const asked = (given: Record<string, unknown> = {}): Promise<AskedCell[]> => askedCells(STUDY, given);
