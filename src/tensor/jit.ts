/** Compilation: a function over trees becomes one session per signature. */

import type { Aval } from "./aval.ts";
import { BufferPool, retire, settled, undoOf } from "./donation.ts";
import { evaluate, loadFiles, toDevice } from "./eager.ts";
import { type LoweredGraph, lowerGraph } from "./lower.ts";
import { assertFits } from "./memory.ts";
import { checkDevice, defaultDevice, runtime } from "./runtime/devices.ts";
import type { Device, DeviceTensor, Session, SessionSettings } from "./runtime/runtime.ts";
import { SharedCache } from "./shared-cache.ts";
import { CompilationCount, DonatedStructure, type Signature, signatureOf } from "./signature.ts";
import type { Tensor, Value } from "./tensor.ts";
import { captured, trace } from "./trace.ts";
import { refuseWhileTracing } from "./tracing.ts";
import { flatten, type TreeDef } from "./tree.ts";

/** Options of `jit`. */
export interface JitOptions extends SessionSettings {
  /**
   * Indices of arguments that the caller gives up: their memory becomes that of later results, so a training state is
   * double-buffered without copies. Using a donated tensor afterwards throws `LifetimeError`. Memory that somebody else
   * holds is left alone: typed arrays that tensors were made of, and what `data()` has handed out.
   */
  readonly donate?: readonly number[];
  /** Where to run; default: the default device. */
  readonly device?: Device;
  /**
   * Signatures kept compiled. Of more, those used least recently are closed, each when the last call that uses it has
   * ended. Default 8.
   */
  readonly maxSignatures?: number;
}

interface Compiled {
  /** Absent when every result is an argument passed through. */
  readonly session: Session | undefined;
  /** Whether the session writes into memory that it is given. */
  readonly into: boolean;
  readonly outputs: LoweredGraph["outputs"];
  readonly avals: readonly Aval[];
  readonly result: TreeDef;
  /** For each output: which argument leaf it is, when it is passed through unchanged. */
  readonly passes: ReadonlyMap<Tensor, number>;
}

/** A compiled function. Call it like the original, as often at once as wanted; results come as a promise. */
export interface Jitted<Args extends unknown[], R> {
  (...args: Args): Promise<R>;
  /**
   * The arguments that the call with this result was given by donation, for who must undo it (a step that went wrong);
   * once. Undefined when there are none, and from when tensors of the result have been donated in turn.
   */
  takeBack(result: R): Partial<Args> | undefined;
  /** Number of compilations so far, of signatures that were dropped in between too. */
  readonly signatures: number;
  /** Frees all sessions, when calls that are under way have ended. A later call compiles anew. */
  close(): Promise<void>;
}

async function compile(
  f: (...args: never[]) => unknown,
  args: unknown[],
  sources: readonly Tensor[],
  device: Device,
  settings: SessionSettings,
): Promise<Compiled> {
  const rt = await runtime();
  const { inputs, outputs, resultDef } = trace("jit", f as (...a: unknown[]) => unknown, args, sources);
  const capabilities = await rt.capabilities(device);
  if (!capabilities.externalWeights) await loadFiles(captured(outputs));
  const into = capabilities.writesInto ?? false;
  const graph = lowerGraph(outputs, { capabilities, inputs, data: "embed", into });
  const inputBytes = inputs.reduce((n, t) => n + t.bytes, 0);
  assertFits(graph.peakBytes + inputBytes, "this compiled function");
  const session = graph.outputs.some((o) => "name" in o)
    ? await rt.createSession(graph.model, device, settings, graph.weights)
    : undefined;
  const { outputs: results, avals } = graph; // the model's bytes are not kept: the session has them
  return {
    session,
    into,
    outputs: results,
    avals,
    result: resultDef,
    passes: new Map(inputs.map((t, i) => [t, i])),
  };
}

/**
 * Compiles a function of trees (tensors inside arrays, objects, modules). It is traced once per signature: structure,
 * static values, shapes and dtypes of the arguments. Tensors that it captures from outside are embedded as constants,
 * so pass what changes as an argument: a number as a tensor, too, or every new one is compiled anew. One call is one run
 * of one session; on the CPU it holds up the event loop while it runs (`openWorkers` of `tweedie/workers` computes elsewhere). `close()` it when it is done with:
 * sessions are not in JavaScript's memory.
 *
 * @throws TreeError when a donated argument's structure changes between calls, ArgumentError for an async function, for
 * arguments whose content is not looked at (Map, Set, typed arrays), and where the function uses tensors of its arguments
 * from outside
 *
 * @example
 * ```ts
 * const step = jit((w: Tensor, x: Tensor) => w.sub(grad((v: Tensor) => v.mul(x).square().sum())(w).mul(0.1)), { donate: [0] });
 * let w = tensor([1]);
 * for (let i = 0; i < 3; i++) w = await step(w, tensor([1])); // compiled at the first call
 * ```
 */
export function jit<Args extends unknown[], R>(
  f: (...args: Args) => R,
  options: JitOptions = {},
): Jitted<Args, R> {
  const maxSignatures = options.maxSignatures ?? 8;
  const cache = new SharedCache<Compiled>(maxSignatures, ({ session }) => session?.close());
  const compilations = new CompilationCount(maxSignatures);
  const donated = new Set(options.donate ?? []);
  const structure = new DonatedStructure(donated);
  const pool = new BufferPool();

  const called = async (args: Args): Promise<R> => {
    structure.check(args);
    const device = options.device ? await checkDevice(options.device) : await defaultDevice();
    const signature = signatureOf(args, donated);
    await evaluate(signature.leaves);
    const key = `${device} ${signature.key}`;
    const make = (): Promise<Compiled> => {
      compilations.add(key);
      return compile(f as never, args, signature.leaves, device, options);
    };
    return cache.use(key, make, (compiled) => run(compiled, args, signature));
  };

  const run = async (compiled: Compiled, args: Args, signature: Signature): Promise<R> => {
    const { session, into, result, passes } = compiled;
    const { leaves } = signature;
    const rt = await runtime();
    const feeds: Record<string, DeviceTensor> = {};
    leaves.forEach((t, i) => {
      feeds[`i${i}`] = toDevice(t, rt);
      if (donated.has(signature.arguments[i]!)) t.value!.undo?.release(into ? pool.give : undefined);
    });
    const named = compiled.outputs.flatMap((out, i) =>
      "name" in out ? [[out.name, compiled.avals[i]!] as const] : [],
    );
    let values: Record<string, DeviceTensor> = {};
    if (into) {
      values = Object.fromEntries(
        named.map(([name, { dtype, shape }]) => [name, pool.take(dtype, shape, rt)]),
      );
      await session?.runInto(feeds, values);
    } else if (session) {
      values = await session.run(feeds, Object.fromEntries(named.map(([name]) => [name, null])));
    }

    // Never reuse what is still in use: arguments that were not given up, and results that are arguments.
    const kept = new Set(
      signature.given.flatMap((t, i) => (donated.has(signature.arguments[i]!) ? [] : [t.node])),
    );
    const computed: Value[] = [];
    const outputs = compiled.outputs.map((out, i) => {
      if ("leaf" in out) {
        const passed = passes.has(out.leaf) ? leaves[passes.get(out.leaf)!]! : out.leaf;
        kept.add(passed.node);
        return passed;
      }
      const value: Value = { device: values[out.name]! };
      computed.push(value);
      return settled(compiled.avals[i]!, value);
    });
    if (donated.size > 0) {
      const undo = undoOf([...donated].map((i) => retire(i, args[i], kept)));
      for (const value of computed) value.undo = undo;
    }
    return result.unflatten(outputs) as R;
  };

  const call = (...args: Args): Promise<R> => {
    refuseWhileTracing("a compiled function was called");
    return called(args);
  };
  return Object.defineProperties(call, {
    takeBack: {
      value: (result: R) => {
        const values = flatten(result).leaves.map((t) => (t.node.gone ? undefined : t.value));
        return values.find((value) => value?.undo)?.undo?.restore();
      },
    },
    signatures: { get: () => compilations.total },
    close: {
      value: async () => {
        await cache.close();
        pool.clear();
      },
    },
  }) as Jitted<Args, R>;
}
