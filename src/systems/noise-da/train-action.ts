/** `tweedie train noise-da`: a folder of clean pictures and one of real bad ones give an adapted network and a report. */
import { mkdir } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  type CleanPicture,
  type Dataset,
  DEGRADATIONS,
  type Degradation,
  type DegradationName,
  middleOf,
  toFloatPicture,
  UNCHANGED,
} from "../../data/index.ts";
import { encodePicture, type Picture, writeFileAtomic } from "../../io/index.ts";
import { totalVariation } from "../../metrics/index.ts";
import { createRestorer, type Restorer } from "../../networks/index.ts";
import { createRng } from "../../nn/index.ts";
import { comparison, grid, reportHtml } from "../../report/index.ts";
import { jit, type Tensor } from "../../tensor/index.ts";
import {
  type CropSource,
  degradedCrops,
  RESTORER_SIZES,
  type RestorationBatch,
  restorerFile,
} from "../../training/index.ts";
import { drained, told, type Work } from "../../work.ts";
import { commandLine } from "../command-line.ts";
import { openRestoring } from "../restoring.ts";
import { pictureInBytes } from "../restoring-page.ts";
import { fixedCrops, parted, restoredCrops } from "../restoring-training.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { samePictures, usablePictures } from "./folders.ts";
import { createNoiseGuesser } from "./model.ts";
import { type TrainActionOptions, trainOptions } from "./options.ts";
import { type JointSettings, noiseDaWay, trainJoint } from "./train.ts";
import { RESTORING } from "./use.ts";

/** Tasks whose losses the paper takes in [-1, 1]. */
const SIGNED: readonly DegradationName[] = ["rain", "blur"];

const settingsOf = (options: TrainActionOptions): JointSettings => {
  const { steps, batch, crop, learningRate, seed, task, range, alpha, ramp, tMin, tMax, ema } = options;
  const { shuffle, swap, conditions, margin, diffusionRate } = options;
  return {
    ...{ steps, batch, crop, learningRate, seed, shuffle, swap, conditions, margin },
    ...{ warmup: 0, schedule: "cosine", clip: 0 },
    mode: Number(options.mode) as 0 | 1 | 2,
    range: range === "auto" ? (SIGNED.includes(task) ? "signed" : "unit") : range,
    timesteps: [tMin, tMax],
    alpha: { cap: alpha, ramp: ramp * steps },
    helperRate: diffusionRate,
    ...(ema > 0 && { ema }),
  };
};

/** Numbers of a network on held-out crops: PSNR of synthetic ones, and the slopes of real ones, of which no truth is known. */
function judge(
  synthetic: RestorationBatch | undefined,
  real: Tensor | undefined,
  threads: number | undefined,
) {
  const settings = threads === undefined ? {} : { threads };
  const psnr = jit((net: Restorer, { degraded, clean }: RestorationBatch) => {
    const error = net.restore(degraded).clip(0, 1).sub(clean).square().mean([1, 2, 3]);
    return error
      .log()
      .mul(-10 / Math.LN10)
      .mean();
  }, settings);
  const slopes = jit(
    (net: Restorer, y: Tensor) => totalVariation(net.restore(y)).mean().div(totalVariation(y).mean()),
    settings,
  );
  return {
    close: () => Promise.all([psnr.close(), slopes.close()]),
    validate: async (net: Restorer): Promise<Record<string, number>> => ({
      ...(synthetic && { "held-out PSNR, synthetic": await (await psnr(net, synthetic)).item() }),
      ...(real && {
        "slopes of real pictures, restored over degraded": await (await slopes(net, real)).item(),
      }),
    }),
  };
}

/** Real pictures that the report shows. */
const SHOWN = 6;
/** The middle of a picture for the report. */
const WINDOW = 256;

function middle(image: Picture): Picture {
  const whole = toFloatPicture(image);
  return pictureInBytes(middleOf({ name: "", clean: whole, degraded: whole }, WINDOW).clean);
}

/** Real pictures before, as the network to begin with restores them (where there is one), and after. */
async function* beforeAfter(
  real: Dataset<CleanPicture>,
  nets: readonly Restorer[],
  { out, threads }: TrainActionOptions,
  facts: readonly string[],
): Work<void> {
  const opened = nets.map((net) => openRestoring(net, threads === undefined ? {} : { threads }));
  const columns = ["before", ...(nets.length > 1 ? ["network at the start"] : []), "after"];
  const cells: Picture[] = [];
  try {
    for (let i = 0; i < Math.min(SHOWN, real.length); i++) {
      const before = middle((await real.get(i)).image);
      const restored = await Promise.all(opened.map((one) => drained(one.restore(before))));
      cells.push(before, ...restored);
      if (i === 0)
        yield {
          type: "album",
          ...comparison(
            { name: "adapted", caption: "a real picture, before and after" },
            before,
            restored.at(-1)!,
          ),
        };
    }
  } finally {
    await Promise.all(opened.map((one) => one.close()));
  }
  await mkdir(out, { recursive: true });
  const caption = `Real pictures: ${columns.join(", ")}.`;
  const sheet = grid(cells, { columns: columns.length });
  const report = await reportHtml({
    title: "Adapted to real pictures",
    sections: [...facts.map((text) => ({ text })), { picture: sheet, caption }],
  });
  await writeFileAtomic(join(out, "report.html"), Buffer.from(report));
  await writeFileAtomic(join(out, "before-after.png"), await encodePicture(sheet));
  yield { type: "file", path: join(out, "report.html"), about: "before and after, and how it was trained" };
  yield { type: "file", path: join(out, "before-after.png"), about: columns.join(", ") };
}

/** Trains on both folders, and writes `model.safetensors`, `report.html` and `before-after.png` in the run folder. */
export async function* trainAction(options: TrainActionOptions, context: ActionContext): Work<ActionResult> {
  const { synthetic, real, task, crop, batch, limit, network, from, diffusion, seed, steps, out, threads } =
    options;
  const clean = yield* usablePictures("synthetic", synthetic, crop, limit);
  const bad = yield* usablePictures("real", real, crop, limit);
  if (await samePictures(synthetic, real, limit))
    yield {
      type: "warning",
      text: "both folders hold the same pictures: nothing real is learned from, and the truth of the real ones is known",
    };
  const start = from === undefined ? undefined : (await RESTORING.open(from)).model;
  const net = start ?? (createRestorer(RESTORER_SIZES[network], createRng(seed)) as Restorer);
  const settings = settingsOf(options);
  const [a, b] = [parted(synthetic, clean), parted(real, bad)];
  const crops = (source: Dataset<CleanPicture>, damage: Degradation = DEGRADATIONS[task]): CropSource =>
    degradedCrops(source, damage, seed);
  const held = await fixedCrops(crops(a.heldOut), crop);
  const heldReal = await fixedCrops(crops(b.heldOut.length > 0 ? b.heldOut : bad, UNCHANGED), crop);
  const scores = judge(held, heldReal?.degraded, threads);
  const last: Record<string, number> = {};
  try {
    const training = trainJoint({
      stage: "network",
      net,
      sources: {
        synthetic: crops(a.train),
        real: crops(b.train, UNCHANGED),
        reference: degradedCrops(a.train, UNCHANGED, seed + 1),
      },
      settings,
      way: noiseDaWay(settings.mode === 0 ? undefined : createNoiseGuesser(diffusion, seed), settings),
      waySettings: { diffusion: settings.mode === 0 ? "" : diffusion, task },
      validate: scores.validate,
      folder: join(out, "network"),
      lookEvery: Math.max(50, Math.ceil(steps / 20)),
      ...(context.previews && heldReal && { look: (one: Restorer) => restoredCrops(one, heldReal.degraded) }),
      threads,
      signal: context.signal,
    });
    const { restorer } = yield* told(training, (event) => {
      if (event.type === "metrics")
        for (const [name, value] of Object.entries(event.values))
          if (/held-out|slopes/.test(name)) last[name] = value;
      return event;
    });
    const mode = ["synthetic pairs alone", "Noise-DA", "Noise-DA with noise on other pictures"][
      settings.mode!
    ]!;
    const about = `${mode}, ${steps} steps of ${batch} crops of ${crop}, ${a.train.length} clean pictures (${task}) and ${b.train.length} real ones, seed ${seed}${from === undefined ? "" : `, from ${basename(from)}`}`;
    const path = join(out, "model.safetensors");
    await restorerFile.save(path, restorer, {
      ...{ training: about, task, seed: String(seed), date: new Date().toISOString().slice(0, 10) },
      command: commandLine("train noise-da", trainOptions, options),
    });
    yield {
      type: "file",
      path,
      about: "the network, for run and evaluate; the diffusion model is not in it",
    };
    const facts = [about, ...Object.entries(last).map(([name, value]) => `${name}: ${value.toFixed(3)}`)];
    yield* beforeAfter(bad, start ? [start, restorer] : [restorer], options, facts);
    return { summary: `Trained: ${facts.join("; ")}.`, metrics: last };
  } finally {
    await scores.close();
  }
}
