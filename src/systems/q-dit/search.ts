/** Evolutionary search over group sizes under a budget (Q-DiT, algorithm 1): for any objective, then for a model. */
import { AbortError, ArgumentError, NonFiniteError } from "../../errors.ts";
import { mean } from "../../study/index.ts";
import { fillUniform } from "../../tensor/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { type Bits, bitBudget, type DiffusionTransformer, KINDS } from "./method.ts";

/** How good an individual is. */
export interface Fitness {
  readonly fitness: number;
  /** Signal to noise in dB. */
  readonly ratio?: number;
}

export interface SearchOptions {
  /** Number of genes. */
  readonly genes: number;
  /** What each gene can be. */
  readonly space: readonly number[];
  readonly population: number;
  readonly generations: number;
  /** Individuals that parents are drawn from. */
  readonly top: number;
  /** Chance of a gene to change in a mutation. Default 0.1. */
  readonly mutation?: number;
  readonly seed: number;
  /** Whether an individual keeps the budget. */
  readonly legal: (individual: readonly number[]) => boolean;
  /** To be minimised; among equals, the one of the larger ratio is better. */
  readonly fitness: (individual: readonly number[]) => Promise<Fitness>;
  /** Individuals of the first generation; the rest is random. */
  readonly first?: readonly (readonly number[])[];
  readonly signal?: AbortSignal;
}

export interface Individual extends Fitness {
  readonly genes: readonly number[];
}

export interface Generation {
  readonly generation: number;
  readonly best: Individual;
  /** Individuals whose fitness was computed, in all. */
  readonly evaluated: number;
}

/** How often something random is drawn again before the budget counts as too tight. */
const ATTEMPTS = 2000;

/**
 * Searches. Every generation keeps the best ever seen; half of the next are mutants, half uniform crossovers of two of
 * the best, all within the budget. Yields each generation, returns all individuals from best to worst.
 *
 * Throws `ArgumentError` when no individual keeps the budget, or for sizes that cannot be; `NonFiniteError` for a fitness
 * that is NaN, which nothing can be ranked by; `AbortError` when stopped.
 */
export async function* searchGroups(options: SearchOptions): AsyncGenerator<Generation, Individual[]> {
  const {
    genes,
    space,
    population,
    generations,
    top,
    mutation = 0.1,
    seed,
    legal,
    fitness,
    first = [],
  } = options;
  for (const [name, value] of Object.entries({ genes, population, generations, top }))
    if (!Number.isInteger(value) || value < 1)
      throw new ArgumentError(`searchGroups: ${name} must be a positive integer, got ${value}`);
  if (space.length === 0) throw new ArgumentError("searchGroups: the space is empty");
  if (!space.some((value) => legal(Array.from({ length: genes }, () => value))))
    throw new ArgumentError(
      "searchGroups: no uniform choice keeps the budget; it is smaller than the cheapest",
    );

  let draws = 0;
  const uniform = (n: number): Float32Array =>
    fillUniform(new Float32Array(n), { seed, sample: 0, purpose: "search", step: draws++ });
  const pick = <T>(from: readonly T[], u: number): T =>
    from[Math.min(from.length - 1, Math.floor(u * from.length))]!;
  const within = (make: () => readonly number[]): readonly number[] | undefined => {
    for (let i = 0; i < ATTEMPTS; i++) {
      const individual = make();
      if (legal(individual)) return individual;
    }
    return undefined;
  };
  const random = (): readonly number[] => Array.from(uniform(genes), (u) => pick(space, u));
  const mutant = (of: readonly number[]): readonly number[] => {
    const [change, value] = [uniform(genes), uniform(genes)];
    return of.map((gene, i) => (change[i]! < mutation ? pick(space, value[i]!) : gene));
  };
  const crossover = (a: readonly number[], b: readonly number[]): readonly number[] => {
    const u = uniform(genes);
    return a.map((gene, i) => (u[i]! < 0.5 ? gene : b[i]!));
  };

  const known = new Map<string, Individual>();
  const evaluate = async (individual: readonly number[]): Promise<void> => {
    if (options.signal?.aborted) throw new AbortError();
    const key = individual.join();
    if (known.has(key)) return;
    const found = await fitness(individual);
    if (Number.isNaN(found.fitness)) throw new NonFiniteError(`searchGroups: the fitness of ${key} is NaN`);
    known.set(key, { ...found, genes: individual });
  };
  const ranked = (): Individual[] =>
    [...known.values()].sort((a, b) => a.fitness - b.fitness || (b.ratio ?? 0) - (a.ratio ?? 0));

  let current = first
    .filter((individual) => individual.length === genes && legal(individual))
    .slice(0, population);
  while (current.length < population) {
    const next = within(random);
    if (!next) break;
    current.push(next);
  }
  for (let generation = 0; generation < generations; generation++) {
    for (const individual of current) await evaluate(individual);
    const best = ranked();
    yield { generation, best: best[0]!, evaluated: known.size };
    const parents = best.slice(0, top).map((p) => p.genes);
    const children: (readonly number[])[] = [];
    for (let i = 0; i < population; i++) {
      const [u, v] = uniform(2) as unknown as [number, number];
      const make =
        i % 2 === 0 ? () => mutant(pick(parents, u)) : () => crossover(pick(parents, u), pick(parents, v));
      children.push(within(make) ?? pick(parents, u));
    }
    current = children;
  }
  return ranked();
}

/** Plain data: all that decides a search beside the model and its judge. */
export interface GroupSearchSettings {
  readonly population: number;
  readonly generations: number;
  readonly top: number;
  readonly mutation: number;
  readonly space: readonly number[];
  /** The uniform size whose bit operations are the budget. */
  readonly budget: number;
  readonly seed: number;
  /** Seeds of the calibration sets over which a candidate is judged: what fits one of them alone shall not win. */
  readonly calibrations: readonly number[];
  /** Distances count as equal when they round to the same multiple of this; the ratio decides then. */
  readonly tie: number;
}

/** What a search found: sizes in the order qkv, out, fc1, fc2 of every block. */
export interface GroupsFound {
  readonly best: readonly number[];
  /** The best of as many random candidates, as a control. */
  readonly random: readonly number[];
  readonly fitness: { readonly best: number; readonly uniform: number; readonly random: number };
  readonly history: readonly {
    readonly generation: number;
    readonly best: number;
    readonly evaluated: number;
  }[];
}

/**
 * Searches the group sizes of a model within the bit operations of uniform ones, then draws as many at random. `fitness`
 * judges a candidate on one calibration set. Throws as `searchGroups`.
 */
export async function* searchOn(
  model: DiffusionTransformer,
  bits: Bits,
  settings: GroupSearchSettings,
  judge: {
    readonly stage: string;
    readonly fitness: (groups: readonly number[], calibration: number) => Promise<Fitness>;
    readonly signal?: AbortSignal | undefined;
  },
): Work<GroupsFound> {
  const { budget, calibrations, tie, ...search } = settings;
  const { stage, signal } = judge;
  const genes = KINDS.length * model.transformerBlocks.length;
  const uniform = Array.from({ length: genes }, () => budget);
  const allowed = bitBudget(model, budget, bits) * (1 + 1e-9);
  const legal = (groups: readonly number[]): boolean => bitBudget(model, groups, bits) <= allowed;
  const known = new Map<string, Fitness>();
  const exact = (groups: readonly number[]): number => known.get(groups.join())!.fitness;
  const fitness = async (groups: readonly number[]): Promise<Fitness> => {
    const own: Fitness[] = [];
    if (!known.has(groups.join())) {
      for (const seed of calibrations) own.push(await judge.fitness(groups, seed));
      const ratio = mean(own.map((one) => one.ratio ?? 0));
      known.set(groups.join(), { fitness: mean(own.map((one) => one.fitness)), ratio });
    }
    const { fitness: value, ratio } = known.get(groups.join())!;
    return { fitness: Math.round(value / tie) * tie, ratio: ratio! };
  };
  const history: GroupsFound["history"][number][] = [];
  const common = { genes, legal, fitness, first: [uniform], ...search, ...(signal && { signal }) };
  const running = searchGroups(common);
  const ranked = yield* told(running, (event: Generation): WorkEvent => {
    const { generation, best, evaluated } = event;
    history.push({ generation, best: exact(best.genes), evaluated });
    const note = `${exact(best.genes).toFixed(2)} after ${evaluated} candidates`;
    return { type: "progress", stage, done: generation + 1, total: settings.generations + 1, note };
  });
  // Random candidates, those of the first generation among them: the draws are the same.
  const drawn = searchGroups({ ...common, population: ranked.length, generations: 1 });
  const control = yield* told(drawn, (): WorkEvent => {
    const total = settings.generations + 1;
    return { type: "progress", stage, done: total, total, note: `${known.size} candidates, random ones too` };
  });
  const [best, random] = [ranked[0]!.genes, control[0]!.genes];
  const found = { best: exact(best), uniform: exact(uniform), random: exact(random) };
  return { best, random, fitness: found, history };
}
