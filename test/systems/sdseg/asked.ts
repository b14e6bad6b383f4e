/** The study of SDSeg on made-up pictures: what it asks for, without training or measuring anything. */
import { type Dataset, fromArray } from "../../../src/data/index.ts";
import { type Sample, toSample } from "../../../src/systems/sdseg/data.ts";
import { createSDSeg, PRESETS } from "../../../src/systems/sdseg/model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "../../../src/systems/sdseg/options.ts";
import type { Sources } from "../../../src/systems/sdseg/sets.ts";
import { type Findings, findings } from "../../../src/systems/sdseg/study.ts";
import { drained } from "../../../src/work.ts";
import { type AskedCell, recordingStudy } from "../../study/recording-study.ts";

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

/** What the study asks for, and what it finds when every cell holds what `valueFor` says. */
export async function asked(
  given: Record<string, unknown> = {},
  valueFor: (cell: Omit<AskedCell, "id">) => unknown = () => ({
    dice: 0.5,
    iou: 0.4,
    perPicture: [0.5, 0.5, 0.5],
  }),
): Promise<{ cells: AskedCell[]; found: Findings }> {
  const study = recordingStudy((cell) => (cell.kind === "model" ? MODEL : valueFor(cell)));
  const options = optionsOf(given);
  const found = await drained(findings(study, options, { sources: madeUp(options.data) }));
  return { cells: study.cells, found };
}
