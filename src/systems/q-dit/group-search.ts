/** Group sizes for a model: the evolutionary search with the distance of few pictures of one seed as objective. */
import type { DiTTransformer2DModel } from "../../networks/index.ts";
import { withQuantized } from "../../nn/index.ts";
import type { SearchSetup } from "./cells.ts";
import { bitBudget, quantizeDiT } from "./quantize.ts";
import { draw, type NoisyBatch } from "./sample.ts";
import { type Generation, searchGroups } from "./search.ts";
import { distanceToReal, type RealSide } from "./study.ts";

export interface GroupSearchSettings {
  readonly population: number;
  readonly generations: number;
  readonly top: number;
  /** Pictures and DDIM steps by which a candidate is judged. */
  readonly pictures: number;
  readonly steps: number;
  readonly space: readonly number[];
  /** The uniform size whose bit operations are the budget. */
  readonly budget: number;
  readonly seed: number;
}

export interface Bits {
  readonly weights: number;
  readonly activations: number;
}

/** What a search found: sizes in the order qkv, out, fc1, fc2 of every block. */
export interface Found {
  readonly groups: readonly number[];
  /** The best of the first, random generation, as a control. */
  readonly random: readonly number[];
  readonly fitness: number;
  readonly uniformFitness: number;
  readonly randomFitness: number;
  readonly evaluated: number;
  readonly history: readonly {
    readonly generation: number;
    readonly best: number;
    readonly evaluated: number;
  }[];
  readonly bits: Bits;
}

/** Seed of the pictures that judge candidates: none of those that judge the result. */
const JUDGING = 3000;

/** Searches. Yields every generation. Throws as `searchGroups`. */
export async function* searchOn(
  subject: {
    readonly model: DiTTransformer2DModel;
    readonly batches: readonly NoisyBatch[];
    readonly real: RealSide;
  },
  method: SearchSetup["method"],
  bits: Bits,
  settings: GroupSearchSettings,
  threads: number | undefined,
): AsyncGenerator<Generation, Found> {
  const { model, batches, real } = subject;
  const { space, budget, pictures: count, steps, seed, ...sizes } = settings;
  const genes = 4 * model.transformerBlocks.length;
  const uniform = Array.from({ length: genes }, () => budget);
  const allowed = bitBudget(model, budget, bits) * (1 + 1e-9);
  const legal = (groups: readonly number[]): boolean => bitBudget(model, groups, bits) <= allowed;
  const fitness = async (groups: readonly number[]): Promise<number> => {
    const layers = await quantizeDiT(model, method, bits, groups, batches);
    const simulated = withQuantized(model, layers, "simulated");
    return distanceToReal(
      real,
      await draw(simulated, { count, steps, seed: JUDGING, ...(threads && { threads }) }),
    );
  };
  const history: Generation[] = [];
  const running = searchGroups({ genes, space, seed, legal, fitness, first: [uniform], ...sizes });
  let next = await running.next();
  for (; !next.done; next = await running.next()) {
    history.push(next.value);
    yield next.value;
  }
  const ranked = next.value;
  return {
    groups: ranked[0]!.genes,
    random: history[0]!.best.genes,
    fitness: ranked[0]!.fitness,
    uniformFitness: ranked.find((i) => i.genes.join() === uniform.join())!.fitness,
    randomFitness: history[0]!.best.fitness,
    evaluated: ranked.length,
    history: history.map(({ generation, best, evaluated }) => ({
      generation,
      best: best.fitness,
      evaluated,
    })),
    bits,
  };
}
