/** What a compiled function is compiled for: structure, static values, shapes and dtypes of its arguments. */
import { ArgumentError, TreeError } from "../errors.ts";
import { storedOf } from "./ops/cast.ts";
import type { Tensor } from "./tensor.ts";
import { describeValue, flatten } from "./tree.ts";

/** The arguments of a call, taken apart. */
export interface Signature {
  /** Equal for calls that can share a compiled graph. */
  readonly key: string;
  /** What is fed: the leaves, or the narrower weights that they are widened from. */
  readonly leaves: readonly Tensor[];
  /** The leaves themselves, and which argument each belongs to. */
  readonly given: readonly Tensor[];
  readonly arguments: readonly number[];
}

/** @throws ArgumentError for what would be compared by identity although its content can change */
function refuseMutable(value: object, path: string): void {
  if (ArrayBuffer.isView(value) || value instanceof Map || value instanceof Set || value instanceof Promise)
    throw new ArgumentError(
      `jit: argument ${path} is ${describeValue(value)}; as it is, its content would be compiled in and later changes go unseen`,
    );
}

/**
 * Weights are fed in the width of their file. A donated argument is a state, whose results have the leaves' own dtypes: it
 * is widened once.
 */
export function signatureOf(args: readonly unknown[], donated: ReadonlySet<number>): Signature {
  const flat = flatten(args, refuseMutable);
  const { leaves: given, def } = flat;
  const owners = def.paths.map((path) => Number.parseInt(path, 10));
  const leaves = given.map((t, i) => (donated.has(owners[i]!) ? t : storedOf(t)));
  const avals = leaves.map((t, i) => `${t.dtype}${t === given[i] ? "" : `>${given[i]!.dtype}`}[${t.shape}]`);
  return { key: `${def.key} ${avals.join(" ")}`, leaves, given, arguments: owners };
}

/** A state that changes its structure between calls is a mistake that would silently recompile every step. */
export class DonatedStructure {
  private readonly keys = new Map<number, string>();
  private readonly donated: ReadonlySet<number>;
  constructor(donated: ReadonlySet<number>) {
    this.donated = donated;
  }

  /** @throws TreeError when a structure is another one than before, ArgumentError when there is no such argument */
  check(args: readonly unknown[]): void {
    for (const i of this.donated) {
      if (!(i < args.length))
        throw new ArgumentError(`jit: donate names argument ${i}, and the call has ${args.length} arguments`);
      const { leaves, def } = flatten(args[i]);
      if (leaves.length === 0)
        throw new ArgumentError(
          `jit: donated argument ${i} is ${describeValue(args[i])}: it has no memory to give`,
        );
      const before = this.keys.get(i);
      if (before !== undefined && before !== def.key) {
        throw new TreeError(
          `jit: donated argument ${i} changed its structure between calls: expected ${firstDifference(before, def.key)}`,
        );
      }
      this.keys.set(i, def.key);
    }
  }
}

function firstDifference(before: string, after: string): string {
  const [a, b] = [before.split(" "), after.split(" ")];
  const i = a.findIndex((word, k) => word !== b[k]);
  return `"${a.slice(Math.max(0, i - 3), i + 2).join(" ")}", got "${b.slice(Math.max(0, i - 3), i + 2).join(" ")}"`;
}

/** Compilations from which on a warning is due. */
const MANY = 20;

/** Counts compilations, and warns once when there are suspiciously many. */
export class CompilationCount {
  total = 0;
  private before = "";
  private readonly expected: number;
  /** @param expected signatures that the caller wants kept: so many surprise nobody */
  constructor(expected: number) {
    this.expected = expected;
  }

  add(key: string): void {
    this.total++;
    if (this.total === Math.max(MANY, this.expected + 1))
      console.warn(
        `tweedie: a jit function has been compiled ${this.total} times; between the last two signatures this differs: ${firstDifference(this.before, key)}. A number that changes is better passed as a tensor (tensor(x)); shapes that change each cost a compilation; maxSignatures says how many are kept`,
      );
    this.before = key;
  }
}
