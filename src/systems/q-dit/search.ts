/** Evolutionary search over group sizes under a budget (Q-DiT, algorithm 1): for any objective, then for a model. */
import { AbortError, ArgumentError, NonFiniteError } from "../../errors.ts";
import { fillUniform } from "../../tensor/index.ts";
import { told, type Work, type WorkEvent } from "../../work.ts";
import { type Bits, bitBudget, type DiffusionTransformer, KINDS } from "./method.ts";

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
  /** To be minimised. */
  readonly fitness: (individual: readonly number[]) => Promise<number>;
  /** Individuals of the first generation; the rest is random. */
  readonly first?: readonly (readonly number[])[];
  readonly signal?: AbortSignal;
}

export interface Individual {
  readonly genes: readonly number[];
  readonly fitness: number;
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
    const value = await fitness(individual);
    if (Number.isNaN(value)) throw new NonFiniteError(`searchGroups: the fitness of ${key} is NaN`);
    known.set(key, { genes: individual, fitness: value });
  };
  const ranked = (): Individual[] => [...known.values()].sort((a, b) => a.fitness - b.fitness);

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
}

/** What a search found: sizes in the order qkv, out, fc1, fc2 of every block. */
export interface GroupsFound {
  readonly best: readonly number[];
  /** The best of the first, random generation, as a control. */
  readonly random: readonly number[];
  readonly fitness: { readonly best: number; readonly uniform: number; readonly random: number };
  readonly history: readonly {
    readonly generation: number;
    readonly best: number;
    readonly evaluated: number;
  }[];
}

/** Searches the group sizes of a model within the bit operations of uniform ones. Throws as `searchGroups`. */
export async function* searchOn(
  model: DiffusionTransformer,
  bits: Bits,
  settings: GroupSearchSettings,
  { stage, fitness, signal }: { stage: string } & Pick<SearchOptions, "fitness" | "signal">,
): Work<GroupsFound> {
  const { budget, ...search } = settings;
  const genes = KINDS.length * model.transformerBlocks.length;
  const uniform = Array.from({ length: genes }, () => budget);
  const allowed = bitBudget(model, budget, bits) * (1 + 1e-9);
  const legal = (groups: readonly number[]): boolean => bitBudget(model, groups, bits) <= allowed;
  const history: Generation[] = [];
  const running = searchGroups({
    ...{ genes, legal, fitness, first: [uniform], ...search },
    ...(signal && { signal }),
  });
  const ranked = yield* told(running, (event: Generation): WorkEvent => {
    history.push(event);
    const { generation, best, evaluated } = event;
    const note = `distance ${best.fitness.toFixed(2)} after ${evaluated} candidates`;
    return { type: "progress", stage, done: generation + 1, total: settings.generations, note };
  });
  const [best, first] = [ranked[0]!, history[0]!.best];
  return {
    best: best.genes,
    random: first.genes,
    fitness: {
      best: best.fitness,
      uniform: ranked.find((i) => i.genes.join() === uniform.join())!.fitness,
      random: first.fitness,
    },
    history: history.map((g) => ({ ...g, best: g.best.fitness })),
  };
}
