/** The study of AnyControl: what is asked for, and the page that says what came of it. */
import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { openShapes, readAll, type ShapeSample } from "../../data/index.ts";
import { ArgumentError } from "../../errors.ts";
import { type FeatureNetwork, openFeatureNetwork } from "../../metrics/index.ts";
import {
  fileFingerprint,
  inTurns,
  judged,
  type Made,
  mean,
  type Study,
  type Verdict,
} from "../../study/index.ts";
import { concat, fromHost, jit, type Tensor } from "../../tensor/index.ts";
import { drained, told, type Work } from "../../work.ts";
import { namesAmong } from "../options.ts";
import { reproducing, type StudyPage } from "../reproduce.ts";
import { shippedFile } from "../shipped.ts";
import type { ActionContext } from "../system.ts";
import { ARM_NAMES, ARMS, type Arm, type ArmName } from "./arms.ts";
import type { Base } from "./base.ts";
import { guideOf, picturesOf, testScenes, trainingScenes, type Unaligned } from "./data.ts";
import { baseOf } from "./files.ts";
import {
  type Asking,
  type Judges,
  measured,
  type Scores,
  scoresOf,
  testCases,
  testConditions,
} from "./measure.ts";
import { type Steering, steered } from "./method.ts";
import { ControlNets, kept, type SteeringModel, steeringFile } from "./model.ts";
import { type ReproduceActionOptions, reproduceOptions } from "./options.ts";
import { pageOf } from "./page.ts";
import { type Found, type Row, RULES } from "./rules.ts";
import { type Reader, read, readerFile, trainReader } from "./scores.ts";
import { training, trainSteerer } from "./train.ts";
import { TYPES } from "./types.ts";
import { drawControlled } from "./use.ts";

/** What decides the claim. */
const CLAIM: readonly ArmName[] = ["full", "joint", "-unaligned", "edge", "depth", "seg", "pose", "uni"];
/** What AnyControl is asked beside unaligned pairs. */
const ASKED: readonly Asking[] = ["background", "two", "three", "four"];

/** What is to be done. */
export interface Plan {
  readonly arms: readonly ArmName[];
  readonly seeds: readonly number[];
}

/** @throws ArgumentError for unknown arms */
export const planOf = ({ arms, seeds }: ReproduceActionOptions): Plan => ({
  arms: arms === "claim" ? CLAIM : arms === "all" ? ARM_NAMES : namesAmong(arms, ARM_NAMES, "arm"),
  seeds: Array.from({ length: seeds }, (_, i) => i),
});

/** The hands of the study: what trains, draws and measures. Tests bring their own. */
export interface Lab {
  /** Fingerprint of the base, and of the network that reads captions. */
  readonly prints: { readonly base: string; readonly captions: string };
  trainReader(steps: number, folder: string): Work<Reader>;
  train(
    arm: Arm,
    settings: { readonly steps: number; readonly batch: number; readonly seed: number },
    folder: string,
  ): Work<SteeringModel>;
  score(model: SteeringModel | undefined, asking: Asking | "real", reader: Reader): Work<Scores>;
  permutation(model: SteeringModel): Promise<number>;
  cost(model: SteeringModel): Promise<{ base: number; steered: number }>;
}

const NOT_MADE = new ArgumentError("this was not measured");

/** A cell, or undefined where it is not there and nothing is made. */
async function* whereMade<T>(cell: Work<Made<T>>): Work<Made<T> | undefined> {
  try {
    return yield* cell;
  } catch (error) {
    if (error === NOT_MADE) return undefined;
    throw error;
  }
}

/** Scores of several seeds as one. */
function overSeeds(all: readonly Scores[]): Scores {
  const lists = Object.keys(all[0]!).filter((key) => key !== "frechet") as Exclude<keyof Scores, "frechet">[];
  const averaged = lists.map((key) => [
    key,
    all[0]![key].map((_, i) => mean(all.map((one) => one[key][i]!))),
  ]);
  return {
    ...(Object.fromEntries(averaged) as unknown as Scores),
    frechet: mean(all.map(({ frechet }) => frechet)),
  };
}

/** Four single ControlNets as one. */
const together = (parts: readonly SteeringModel[], average: boolean): SteeringModel =>
  kept(
    new ControlNets(
      parts.flatMap(({ net }) => (net as ControlNets).nets),
      TYPES,
      average,
    ),
    { ...parts[0]!.config, types: TYPES, mean: average },
  );

/** Asks for everything, what decides the claim first. */
export async function* askedOf(study: Study, lab: Lab, options: ReproduceActionOptions): Work<Found> {
  const { arms, seeds } = planOf(options);
  const { steps, batch, test, real, reader: readerSteps, guidance, measure } = options;
  const sampling = { test, real, guidance, sampler: options.sampler };
  const { prints } = lab;
  async function* orNothing<T>(make: () => Work<T>, folder?: string): Work<T> {
    if (measure) return yield* make();
    if (folder !== undefined) await rmdir(folder).catch(() => undefined);
    throw NOT_MADE;
  }
  const reader = yield* whereMade(
    study.model<Reader>("reader", {
      given: { steps: readerSteps },
      make: (folder) => orNothing(() => lab.trainReader(readerSteps, folder), folder),
      ...readerFile.cell,
    }),
  );
  const scores: Partial<Record<Row, Partial<Record<Asking, Scores>>>> = {};
  if (!reader) return { scores };
  async function* score(
    row: Row,
    asking: Asking | "real",
    from: readonly Made<SteeringModel>[],
    models: readonly (SteeringModel | undefined)[],
  ): Work<void> {
    const all: Scores[] = [];
    for (const [i, model] of models.entries()) {
      const sources =
        from.length === models.length
          ? [from[i]!]
          : from.slice((i * from.length) / models.length, ((i + 1) * from.length) / models.length);
      const cell = study.measure<Scores>(`${row}, ${asking}${models.length > 1 ? `, seed ${i}` : ""}`, {
        given: { ...sampling, row, asking, ...prints },
        from: [reader!, ...sources],
        measure: () => orNothing(() => lab.score(model, asking, reader!.value)),
      });
      const found = yield* whereMade(cell);
      if (found) all.push(found.value);
    }
    if (all.length === models.length && all.length > 0)
      (scores[row] ??= {})[asking === "real" ? "none" : asking] = overSeeds(all);
  }
  yield* score("real", "real", [], [undefined]);
  yield* score("none", "none", [], [undefined]);
  const made: Partial<Record<ArmName, Made<SteeringModel>[]>> = {};
  for (const seed of study.share(seeds))
    for (const name of arms) {
      const arm: Arm = ARMS[name];
      const given = { steps: Math.ceil(steps * (arm.share ?? 1)), batch, seed };
      const cell = study.model<SteeringModel>(`${name} seed ${seed}`, {
        given: { ...given, arm, base: prints.base },
        make: (folder) =>
          orNothing(
            () =>
              told(lab.train(arm, given, folder), (event) =>
                event.type === "progress" ? { ...event, stage: `${name} seed ${seed}` } : event,
              ),
            folder,
          ),
        ...steeringFile.cell,
      });
      const model = yield* whereMade(cell);
      if (model) (made[name] ??= []).push(model);
    }
  const complete = (name: ArmName): Made<SteeringModel>[] | undefined =>
    made[name]?.length === seeds.length ? made[name] : undefined;
  for (const name of arms) {
    const models = complete(name);
    if (!models || (ARMS[name] as Arm).share !== undefined) continue;
    for (const asking of name === "full" ? (["unaligned", ...ASKED] as const) : (["unaligned"] as const))
      yield* score(
        name as Row,
        asking,
        models,
        models.map(({ value }) => value),
      );
  }
  const singles = TYPES.map((type) => complete(type));
  if (singles.every((one) => one !== undefined))
    for (const [row, average] of [
      ["summed", false],
      ["averaged", true],
    ] as const) {
      const from = seeds.flatMap((_, i) => singles.map((one) => one![i]!));
      const models = seeds.map((_, i) =>
        together(
          singles.map((one) => one![i]!.value),
          average,
        ),
      );
      for (const asking of average ? (["unaligned"] as const) : (["unaligned", "background"] as const))
        yield* score(row, asking, from, models);
    }
  const [first] = complete("full") ?? [];
  const one = async function* <T>(
    name: string,
    f: (model: SteeringModel) => Promise<T>,
  ): Work<T | undefined> {
    if (!first) return undefined;
    const cell = study.measure<T>(name, {
      from: [first],
      measure: () => (measure ? f(first.value) : Promise.reject(NOT_MADE)),
    });
    return (yield* whereMade(cell))?.value;
  };
  const permutation = yield* one("conditions in another order", (model) => lab.permutation(model));
  return { scores, permutation, cost: yield* one("time of a step", (model) => lab.cost(model)) };
}

/** Pictures of a lab that trains and draws. */
export async function openLab(
  base: Base,
  captions: FeatureNetwork,
  prints: Lab["prints"],
  options: ReproduceActionOptions,
  { signal }: ActionContext,
): Promise<Lab> {
  const { test, real, sampler, guidance, threads } = options;
  const held = testScenes(test);
  const samples = (await readAll(held)) as ShapeSample[];
  const scenes = testCases(samples);
  const drawing = { steps: sampler, guidance, seed: 7, threads, signal };
  let judges: Promise<Judges> | undefined;
  const judgesOf = async (reader: Reader): Promise<Judges> => {
    const seen = (await readAll(openShapes({ seed: 23, count: real, mirror: 0.5 }))) as ShapeSample[];
    return { reader, captions, real: (await read(reader, picturesOf(seen, 32), threads)).features };
  };
  return {
    prints,
    trainReader: (steps, folder) =>
      trainReader(trainingScenes(3), { steps, seed: 0 }, { folder, threads, signal }),
    train: (arm, settings, folder) =>
      trainSteerer({
        stage: "steering",
        base,
        arm,
        scenes: trainingScenes(0),
        settings: training(settings),
        folder,
        threads,
        signal,
      }),
    async *score(model, asking, reader) {
      judges ??= judgesOf(reader);
      if (asking === "real") return await scoresOf(picturesOf(samples, 32), scenes, await judges, threads);
      return yield* measured(base, model, scenes, asking, await judges, drawing);
    },
    permutation: (model) => permutationGap(base, model, scenes.slice(0, 4), drawing),
    cost: (model) => stepCost(base, model, scenes.slice(0, 4), threads),
  };
}

/** Largest difference between pictures whose conditions were given in one order and in the other. */
async function permutationGap(
  base: Base,
  model: SteeringModel,
  scenes: readonly Unaligned[],
  drawing: object,
): Promise<number> {
  const pictures = async (turn: boolean): Promise<Tensor> => {
    const wanted = scenes.map((scene, i) => {
      const conditions = testConditions(scene, i, "three");
      return { caption: scene.full.caption, conditions: turn ? conditions.toReversed() : conditions };
    });
    return drained(drawControlled(base, model, wanted, drawing));
  };
  return (await pictures(false))
    .sub(await pictures(true))
    .abs()
    .max()
    .item();
}

/** Milliseconds of a sampling step of four pictures with guidance: the base's, and with the adapter; their fastest of 12 rounds. */
async function stepCost(
  base: Base,
  model: SteeringModel,
  scenes: readonly Unaligned[],
  threads?: number,
): Promise<{ base: number; steered: number }> {
  const how = threads === undefined ? {} : { threads };
  const net = model.net as Steering;
  const rows = scenes.map((scene, i) => ({
    caption: scene.full.caption,
    conditions: testConditions(scene, i, "unaligned"),
  }));
  const guide = guideOf(base, rows, { size: base.size, layout: "packed", most: 2 });
  const prepared = await jit((g: typeof guide) => net.prepare(g) as never, how)(guide);
  const both = (t: Tensor): Tensor => concat(t, t, 0);
  const context = await both(await base.contexts(rows.map(({ caption }) => caption))).eval();
  const shape = [2 * rows.length, ...base.latent];
  const x = fromHost("f32", shape, base.noise(1).normal(shape, { purpose: "cost", step: 0 }));
  const t = fromHost("f32", [2 * rows.length], new Float32Array(2 * rows.length).fill(500));
  const doubled = (prepared as readonly Tensor[]).map(both);
  await Promise.all(doubled.map((one) => one.eval()));
  const plain = jit((z: Tensor, at: Tensor, c: Tensor) => steered(base.unet, [z, at, c]), how);
  const own = jit(
    (z: Tensor, at: Tensor, c: Tensor, p: typeof doubled) =>
      steered(base.unet, [z, at, c], { steering: net, prepared: p }),
    how,
  );
  try {
    const times = await inTurns(
      {
        base: async () => (await plain(x, t, context)).data(),
        steered: async () => (await own(x, t, context, doubled)).data(),
      },
      12,
      { warmups: 2 },
    );
    return { base: times.base.fastest, steered: times.steered.fastest };
  } finally {
    await Promise.all([plain.close(), own.close()]);
  }
}

interface Asked {
  readonly found: Found;
  readonly plan: Plan;
}

async function* ask(study: Study, options: ReproduceActionOptions, context: ActionContext): Work<Asked> {
  const base = await baseOf(options.base, options);
  try {
    const path = await shippedFile("checkpoints/shapes-features.safetensors");
    const captions = (await openFeatureNetwork(path, "shapes-features")).network;
    const weights = join(base.components.path, "unet", "diffusion_pytorch_model.safetensors");
    const prints = { base: await fileFingerprint(weights), captions: await fileFingerprint(path) };
    const lab = await openLab(base, captions, prints, options, context);
    return { found: yield* askedOf(study, lab, options), plan: planOf(options) };
  } finally {
    await base.close();
  }
}

/** Every rule, those without numbers as well. */
export const verdictsOf = (
  found: Found,
  { seeds }: Plan,
  { steps }: Pick<ReproduceActionOptions, "steps">,
): Verdict[] => judged(RULES, `${seeds.length} seed${seeds.length === 1 ? "" : "s"}, ${steps} steps`, found);

const page = ({ found, plan }: Asked, options: ReproduceActionOptions): StudyPage =>
  pageOf(found, verdictsOf(found, plan, options), plan, options);

/** `tweedie reproduce anycontrol`: trains and measures what is missing, and writes the page. */
export const reproduceAction = reproducing<ReproduceActionOptions, Asked>({
  ...{ system: "anycontrol", version: 1, options: reproduceOptions, again: { measure: true } },
  ...{ ask, page },
});
