/** Random numbers of torch's CPU generator: names say `kind.seed.count` (and `.tail` for the last values of a draw). */
import { FormatError } from "../../src/errors.ts";
import { type Tensor, TorchCpuGenerator } from "../../src/tensor/index.ts";
import type { CaseFolder } from "./cases.ts";
import { type Check, compareTensor, LIMITS } from "./compare.ts";

function draw(name: string, length: number): { values: ArrayLike<number>; limit: number } {
  const [kind, seed, argument, detail] = name.split(".") as [string, string, string, string | undefined];
  const generator = new TorchCpuGenerator(BigInt.asUintN(64, BigInt(seed))); // torch takes negative seeds so
  const count = Number(argument);
  const part = (all: Float32Array | Int32Array) =>
    detail === "tail" ? all.slice(-length) : all.slice(0, length);
  switch (kind) {
    case "randperm":
      return { values: part(generator.permutation(count)), limit: LIMITS.exact };
    case "randint": {
      const bounds = /^(-?\d+)-(-?\d+)$/.exec(argument);
      if (!bounds) throw new FormatError(`expected randint.SEED.LOW-HIGH.COUNT, got "${name}"`);
      const [low, high] = bounds.slice(1).map(Number) as [number, number];
      return { values: generator.integers(low, high, Number(detail)), limit: LIMITS.exact };
    }
    case "rand":
    case "randn": {
      const all = kind === "rand" ? generator.uniform(count) : generator.normal(count);
      return { values: part(all), limit: kind === "rand" || count < 16 ? LIMITS.exact : LIMITS.normal };
    }
    default:
      throw new FormatError(`expected randn, rand, randperm or randint, got "${name}"`);
  }
}

async function compareDraw(name: string, reference: Tensor): Promise<Check> {
  const { values, limit } = draw(name, reference.size);
  const check = compareTensor(name, "draw", limit, values, await reference.toArray());
  const relative = check.maxAbsolute; // of order 1 already
  return { ...check, relative, ok: relative <= limit };
}

export async function runRandomCase({ expected }: CaseFolder): Promise<Check[]> {
  return Promise.all([...expected].map(([name, reference]) => compareDraw(name, reference)));
}
