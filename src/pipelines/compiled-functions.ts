/** The compiled functions of a pipeline by name, so that pictures after the first need no compilation. */
import { type JitOptions, type Jitted, jit } from "../tensor/index.ts";

type AnyJitted = Jitted<never[], unknown>;

/** A function of a name is the same every time: it closes over nothing but the pipeline's own components. */
export class CompiledFunctions {
  private readonly compiled = new Map<string, AnyJitted>();
  private readonly options: JitOptions;

  constructor(options: JitOptions = {}) {
    this.options = options;
  }

  /** The compiled function of a name, from `f` when it is asked for first. */
  get<Args extends unknown[], R>(name: string, f: (...args: Args) => R): Jitted<Args, R> {
    const found = this.compiled.get(name) ?? (jit(f, this.options) as unknown as AnyJitted);
    this.compiled.set(name, found);
    return found as unknown as Jitted<Args, R>;
  }

  /** Frees all sessions, when calls that are under way have ended. */
  async close(): Promise<void> {
    await Promise.all([...this.compiled.values()].map((f) => f.close()));
  }
}
