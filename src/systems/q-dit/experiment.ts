/**
 * The claim in miniature, cell by cell: a condition (natural or stressed), a method, bits. Every cell is written when it is
 * measured, so an interrupted reproduction goes on where it was.
 */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { writeFileAtomic } from "../../io/index.ts";
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { weightBytes, withQuantized } from "../../nn/index.ts";
import { type Cell, type Condition, cellName, type SearchSetup, searchName, searchOf } from "./cells.ts";
import { type Bits, type Found, type GroupSearchSettings, searchOn } from "./group-search.ts";
import { quantizeDiT } from "./quantize.ts";
import { calibrationBatches, type Drawn, draw, type NoisyBatch } from "./sample.ts";
import type { Groups } from "./schemes.ts";
import type { Generation } from "./search.ts";
import { stressed } from "./stress.ts";
import {
  bySlices,
  measureQuality,
  predictionErrors,
  type Quality,
  type RealSide,
  recordTrajectory,
  type Trajectory,
} from "./study.ts";

export interface CellResult extends Cell {
  /** Mean over the steps of the predictions' signal-to-noise ratio, in decibels. */
  readonly predictionRatio: number | null;
  /** The same for the noisiest, the middle and the cleanest third of the steps. */
  readonly slices: readonly number[];
  readonly quality?: Omit<Quality, "ratio"> & { readonly ratio: number | null };
  readonly bytes: { readonly quantized: number; readonly f32: number };
  readonly settings: CellSettings;
  readonly date: string;
}

/** What a cell's numbers depend on: a cell of other settings counts as not measured. */
export interface CellSettings {
  /** Hash of the full-precision model. */
  readonly model: string;
  readonly pictures: number;
  readonly steps: number;
  readonly seeds: number;
  readonly calibrationSamples: number;
  readonly trajectory: number;
}

export interface StudySettings {
  /** Hash of the full-precision model. */
  readonly model: string;
  /** Pictures of each seed, and DDIM steps, of the final measure. */
  readonly pictures: number;
  readonly steps: number;
  /** Pictures of each seed where more steps are compared. */
  readonly stepPictures: number;
  readonly seeds: readonly number[];
  readonly calibrationSamples: number;
  /** Samples of the trajectory on which single predictions are compared. */
  readonly trajectory: number;
  readonly search: GroupSearchSettings;
  readonly threads?: number;
}

interface Prepared {
  readonly model: DiTTransformer2DModel;
  readonly batches: readonly NoisyBatch[];
  readonly trajectory: Trajectory;
  /** So many of its pictures of each seed, in so many DDIM steps. */
  reference(pictures: number, steps: number): Promise<readonly Drawn[]>;
}

/** A study of one full-precision model. Results are kept as JSON in `folder`. */
export class Study {
  private readonly prepared = new Map<Condition, Promise<Prepared>>();
  private readonly folder: string;
  private readonly original: DiTTransformer2DModel;
  private readonly real: RealSide;
  private readonly settings: StudySettings;

  constructor(folder: string, original: DiTTransformer2DModel, real: RealSide, settings: StudySettings) {
    this.folder = folder;
    this.original = original;
    this.real = real;
    this.settings = settings;
  }

  private drawSeeds(model: DiTTransformer2DModel, count: number, steps: number): Promise<Drawn[]> {
    const { seeds, threads } = this.settings;
    return inTurn(seeds, (seed) => draw(model, { count, steps, seed, ...(threads && { threads }) }));
  }

  /** The model of a condition with its calibration set and reference, made once. */
  private condition(condition: Condition): Promise<Prepared> {
    const known = this.prepared.get(condition);
    if (known) return known;
    const make = async (): Promise<Prepared> => {
      const model = condition === "natural" ? this.original : await stressed(this.original, { seed: 7 });
      const { calibrationSamples: samples, trajectory: count, threads } = this.settings;
      const more = threads ? { threads } : {};
      const batches = await calibrationBatches(model, {
        samples,
        batch: 32,
        steps: 25,
        seed: 1000,
        guidance: 1.5,
        ...more,
      });
      const trajectory = await recordTrajectory(model, { count, steps: 15, seed: 2000, ...more });
      const drawn = new Map<string, Promise<readonly Drawn[]>>();
      const reference = (pictures: number, steps: number): Promise<readonly Drawn[]> => {
        const key = `${pictures} ${steps}`;
        const known = drawn.get(key) ?? this.drawSeeds(model, pictures, steps);
        drawn.set(key, known);
        return known;
      };
      return { model, batches, trajectory, reference };
    };
    const made = make();
    this.prepared.set(condition, made);
    return made;
  }

  private async stored<T>(name: string): Promise<T | undefined> {
    const text = await readFile(join(this.folder, `${name}.json`), "utf8").catch(() => undefined);
    return text === undefined ? undefined : (JSON.parse(text) as T);
  }

  private async store(name: string, value: unknown): Promise<void> {
    await mkdir(this.folder, { recursive: true });
    await writeFileAtomic(
      join(this.folder, `${name}.json`),
      Buffer.from(`${JSON.stringify(value, null, 1)}\n`),
    );
  }

  /** The group sizes of a cell. */
  private async groupsOf(cell: Cell): Promise<Groups | number> {
    const { groups } = cell;
    if (typeof groups === "number") return groups;
    if (groups === "none") return 128;
    const found = await this.searched(searchOf(cell));
    if (!found) throw new Error("the search comes before the cells that use it");
    return groups === "random" ? found.random : found.groups;
  }

  private cellSettings({ steps }: Cell): CellSettings {
    const { model, pictures, stepPictures, seeds, calibrationSamples, trajectory, ...standard } =
      this.settings;
    return {
      model,
      pictures: steps === undefined ? pictures : stepPictures,
      steps: steps ?? standard.steps,
      seeds: seeds.length,
      calibrationSamples,
      trajectory,
    };
  }

  /** What was measured of a cell before, on this model with these settings. */
  async known(cell: Cell): Promise<CellResult | undefined> {
    const found = await this.stored<CellResult>(cellName(cell));
    if (!found || !isDeepStrictEqual(found.settings, this.cellSettings(cell))) return undefined;
    return found.quality || !cell.pictures ? found : undefined;
  }

  private searchSettings(setup: SearchSetup): SearchResult["settings"] {
    const { model, search } = this.settings;
    return { ...setup, model, ...search, space: [...search.space] };
  }

  /** What a search found on this model with these settings, when it was run. */
  async searched(setup: SearchSetup): Promise<SearchResult | undefined> {
    const found = await this.stored<SearchResult>(searchName(setup));
    return found && isDeepStrictEqual(found.settings, this.searchSettings(setup)) ? found : undefined;
  }

  /** Measures a cell, or reads what was measured. */
  async cell(cell: Cell): Promise<CellResult> {
    const name = cellName(cell);
    const known = await this.known(cell);
    if (known) return known;
    const { model, batches, trajectory, reference } = await this.condition(cell.condition);
    const { method, weights, activations } = cell;
    const settings = this.cellSettings(cell);
    const layers =
      method === "fp32"
        ? new Map()
        : await quantizeDiT(model, method, { weights, activations }, await this.groupsOf(cell), batches);
    const quantized = withQuantized(model, layers, "simulated");
    const errors = await predictionErrors(quantized, trajectory, this.settings.threads);
    const ratio = errors.reduce((a, b) => a + b, 0) / errors.length;
    let quality: CellResult["quality"];
    if (cell.pictures) {
      const { pictures, steps } = settings;
      const plain = await reference(pictures, steps);
      const drawn = method === "fp32" ? plain : await this.drawSeeds(quantized, pictures, steps);
      const found = await measureQuality(this.real, drawn, plain);
      quality = { ...found, ratio: Number.isFinite(found.ratio) ? found.ratio : null };
    }
    const result: CellResult = {
      ...cell,
      predictionRatio: Number.isFinite(ratio) ? ratio : null,
      slices: bySlices(errors, 3),
      ...(quality && { quality }),
      bytes: weightBytes(layers),
      settings,
      date: new Date().toISOString(),
    };
    await this.store(name, result);
    return result;
  }

  /** Searches group sizes on the model of a condition, or reads what was found. */
  async *search(setup: SearchSetup, bits: Bits): AsyncGenerator<Generation, SearchResult> {
    const known = await this.searched(setup);
    if (known) return known;
    const { model, batches } = await this.condition(setup.condition);
    const { search, threads } = this.settings;
    const found = yield* searchOn({ model, batches, real: this.real }, setup.method, bits, search, threads);
    const result = { ...found, settings: this.searchSettings(setup), date: new Date().toISOString() };
    await this.store(searchName(setup), result);
    return result;
  }
}

/** What a search found, with what it depends on. */
export interface SearchResult extends Found {
  readonly settings: Readonly<Record<string, unknown>>;
  readonly date: string;
}

async function inTurn<T, R>(items: readonly T[], f: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await f(item));
  return results;
}
