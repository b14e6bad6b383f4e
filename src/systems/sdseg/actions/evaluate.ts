/** `tweedie evaluate sdseg`. */
import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { writeFileAtomic } from "../../../io/index.ts";
import { describeMeasurement, type Measurement } from "../../../metrics/index.ts";
import type { ActionContext, ActionEvent, ActionResult } from "../../system.ts";
import { evaluateOn, predictWith } from "../evaluate.ts";
import { openSegmenter } from "../infer.ts";
import type { EvaluateActionOptions } from "../options.ts";
import { runSeeds, stabilityOf } from "../stability.ts";
import { openData, openModel, readSamples } from "./common.ts";

/** Scores of a model on pictures with masks, and on request their spread over seeds. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  { signal }: ActionContext,
): AsyncGenerator<ActionEvent, ActionResult> {
  const { convention, stability, limit, mode, steps, seed, ensemble } = options;
  const { model, origin } = await openModel(options.model);
  const { title, source } = await openData(options.data, model.config, "test");
  const data = yield* readSamples(source, { config: model.config, scale: origin.scale ?? 1, limit });
  const segmenter = openSegmenter(model);
  const { classes } = model.config;
  const inference = { ...options, signal };
  try {
    yield { type: "message", text: `${title}: ${data.length} pictures, model ${options.model}` };
    const startedAt = performance.now();
    const scores = await evaluateOn(predictWith(segmenter, inference), data, { classes, convention });
    const perPicture = (performance.now() - startedAt) / data.length;
    const settings = {
      model: options.model,
      mode,
      ...(mode !== "direct" && { steps }),
      ensemble,
      convention,
    };
    const counts = { pictures: scores.pictures, units: scores.units };
    const dice: Measurement = {
      value: scores.dice,
      interval: scores.interval,
      recipe: { metric: "Dice", counts, seed, options: settings },
    };
    const rows: (string | number)[][] = [
      ["Dice", scores.dice],
      ["IoU", scores.iou],
      ...(classes > 2 ? scores.perClass.map((d, k) => [`Dice of class ${k + 1}`, d]) : []),
      ["ms per picture", perPicture],
    ];
    let spread: Record<string, number> = {};
    if (stability > 1 && classes === 2) {
      const runs = await runSeeds((s) => predictWith(segmenter, { ...inference, seed: s }), data, {
        seeds: stability,
      });
      spread = { ...(await stabilityOf(runs, data, model)) };
      for (const [name, value] of Object.entries(spread)) rows.push([`${name}, ${stability} seeds`, value]);
    }
    yield { type: "table", title: describeMeasurement(dice), table: { columns: ["measure", "value"], rows } };
    const metrics = { dice: scores.dice, iou: scores.iou, millisecondsPerPicture: perPicture, ...spread };
    if (options.out !== undefined) {
      await mkdir(dirname(options.out), { recursive: true });
      const report = { title, recipe: dice.recipe, interval: scores.interval, metrics, table: scores.table };
      await writeFileAtomic(options.out, Buffer.from(`${JSON.stringify(report)}\n`));
      yield { type: "file", path: options.out, about: "numbers, with the counts of every picture" };
    }
    return { summary: `Dice ${scores.dice.toFixed(4)}, IoU ${scores.iou.toFixed(4)}.`, metrics };
  } finally {
    await segmenter.close();
  }
}
