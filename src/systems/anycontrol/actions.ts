/** What `train` and `evaluate` do. */
import { mkdir } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import {
  type Dataset,
  dataset,
  listPictures,
  openShapes,
  readAll,
  readPictureFile,
  type ShapeSample,
  tensorToPictures,
} from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { encodePicture, type Picture, writeFileAtomic } from "../../io/index.ts";
import { openFeatureNetwork } from "../../metrics/index.ts";
import { grid } from "../../report/index.ts";
import { mean, numberText, tableOf } from "../../study/index.ts";
import type { Work } from "../../work.ts";
import { commandLine } from "../command-line.ts";
import { namesAmong } from "../options.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { ARM_NAMES, ARMS } from "./arms.ts";
import type { Base } from "./base.ts";
import { dilated, picturesOf, testScenes, trainingScenes, unaligned, within } from "./data.ts";
import { baseOf, modelOf, squashed } from "./files.ts";
import { type Asking, measured, type Scores, scoresOf, testCases, testConditions } from "./measure.ts";
import { kept, type Steerer, type SteeringModel, steeringFile } from "./model.ts";
import { type EvaluateActionOptions, type TrainActionOptions, trainOptions } from "./options.ts";
import { mapPicture } from "./run.ts";
import { read, trainReader } from "./scores.ts";
import { configOf, training, trainSteerer } from "./train.ts";
import { drawControlled } from "./use.ts";

/** Shows what a model makes of unaligned test conditions: the two maps, the picture, the scene. */
async function* shown(base: Base, model: SteeringModel, count: number, seed: number): Work<Picture> {
  const samples = (await readAll(testScenes(count))) as ShapeSample[];
  const scenes = testCases(samples);
  const wanted = scenes.map((scene, i) => ({
    caption: scene.full.caption,
    conditions: testConditions(scene, i, "unaligned"),
  }));
  const drawn = await tensorToPictures(yield* drawControlled(base, model, wanted, { seed }));
  const truth = await tensorToPictures(picturesOf(samples, base.size));
  const cells = wanted.flatMap(({ conditions }, i) => [
    ...conditions.map((one) => mapPicture(one, base.size)),
    drawn[i]!,
    truth[i]!,
  ]);
  return grid(cells, { columns: 4, scale: 2 });
}

/** Trains an adapter for a base, and writes `model.safetensors` in the run folder. */
export async function* trainAction(
  options: TrainActionOptions,
  { signal, previews }: ActionContext,
): Work<ActionResult> {
  const { steps, batch, learningRate, seed, threads, out } = options;
  const [name] = namesAmong(options.arm, ARM_NAMES, "arm");
  const base = await baseOf(options.base, { threads });
  try {
    const model = yield* trainSteerer({
      ...{ stage: "anycontrol", base, arm: ARMS[name!], scenes: trainingScenes(0) },
      start: options.from === undefined ? undefined : await modelOf(options.from, base),
      settings: training({ steps, batch, learningRate, seed }),
      ...{ folder: out, threads, signal },
      ...(previews && {
        lookEvery: Math.max(1, Math.floor(steps / 8)),
        async *look(net: Steerer) {
          const picture = yield* shown(base, kept(net, configOf(base, ARMS[name!])), 4, seed);
          yield { type: "picture", name: "background, near thing, picture, scene", picture };
        },
      }),
    });
    const path = join(out, "model.safetensors");
    await steeringFile.save(path, model, {
      training: `${name}, ${steps} steps of ${batch} shape-world scenes, over ${basename(base.components.path)}`,
      seed: String(seed),
      command: commandLine("train anycontrol", trainOptions, options),
      date: new Date().toISOString().slice(0, 10),
    });
    yield { type: "file", path, about: "the adapter, in half precision" };
    yield {
      type: "picture",
      name: "background, near thing, picture, scene",
      picture: yield* shown(base, model, 6, seed),
    };
    return { summary: `Trained ${steps} steps; the model is ${path}.`, metrics: { steps } };
  } finally {
    await base.close();
  }
}

const columns = {
  "near thing, IoU": ({ foreground }: Scores) => numberText(mean(foreground), 3),
  "its outlines, F1": ({ edges }: Scores) => numberText(mean(edges), 3),
  "background, mIoU": ({ background }: Scores) => numberText(mean(background), 3),
  "depth error": ({ depth }: Scores) => numberText(mean(depth), 3),
  "captions right": ({ captions }: Scores) => numberText(mean(captions), 3),
  "Fréchet distance": ({ frechet }: Scores) => numberText(frechet, 3),
};

/** Training steps of the network that judges; it takes about a minute. */
const READER_STEPS = 500;
const REAL = 1000;

/** Foreground and background of unaligned conditions, as on COCO-UM: the model beside no condition and real scenes. */
async function* measureAction(options: EvaluateActionOptions, { signal }: ActionContext): Work<ActionResult> {
  const { limit, steps, guidance, seed, threads, report } = options;
  const base = await baseOf(options.base, { threads });
  try {
    const model = await modelOf(options.model, base);
    const path = await shippedFile("checkpoints/shapes-features.safetensors");
    const { network: captions } = await openFeatureNetwork(path, "shapes-features");
    const reader = yield* trainReader(
      trainingScenes(3),
      { steps: READER_STEPS, seed: 0 },
      { threads, signal },
    );
    const real = (await readAll(openShapes({ seed: 23, count: REAL, mirror: 0.5 }))) as ShapeSample[];
    const judges = {
      reader,
      captions,
      real: (await read(reader, picturesOf(real, base.size), threads)).features,
    };
    const samples = (await readAll(testScenes(limit))) as ShapeSample[];
    const scenes = testCases(samples);
    const ask = (asking: Asking, by?: SteeringModel): Work<Scores> =>
      measured(base, by, scenes, asking, judges, { steps, guidance, seed, threads, signal });
    const found = {
      "real scenes": await scoresOf(picturesOf(samples, base.size), scenes, judges, threads),
      [`model ${options.model}`]: yield* ask("unaligned", model),
      "no condition": yield* ask("none"),
    };
    yield {
      type: "table",
      title: "Unaligned conditions",
      table: tableOf("pictures", new Map(Object.entries(found)), columns),
    };
    if (report !== undefined) {
      await writeFileAtomic(report, Buffer.from(`${JSON.stringify(found)}\n`));
      yield { type: "file", path: report, about: "numbers of every scene" };
    }
    const own = found[`model ${options.model}`]!;
    const [near, none] = [mean(own.foreground), mean(found["no condition"]!.foreground)];
    return {
      summary: `IoU with the near thing ${near.toFixed(3)} (no condition: ${none.toFixed(3)}), mIoU of the background ${mean(own.background).toFixed(3)}.`,
      metrics: { foreground: near, background: mean(own.background), frechet: own.frechet },
    };
  } finally {
    await base.close();
  }
}

/** A picture with its background and the region of its near thing. */
interface MadePair {
  readonly name: string;
  readonly picture: Picture;
  readonly background: Picture;
  readonly region: Picture;
  readonly maps: Readonly<Record<string, Picture>>;
  readonly caption?: string;
}

const SIDE = 32;
const flat = (values: Float32Array): Picture => mapPicture({ map: values }, SIDE);
const gray = (values: ArrayLike<number>): Picture => ({
  width: SIDE,
  height: SIDE,
  channels: 1,
  data: Uint8Array.from(values, (v) => (v > 0 ? 255 : 0)),
});

/** Pairs of scenes, which are rendered without their near thing. */
const renderedPairs = (count: number, seed: number): Dataset<MadePair> => {
  const scenes = openShapes({ seed, count, mirror: 0.5 });
  return dataset(count, async (i) => {
    const scene = unaligned(await scenes.get(i));
    const named = (asking: Asking) => testConditions(scene, i, asking);
    const maps = Object.fromEntries(
      named("unaligned").map(({ type, map }, k) => [`${k === 0 ? "background" : "near"}-${type}`, flat(map)]),
    );
    return {
      name: String(i).padStart(5, "0"),
      picture: flat(scene.full.image),
      background: flat(scene.background.image),
      region: gray(scene.region),
      maps,
      caption: scene.full.caption,
    };
  });
};

/** Files of the same name, whatever their endings. @throws ArgumentError naming those that are missing */
async function sameNames(folder: string, names: readonly string[], what: string): Promise<string[]> {
  const stem = (path: string): string => basename(path, extname(path));
  const found = new Map((await listPictures(folder)).map((path) => [stem(path), path]));
  const missing = names.filter((name) => !found.has(name));
  if (missing.length > 0)
    throw new ArgumentError(
      `${folder}: no ${what} for ${missing.slice(0, 5).join(", ")}${missing.length > 5 ? ` and ${missing.length - 5} more` : ""}`,
    );
  return names.map((name) => found.get(name)!);
}

/** Pairs of pictures whose near things somebody has masked and painted over. */
async function broughtPairs({
  pictures,
  backgrounds,
  masks,
}: EvaluateActionOptions): Promise<Dataset<MadePair>> {
  if (!backgrounds || !masks)
    throw new ArgumentError(
      "pairs of pictures need --backgrounds (the same without their near thing, painted over by an inpainting model) and --masks",
    );
  const paths = await listPictures(pictures!);
  const names = paths.map((path) => basename(path, extname(path)));
  const [behind, regions] = [
    await sameNames(backgrounds, names, "background"),
    await sameNames(masks, names, "mask"),
  ];
  return dataset(paths.length, async (i) => {
    const [picture, background, mask] = await Promise.all(
      [paths[i]!, behind[i]!, regions[i]!].map((path) => readPictureFile(path)),
    );
    const { width, height } = picture!;
    if (background!.width !== width || background!.height !== height)
      throw new ArgumentError(
        `${behind[i]}: ${background!.width} x ${background!.height} pixels, its picture has ${width} x ${height}`,
      );
    const side = Math.max(width, height);
    const on = squashed(mask!, side, true)
      .filter((_, k) => k % 3 === 0)
      .map((v) => (v >= 0.5 ? 1 : 0));
    const share = on.reduce((a, b) => a + b, 0) / on.length;
    if (share === 0) throw new ArgumentError(`${regions[i]}: the mask is empty`);
    const region = dilated(on, side, Math.max(1, Math.round(side / 50)));
    const near = within(squashed(picture!, side, false), region);
    const shown = (map: Float32Array): Picture => mapPicture({ map }, side);
    const data = Uint8Array.from(region, (v) => 255 * v);
    return {
      name: names[i]!,
      picture: picture!,
      background: background!,
      region: { width: side, height: side, channels: 1, data },
      maps: { near: shown(near) },
    };
  });
}

/** Writes unaligned pairs: pictures, backgrounds, regions, maps, captions. */
async function* makeAction(options: EvaluateActionOptions, { signal }: ActionContext): Work<ActionResult> {
  const { out, made, seed, pictures } = options;
  const pairs = pictures === undefined ? renderedPairs(made, seed) : await broughtPairs(options);
  for (const folder of ["pictures", "backgrounds", "regions", "maps"])
    await mkdir(join(out, folder), { recursive: true });
  const write = async (path: string, picture: Picture): Promise<void> =>
    writeFileAtomic(join(out, path), await encodePicture(picture));
  const captions: string[] = [];
  for (let i = 0; i < pairs.length; i++) {
    signal?.throwIfAborted();
    const { name, picture, background, region, maps, caption } = await pairs.get(i);
    await write(join("pictures", `${name}.png`), picture);
    await write(join("backgrounds", `${name}.png`), background);
    await write(join("regions", `${name}.png`), region);
    for (const [kind, map] of Object.entries(maps)) await write(join("maps", `${name}-${kind}.png`), map);
    if (caption !== undefined) captions.push(`${name}.png,"${caption}"`);
    yield { type: "progress", stage: "unaligned pairs", done: i + 1, total: pairs.length };
  }
  if (captions.length > 0)
    await writeFileAtomic(
      join(out, "captions.csv"),
      Buffer.from(["picture,caption", ...captions, ""].join("\n")),
    );
  return { summary: `${pairs.length} unaligned pairs are in ${out}.`, metrics: { pairs: pairs.length } };
}

/** Measures, or makes pairs. */
export async function* evaluateAction(
  options: EvaluateActionOptions,
  context: ActionContext,
): Work<ActionResult> {
  return yield* options.part === "make" ? makeAction(options, context) : measureAction(options, context);
}
