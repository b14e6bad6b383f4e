/** AnyControl in the tour: one sheet, prompt, maps and picture, for one to four conditions; and a number against no condition. */
import { readAll, type ShapeSample, tensorToPictures } from "../../data/index.ts";
import type { Picture } from "../../io/index.ts";
import type { Tensor } from "../../tensor/index.ts";
import { told, type Work } from "../../work.ts";
import type { TourContext, TourResult } from "../tour.ts";
import { picturesOf, testScenes } from "./data.ts";
import { baseOf, modelOf } from "./files.ts";
import { type Asking, testCases, testConditions } from "./measure.ts";
import { CHECKPOINTS } from "./options.ts";
import { mapPicture } from "./run.ts";
import { drawControlled } from "./use.ts";

const ASKED: readonly Asking[] = ["background", "unaligned", "three", "four"];
const SCENES = 12;
const MOST = 4;

/** How far pictures are from their scenes: the mean difference of pixels in [0, 1], which wants no network to judge. */
async function distance(drawn: Tensor, scenes: Tensor): Promise<number> {
  return drawn.clip(-1, 1).sub(scenes).abs().mean().div(2).item();
}

/** Draws, compares with the scenes that the conditions were taken from, shows. */
export async function* tourAnyControl({ seed, threads, signal }: TourContext): Work<TourResult> {
  const base = await baseOf("shapes-text", { threads });
  try {
    const model = await modelOf(CHECKPOINTS[0].name, base);
    const samples = (await readAll(testScenes(SCENES))) as ShapeSample[];
    const scenes = testCases(samples);
    const how = { seed, steps: 20, batch: SCENES, threads, signal };
    const runs = ["none", ...ASKED] as const;
    const made = new Map<Asking, Tensor>();
    for (const [k, asking] of runs.entries()) {
      const wanted = scenes.map((scene, i) => ({
        caption: scene.full.caption,
        conditions: testConditions(scene, i, asking),
      }));
      const run = drawControlled(base, model, wanted, how);
      made.set(
        asking,
        yield* told(run, (event) =>
          event.type === "progress"
            ? ({
                ...event,
                stage: "pictures",
                done: k * event.total + event.done,
                total: runs.length * event.total,
              } as const)
            : event,
        ),
      );
    }
    const blank: Picture = {
      width: base.size,
      height: base.size,
      channels: 3,
      data: new Uint8Array(3 * base.size ** 2).fill(245),
    };
    const rows: Picture[] = [];
    for (const [k, asking] of ASKED.entries()) {
      const conditions = testConditions(scenes[k]!, k, asking).map((one) => mapPicture(one, base.size));
      const [drawn] = await tensorToPictures(made.get(asking)!.sliceAxis(0, k, k + 1));
      rows.push(...conditions, ...new Array<Picture>(MOST - conditions.length).fill(blank), drawn!);
    }
    yield {
      type: "figure",
      name: "conditions",
      caption: `Pictures under 1 to 4 conditions; in the second row they do not fit together: a place without its near thing, and that thing alone. Prompts: ${ASKED.map((_, k) => scenes[k]!.full.caption).join("; ")}.`,
      pictures: rows,
      columns: ["condition", "", "", "", "picture"],
      rows: ASKED.map((_, k) => String(k + 1)),
      scale: 2,
    };
    const truth = picturesOf(samples, base.size);
    const value = await distance(made.get("unaligned")!, truth);
    const none = await distance(made.get("none")!, truth);
    return {
      did: `made ${runs.length * SCENES} pictures under none to four conditions`,
      quality: [
        {
          name: "distance from the scene, unaligned conditions",
          value,
          better: "lower",
          baseline: { name: "no condition", value: none },
        },
      ],
    };
  } finally {
    await base.close();
  }
}
