/** What `run` does: pictures are taken apart, mixed, added, varied. */
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { listPictures, planesOf, readPictureFile, tensorToPictures } from "../../data/index.ts";
import { solve } from "../../diffusion/samplers/unipc.ts";
import { ArgumentError } from "../../errors.ts";
import { hashFile, type Picture, writeSafetensors } from "../../io/index.ts";
import { components as componentAlbum, grid } from "../../report/index.ts";
import { fromHost, type Tensor } from "../../tensor/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { type BatchItem, batchSummary, runBatch } from "../batch.ts";
import { modelPath } from "../shipped.ts";
import type { ActionContext, ActionResult } from "../system.ts";
import { type DecompUNet, openDecomp } from "./model.ts";
import { CHECKPOINTS, type RunActionOptions } from "./options.ts";
import {
  added,
  allOf,
  apart,
  type ComposeOptions,
  type Composing,
  type Decomposer,
  firstOf,
  type Latents,
  mixed,
  openDecomposer,
  type Pick,
  readMask,
  varied,
  whole,
} from "./use.ts";

/** A model by the name of a checkpoint that ships, or by its file. */
export const modelOf = async (name: string): Promise<DecompUNet> =>
  openDecomp(await modelPath("Decomp", CHECKPOINTS, name));

/** Pictures as a model takes them: middle squares at its size. // [N, 3, S, S] */
export function fitted(pictures: readonly Picture[], size: number): Tensor {
  const plane = 3 * size * size;
  const values = new Float32Array(pictures.length * plane);
  for (const [i, picture] of pictures.entries())
    values.set(
      planesOf(picture, { size, channels: 3 }).map((v) => (v + 1) / 2),
      i * plane,
    );
  return fromHost("f32", [pictures.length, 3, size, size], values);
}

/** Values [N, 3, S, S] in [0, 1] as pictures. */
export const shown = (values: Float32Array, size: number): Promise<Picture[]> =>
  tensorToPictures(fromHost("f32", [values.length / (3 * size * size), 3, size, size], values), "unit");

/** A picture with the rest of its colours: what was not chosen. */
export const dimmed = (picture: Picture): Picture => ({
  ...picture,
  data: (picture.data as Uint8Array).map((v) => Math.round(0.25 * v + 160)),
});

/** Weights by which components add up to a picture, by least squares. */
export function sumWeights(components: readonly Picture[], sum: Picture): number[] {
  const values = (one: Picture): number[] => Array.from(one.data, (v) => v / 255);
  const product = (a: Picture, b: Picture): number => {
    const other = values(b);
    return values(a).reduce((total, v, i) => total + v * other[i]!, 0);
  };
  return solve(
    components.map((a, i) => components.map((b, j) => product(a, b) + (i === j ? 1e-3 : 0))),
    components.map((a) => product(a, sum)),
  );
}

type Mode = RunActionOptions["mode"];

/** What all pictures of a job share. */
interface Job {
  readonly mode: Mode;
  readonly decomposer: Decomposer;
  readonly options: RunActionOptions;
  readonly how: ComposeOptions;
  /** Latents of the second pictures. */
  readonly second: Latents | undefined;
  readonly secondPictures: readonly Picture[];
  readonly mask: readonly boolean[];
  readonly previews: boolean;
}

/** Pictures drawn, told as progress and previews. */
async function* drawn(
  job: Job,
  stage: string,
  picks: readonly Pick[],
  more: ComposeOptions = {},
): Work<Picture[]> {
  const { decomposer, how, options } = job;
  const { size } = decomposer.models[0]!.config;
  const { count } = picks[0]!.latents;
  const seeds = Array.from({ length: count }, () => options.seed);
  const run: Composing = decomposer.compose(picks, { ...how, ...more, seeds });
  const values = yield* told(
    run,
    ({ step, steps }): WorkEvent => ({ type: "progress", stage, done: step, total: steps }),
  );
  return shown(values, size);
}

/** Side of a cell in sheets, at least. */
const CELL = 96;
const enlarged = (pictures: readonly Picture[], columns: number): Picture =>
  grid(pictures, { columns, scale: Math.max(1, Math.ceil(CELL / pictures[0]!.width)), gap: 4 });

const componentsOf = (job: Job, latents: Latents): Work<Picture[]> =>
  drawn(job, "components", [apart(latents)]);

async function* decomposeOne(picture: Picture, latents: Latents, job: Job): Work<Record<string, Picture>> {
  const parts = yield* componentsOf(job, latents);
  const { weights: text } = job.options;
  const weights = text === undefined ? {} : { weights: text.split(",").map(Number) };
  const [reconstruction] = yield* drawn(job, "reconstruction", [whole(latents)], weights);
  if (job.previews) {
    const shares = sumWeights(parts, reconstruction!);
    const caption = "What each latent draws alone; together they are the picture.";
    const album = parts.map((one, k) => ({ label: `component ${k + 1}`, picture: one, weight: shares[k]! }));
    yield { type: "album", ...componentAlbum({ name: "components", caption }, album) };
  }
  return {
    ...Object.fromEntries(parts.map((one, k) => [`component-${k + 1}`, one])),
    reconstruction: reconstruction!,
    sheet: enlarged([picture, ...parts, reconstruction!], parts.length + 2),
  };
}

async function* buildUpOne(picture: Picture, latents: Latents, job: Job): Work<Record<string, Picture>> {
  const steps: Picture[] = [];
  for (const k of allOf(latents)) {
    const [one] = yield* drawn(job, `${k + 1} components`, [firstOf(latents, k + 1)]);
    steps.push(one!);
  }
  return {
    ...Object.fromEntries(steps.map((one, k) => [`first-${k + 1}`, one])),
    sheet: enlarged([picture, ...steps], steps.length + 1),
  };
}

/** Components of both pictures, what is not chosen dimmed, and the mixture. */
async function* mixOne(picture: Picture, latents: Latents, job: Job): Work<Record<string, Picture>> {
  const { second, secondPictures, mask, decomposer } = job;
  const cross = decomposer.models.length > 1;
  const other = cross ? 1 : 0;
  const chosen = (of: boolean): number[] => mask.flatMap((ofFirst, k) => (ofFirst === of ? [k] : []));
  // Of two models, whose latents differ, components are chosen apart; of one they keep their order.
  const picks: Pick[] = cross
    ? [
        { latents, components: chosen(true) },
        { model: 1, latents: second!, components: chosen(false) },
      ]
    : mixed(latents, second!, mask);
  const [mixture] = yield* drawn(job, "mixture", picks);
  const own = yield* componentsOf(job, latents);
  const theirs = yield* drawn(job, "components of the second", [apart(second!, other)]);
  const row = (first: Picture, parts: readonly Picture[], of: boolean): Picture[] => [
    first,
    ...parts.map((one, k) => (mask[k] === of ? one : dimmed(one))),
    mixture!,
  ];
  const cells = [...row(picture, own, true), ...row(secondPictures[0]!, theirs, false)];
  return { mixture: mixture!, sheet: enlarged(cells, mask.length + 2) };
}

async function* addOne(picture: Picture, latents: Latents, job: Job): Work<Record<string, Picture>> {
  const { second, secondPictures, options, decomposer } = job;
  const picks = decomposer.models.length > 1 ? [whole(latents), whole(second!, 1)] : added(latents, second!);
  const [sum] = yield* drawn(job, "sum", picks, { compose: options.compose });
  return { sum: sum!, sheet: enlarged([picture, secondPictures[0]!, sum!], 3) };
}

async function* varyOne(picture: Picture, latents: Latents, job: Job): Work<Record<string, Picture>> {
  const { second, secondPictures, options } = job;
  const found = yield* drawn(job, "variations", varied(latents, options.component - 1, second!));
  const cells = [picture, ...secondPictures, picture, ...found];
  return {
    ...Object.fromEntries(found.map((one, i) => [`varied-${i + 1}`, one])),
    sheet: enlarged(cells, found.length + 1),
  };
}

const WORK: Readonly<Record<Mode, typeof mixOne>> = {
  decompose: decomposeOne,
  "build-up": buildUpOne,
  mix: mixOne,
  add: addOne,
  vary: varyOne,
};

/** Names of what there is of each picture. */
function kindsOf(mode: Mode, components: number, seconds: number): string[] {
  const numbered = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${name}-${i + 1}`);
  const kinds: Record<Mode, string[]> = {
    decompose: [...numbered("component", components), "reconstruction"],
    "build-up": numbered("first", components),
    mix: ["mixture"],
    add: ["sum"],
    vary: numbered("varied", seconds),
  };
  return [...kinds[mode], "sheet"];
}

/** Most pictures that a component is taken from. */
const MOST = 16;

const readRgb = (path: string): Promise<Picture> => readPictureFile(path, { colour: "rgb" });

async function secondPaths({ with: path, mode }: RunActionOptions): Promise<string[]> {
  if (path === undefined) return [];
  const isFolder = mode === "vary" && (await stat(path)).isDirectory();
  return isFolder ? (await listPictures(path)).slice(0, MOST) : [path];
}

/** A second picture alone means: mix. @throws ArgumentError where a second picture is missing */
function modeOf({ mode, with: second }: RunActionOptions): Mode {
  const needs = mode === "mix" || mode === "add" || mode === "vary";
  if (needs && second === undefined)
    throw new ArgumentError(`Decomp: mode ${mode} needs a second picture (--with)`);
  return mode === "decompose" && second !== undefined ? "mix" : mode;
}

/** Takes pictures apart, mixes, adds, varies. */
export async function* runAction(options: RunActionOptions, context: ActionContext): Work<ActionResult> {
  const mode = modeOf(options);
  const { signal, previews = false } = context;
  const { out, method, steps, eta, clip, guidance, compose, seed, threads } = options;
  const names = [options.model, ...(options.withModel === undefined ? [] : [options.withModel])];
  const models = await Promise.all(names.map(modelOf));
  const [model] = models as [DecompUNet];
  const { size, components } = model.config;
  if (mode === "vary" && options.component > components)
    throw new ArgumentError(`Decomp: component ${options.component} of ${components}`);
  const standard = "1".repeat(Math.ceil(components / 2)).padEnd(components, "0");
  const mask = readMask(options.mask ?? standard, components);
  const decomposer = openDecomposer(models, { threads });
  try {
    const paths = await secondPaths({ ...options, mode });
    const brought = await Promise.all(paths.map(readRgb));
    const second = await Promise.all(paths.map((path) => hashFile(path)));
    const fittedSecond = brought.length === 0 ? undefined : fitted(brought, size);
    const job: Job = {
      ...{ mode, decomposer, options, mask, previews },
      how: { method, steps, eta, clip, guidance, signal },
      second: fittedSecond && (await decomposer.encode(fittedSecond, models.length - 1)),
      secondPictures: fittedSecond ? await shown((await fittedSecond.data()) as Float32Array, size) : [],
    };
    const files = await Promise.all(
      names.map(async (name) => hashFile(await modelPath("Decomp", CHECKPOINTS, name))),
    );
    const settings = {
      ...{
        system: "decomp",
        files,
        mode,
        mask: options.mask ?? standard,
        second,
        weights: options.weights ?? null,
      },
      ...{ method, steps, eta, clip, guidance, compose, seed, component: options.component },
    };
    const kinds = kindsOf(mode, components, brought.length);
    const result = yield* runBatch(
      { ...options, settings, kinds },
      context,
      async function* (item: BatchItem) {
        const x = fitted([await readRgb(item.path)], size);
        const latents = await decomposer.encode(x);
        const [picture] = await shown((await x.data()) as Float32Array, size);
        const made = yield* WORK[mode](picture!, latents, job);
        const path = join(out, `${item.name}-latents.safetensors`);
        await mkdir(dirname(path), { recursive: true });
        const { values, width } = latents;
        await writeSafetensors(path, { latents: { dtype: "f32", shape: [components, width], data: values } });
        return made;
      },
    );
    const verb = {
      decompose: "taken apart",
      "build-up": "built up",
      mix: "mixed",
      add: "added",
      vary: "varied",
    }[mode];
    const { done, kept, failed } = result;
    return {
      summary: `${batchSummary(result, verb)}, ${components} components each. Results are in ${out}.`,
      metrics: { pictures: done, kept, broken: failed.length },
      ...(failed.length > 0 && { incomplete: true }),
    };
  } finally {
    await decomposer.close();
  }
}
