/** `run` of systems that restore: restored pictures, what was taken away, and both beside the original. */
import { readPictureFile } from "../data/index.ts";
import { ArgumentError } from "../errors.ts";
import { hashFile, type Picture } from "../io/index.ts";
import { comparison, grid, toRgb } from "../report/index.ts";
import { told, type Work } from "../work.ts";
import { type BatchItem, batchSummary, runBatch } from "./batch.ts";
import { openRestoring, type Restoring } from "./restoring.ts";
import type { RestoringSystem, RunOptions } from "./restoring-options.ts";
import type { ActionContext, ActionResult } from "./system.ts";

const KINDS = ["restored", "difference", "sheet"];

/** How much a difference is enlarged for people. */
const ENLARGED = 4;

/** In 8 bits for people. */
function shown(picture: Picture): Picture {
  const { data, ...size } = picture;
  if (data instanceof Uint8Array) return picture;
  const scale = data instanceof Uint16Array ? 255 / 65_535 : 255;
  return { ...size, data: Uint8Array.from(data, (v) => Math.round(Math.min(255, Math.max(0, v * scale)))) };
}

/** What was taken away, four times enlarged around gray. */
export function differenceOf(before: Picture, after: Picture): Picture {
  const [a, b] = [toRgb(shown(before)), toRgb(shown(after))];
  return { ...a, data: a.data.map((v, i) => Math.min(255, Math.max(0, 128 + ENLARGED * (v - b.data[i]!)))) };
}

async function* restoreOne(
  { path, source }: BatchItem,
  restoring: Restoring,
  options: RunOptions,
  { previews, signal }: ActionContext,
): Work<Record<string, Picture>> {
  const { maxPixels, tile, overlap } = options;
  const picture = await readPictureFile(path, { colour: "as-is", depth: "file", maxPixels });
  const run = restoring.restore(picture, { tile, overlap, signal });
  const restored = yield* told(run, ({ done, total }) =>
    total > 1 ? ({ type: "progress", stage: `tiles of ${source}`, done, total } as const) : undefined,
  );
  const [before, after] = [shown(picture), shown(restored)].map(toRgb) as [Picture, Picture];
  const difference = differenceOf(picture, restored);
  if (previews)
    yield {
      type: "album",
      ...comparison({ name: "restored", caption: `${source}, before and after` }, before, after),
    };
  return { restored, difference, sheet: grid([before, after, difference], { columns: 3 }) };
}

/** The action that restores a picture, or a folder of them. */
export const restoringRun = ({ system, open }: RestoringSystem) =>
  async function* runAction(options: RunOptions, context: ActionContext): Work<ActionResult> {
    const { out, tile, overlap, threads } = options;
    if (overlap >= tile)
      throw new ArgumentError(`overlap: expected less than the tile of ${tile} pixels, got ${overlap}`);
    const { file, model } = await open(options.model);
    const restoring = openRestoring(model, threads === undefined ? {} : { threads });
    const startedAt = performance.now();
    try {
      const settings = { system, model: await hashFile(file), tile, overlap };
      const result = yield* runBatch({ ...options, settings, kinds: KINDS }, context, (item) =>
        restoreOne(item, restoring, options, context),
      );
      const seconds = (performance.now() - startedAt) / 1000;
      const { done, kept, failed } = result;
      return {
        summary: `${batchSummary(result, "restored")}. ${seconds.toFixed(1)} s; restored pictures, differences and sheets are in ${out}.`,
        metrics: { pictures: done, kept, broken: failed.length, seconds },
        ...(failed.length > 0 && { incomplete: true }),
      };
    } finally {
      await restoring.close();
    }
  };
