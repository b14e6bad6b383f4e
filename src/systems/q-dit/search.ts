/** Evolutionary search over group sizes under a budget (Q-DiT, algorithm 1), for any objective. */
import { AbortError, ArgumentError } from "../../errors.ts";
import { fillUniform } from "../../tensor/index.ts";

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
 * Throws `ArgumentError` when no individual keeps the budget, or for sizes that cannot be; `AbortError` when stopped.
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
    if (!known.has(key)) known.set(key, { genes: individual, fitness: await fitness(individual) });
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
