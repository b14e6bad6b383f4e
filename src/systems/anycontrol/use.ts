/** Pictures under control: the door for other programs. */
import { drawSamples } from "../../diffusion/index.ts";
import { ArgumentError } from "../../errors.ts";
import { fromHost, jit, type Seed, type Tensor, treeMap } from "../../tensor/index.ts";
import type { Work } from "../../work.ts";
import type { Base } from "./base.ts";
import { type Chosen, guideOf } from "./data.ts";
import { type Guide, type Steering, steered } from "./method.ts";
import { ControlNets, type SteeringModel, UniControlNet } from "./model.ts";

/** How pictures are drawn. */
export interface Drawing {
  /** Default: the base's own, else 20 and 2. */
  readonly steps?: number | undefined;
  readonly guidance?: number | undefined;
  readonly negative?: string | undefined;
  readonly seed?: Seed;
  /** Factors of the residuals: of each skip connection from the top, then of the middle. Default 1 each. */
  readonly levels?: readonly number[] | undefined;
  /** Pictures at once. Default 32. */
  readonly batch?: number;
  readonly threads?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A picture to make; strengths in [0, 2] in the order of the conditions, default 1. */
export interface Wanted extends Chosen {
  readonly strengths?: readonly number[];
}

/** Strengths as the method takes them: the largest scales all residuals, the others count less beside it. */
export function splitStrengths(strengths: readonly number[]): {
  readonly all: number;
  readonly relative: number[];
} {
  for (const s of strengths)
    if (!(s >= 0 && s <= 2)) throw new ArgumentError(`strength: expected 0 to 2, got ${s}`);
  const all = Math.max(0, ...strengths);
  return { all, relative: strengths.map((s) => (all > 0 ? s / all : 0)) };
}

interface Told {
  readonly context: Tensor;
  readonly prepared?: unknown;
  /** Factor of each picture's residuals, spread over its maps. // [N, 1, 1, 1] */
  readonly scale?: Tensor;
}

/** The most conditions at once: attention grows with them. */
export const MOST_CONDITIONS = 8;

/** @throws ArgumentError for conditions that the model cannot take */
export function checkWanted({ config }: SteeringModel, { conditions, strengths = [] }: Wanted): void {
  splitStrengths(strengths);
  if (conditions.length > MOST_CONDITIONS)
    throw new ArgumentError(
      `AnyControl: expected at most ${MOST_CONDITIONS} conditions, got ${conditions.length}`,
    );
  for (const { type, map } of conditions) {
    if (!config.types.includes(type))
      throw new ArgumentError(
        `AnyControl: this model has not seen conditions of type "${type}"; it knows ${config.types.join(", ")}`,
      );
    if (map.length !== 3 * config.size ** 2)
      throw new ArgumentError(
        `AnyControl: expected maps of ${config.size} pixels a side in 3 colours, got ${map.length} values`,
      );
    const bad = map.findIndex((v) => !(v >= 0 && v <= 1));
    if (bad >= 0)
      throw new ArgumentError(
        `AnyControl: the ${type} map holds ${map[bad]} at element ${bad}, expected 0 to 1`,
      );
  }
}

/**
 * Draws one picture for each of `wanted`, values in [-1, 1], not clipped. // [N, 3, S, S]. The encoder runs once for each; a
 * picture depends on its conditions as a set, its prompt, the seed and its place. Without conditions, or without a model, it
 * is the base's own.
 */
export async function* drawControlled(
  base: Base,
  model: SteeringModel | undefined,
  wanted: readonly Wanted[],
  drawing: Drawing = {},
): Work<Tensor> {
  const { defaults } = base.components;
  const { steps = defaults?.steps ?? 20, guidance = defaults?.guidance ?? 2, negative = "" } = drawing;
  const { seed = 0, levels, batch = 32, threads, signal } = drawing;
  if (model) for (const one of wanted) checkWanted(model, one);
  const net = wanted.some(({ conditions }) => conditions.length > 0)
    ? (model?.net as Steering | undefined)
    : undefined;
  if (levels && net && levels.some((l) => !(l >= 0 && l <= 2)))
    throw new ArgumentError(`levels: expected factors from 0 to 2, got ${levels.join(", ")}`);
  const slots = net instanceof ControlNets || net instanceof UniControlNet;
  const most = Math.max(0, ...wanted.map(({ conditions }) => conditions.length));
  const how = threads === undefined ? {} : { threads };
  const prepare = jit((steering: Steering, guide: Guide) => steering.prepare(guide) as never, how);
  const strength = levels && fromHost("f32", [levels.length], Float32Array.from(levels));
  const shared = new Map<number, Promise<Pick<Told, "prepared" | "scale">>>(); // both halves of the guidance have the same
  const guided = async (first: number, n: number): Promise<Pick<Told, "prepared" | "scale">> => {
    if (!net) return {};
    const parts = wanted.slice(first, first + n).map((one) => {
      const { all, relative } = splitStrengths(one.strengths ?? one.conditions.map(() => 1));
      return { all: one.conditions.length > 0 ? all : 0, row: { ...one, strengths: relative } };
    });
    const layout = slots ? ("slots" as const) : ("packed" as const);
    const size = model?.config.size ?? base.size;
    const guide = guideOf(
      base,
      parts.map(({ row }) => row),
      { size, layout, most },
    );
    const scale = fromHost(
      "f32",
      [n, 1, 1, 1],
      Float32Array.from(parts, ({ all }) => all),
    );
    return { prepared: await prepare(net, guide), scale };
  };
  const told = async (first: number, n: number, texts: readonly string[]): Promise<Told> => {
    if (!shared.has(first)) shared.set(first, guided(first, n));
    return { context: await base.contexts(texts), ...(await shared.get(first)!) };
  };
  const network = (x: Tensor, t: Tensor, { context, prepared, scale }: Told): Tensor => {
    if (!net || !scale) return steered(base.unet, [x, t, context]);
    const scaled: Steering = Object.assign(Object.create(net) as Steering, {
      controls: (...given: Parameters<Steering["controls"]>) =>
        treeMap((r: Tensor) => r.mul(scale), net.controls(...given)),
    });
    return steered(base.unet, [x, t, context], { steering: scaled, prepared, strength });
  };
  try {
    const run = drawSamples<Told>(network, {
      scheduler: base.scheduler(steps),
      count: wanted.length,
      shape: base.latent,
      noise: base.noise(seed),
      condition: (first, n) =>
        told(
          first,
          n,
          wanted.slice(first, first + n).map(({ caption }) => caption),
        ),
      negative: (first, n) => told(first, n, new Array<string>(n).fill(negative)),
      ...{ guidance, batch, threads, signal },
    });
    const total = steps * Math.ceil(wanted.length / batch);
    for (let done = 1; ; done++) {
      const next = await run.next();
      if (next.done) return await base.decode(fromHost("f32", [wanted.length, ...base.latent], next.value));
      yield { type: "progress", stage: "pictures", done, total };
    }
  } finally {
    await prepare.close();
  }
}
