/**
 * From tensors to an ONNX graph: puts the nodes in an order that keeps little alive, lets each operation lower itself,
 * and names inputs and outputs.
 */
import { LifetimeError } from "../errors.ts";
import type { Aval } from "./aval.ts";
import { bytesOf, convertHost } from "./dtype.ts";
import { type Capabilities, GraphBuilder } from "./onnx/builder.ts";
import { encodeModel, type KeepOutside, type NamedAval, type NamedOutput } from "./onnx/model.ts";
import type { ExternalWeights } from "./runtime/runtime.ts";
import { STOP } from "./runtime/session.ts";
import { type Node, readHost, type Tensor } from "./tensor.ts";

/** Depth-first order, inputs before users; of several starts or inputs the last is visited first. Not recursive: graphs are deep. */
function postOrder(starts: readonly Node[], inputsOf: (node: Node) => readonly Node[]): Node[] {
  const order: Node[] = [];
  const state = new Map<Node, "entered" | "left">();
  const stack = [...starts];
  while (stack.length) {
    const node = stack.at(-1)!;
    if (state.has(node)) {
      stack.pop();
      if (state.get(node) === "entered") order.push(node);
      state.set(node, "left");
      continue;
    }
    state.set(node, "entered");
    for (const input of inputsOf(node)) if (!state.has(input)) stack.push(input);
  }
  return order;
}

/** All nodes that the tensors depend on, inputs before users. Throws `LifetimeError` where one is gone. */
export function reachable(tensors: readonly Tensor[]): Node[] {
  return postOrder(tensors.map((t) => t.node).reverse(), (node) => {
    if (node.gone) throw new LifetimeError(`a tensor in this computation is gone: ${node.gone}`);
    return node.inputs.map((t) => t.node);
  });
}

/**
 * ONNX Runtime runs a graph as a depth-first search from its last sink, visiting the latest-written input first,
 * whatever the file order. So the deepest chains are written first: then it visits the shallow ones first, which
 * consumes each gradient as soon as it exists instead of keeping all of them for the end.
 */
function executionOrder(roots: readonly Tensor[], nodes: readonly Node[]): Node[] {
  const depth = new Map<Node, number>();
  for (const node of nodes) {
    let deepest = 0;
    for (const input of node.inputs) deepest = Math.max(deepest, (depth.get(input.node) ?? 0) + 1);
    depth.set(node, deepest);
  }
  const deepestFirst = (list: readonly Tensor[]): Node[] =>
    [...new Set(list.map((t) => t.node))]
      .filter((n) => depth.has(n))
      .sort((a, b) => depth.get(b)! - depth.get(a)! || a.id - b.id);

  return postOrder(deepestFirst(roots).reverse(), (node) => deepestFirst(node.inputs).reverse());
}

export interface LoweredGraph {
  readonly model: Uint8Array;
  /** Large constants that the model refers to instead of holding them. */
  readonly weights: ExternalWeights;
  /** Leaves fed at run time, in the order of the model's inputs `i0, i1 …`. */
  readonly inputs: readonly Tensor[];
  /** Per requested tensor: an output of the model, or a leaf that needs no computing. */
  readonly outputs: readonly ({ readonly name: string } | { readonly leaf: Tensor })[];
  /** Shape and dtype of each requested tensor. */
  readonly avals: readonly Aval[];
  /** Rough upper bound of the bytes alive at once. */
  readonly peakBytes: number;
}

export interface LowerOptions {
  readonly capabilities: Capabilities;
  /** Leaves that become inputs of the model even though nothing uses them (a fixed signature). */
  readonly inputs?: readonly Tensor[];
  /** What to do with data leaves: feed them at run time, or embed them as constants (prepacked by the runtime). */
  readonly data: "feed" | "embed";
  readonly inputName?: (index: number) => string;
  readonly outputName?: (index: number) => string;
  /** The model is for `Session.runInto`. */
  readonly into?: boolean;
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A graph as it is written into a model. */
export interface BuiltGraph extends Pick<LoweredGraph, "outputs" | "peakBytes"> {
  readonly graph: GraphBuilder;
  readonly inputs: readonly NamedAval[];
  readonly results: readonly NamedOutput[];
  /** Leaves by model input. */
  readonly fed: readonly Tensor[];
}

/** Lowers the graph behind `roots`. Names of model inputs and outputs are `i0 …` and `o0 …` unless told otherwise. */
export function lowerGraph(roots: readonly Tensor[], options: LowerOptions): LoweredGraph {
  const { graph, inputs, results, fed, outputs, peakBytes } = buildGraph(roots, options);
  const memory = new Map<string, Uint8Array>();
  // The runtime takes constants from memory or from files, not from both.
  const inFiles = graph.initializers.some(({ data }) => "path" in data);
  const outside = options.capabilities.externalWeights && options.data === "embed" && !inFiles;
  const keep: KeepOutside = (name, bytes) => {
    memory.set(`memory-${name}`, bytes);
    return { path: `memory-${name}`, offset: 0 };
  };
  const model = encodeModel(graph, inputs, results, options.metadata, outside ? keep : undefined);
  const avals = roots.map(({ shape, dtype }) => ({ shape, dtype }));
  return { model, weights: { memory, inFiles }, inputs: fed, outputs, avals, peakBytes };
}

/** The same before it is written. */
export function buildGraph(roots: readonly Tensor[], options: LowerOptions): BuiltGraph {
  const nodes = executionOrder(roots, reachable(roots));
  const g = new GraphBuilder(options.capabilities);
  const names = new Map<Node, readonly string[]>();
  const inputs: Tensor[] = [];
  const inputAvals: NamedAval[] = [];
  const inputName = options.inputName ?? ((i: number) => `i${i}`);

  const feed = (t: Tensor): string => {
    const name = inputName(inputs.length);
    inputs.push(t);
    inputAvals.push({ name, shape: t.shape, dtype: t.dtype });
    return name;
  };
  for (const t of options.inputs ?? []) names.set(t.node, [feed(t)]);

  for (const node of nodes) {
    if (names.has(node)) continue;
    if (node.op) {
      const inputNames = node.inputs.map((t) => names.get(t.node)![t.output]!);
      const avals = { inputs: node.inputs.map((t) => t.node.avals[t.output]!), outputs: node.avals };
      names.set(node, node.op.lower(g, inputNames, node.attrs, avals));
      continue;
    }
    names.set(node, nameLeaf(node, g, feed, options.data));
  }

  const taken = new Set<string>(inputAvals.map((i) => i.name));
  for (const init of g.initializers) taken.add(init.name);
  const rename = new Map<string, string>();
  const outputAvals: NamedAval[] = [];
  const outputs = roots.map((t, i) => {
    const name = names.get(t.node)![t.output]!;
    if (!t.node.op) return { leaf: t };
    const fed = inputs.find((input) => names.get(input.node)![input.output] === name);
    if (fed && fed.dtype === t.dtype) return { leaf: fed };
    const out = options.outputName?.(i) ?? `o${i}`;
    // An output that is also used elsewhere, twice, or is a constant gets its own name through an Identity.
    if (taken.has(name) || rename.has(name)) g.nodes.push(identity(rename.get(name) ?? name, out));
    else rename.set(name, out);
    outputAvals.push({ name: out, shape: t.shape, dtype: t.dtype });
    return { name: out };
  });
  const renamed = renameValues(g, rename);
  const results = options.into ? [{ name: STOP }, ...outputAvals] : outputAvals;
  if (options.into)
    g.nodes.push({ op: "SequenceEmpty", domain: "", inputs: [], outputs: [STOP], attributes: {} });
  renamed.keepOnly(results.map(({ name }) => name)); // a lowering may do without what was lowered before
  return {
    graph: renamed,
    inputs: inputAvals,
    results,
    fed: inputs,
    outputs,
    peakBytes: estimatePeak(nodes, roots),
  };
}

function nameLeaf(
  node: Node,
  g: GraphBuilder,
  feed: (t: Tensor) => string,
  data: "feed" | "embed",
): readonly string[] {
  const outputs = node.tensors();
  if (node.leaf === "input") {
    throw new LifetimeError(
      `${outputs[0]} is an input of a trace (jit, exportOnnx) and has no value outside of it; return what you need from the traced function`,
    );
  }
  return outputs.map((t) => {
    const { file, host } = t.value ?? {};
    if (data === "embed" && file && !host && g.capabilities.externalWeights && t.dtype !== "bf16")
      return g.constantInFile(t.dtype, t.shape, file);
    if (node.leaf === "literal" || data === "embed" || t.dtype === "bf16") {
      // The runtime may keep the array itself, so that nobody may write into it from now on.
      const widened = t.dtype === "bf16" ? convertHost(readHost(t), "bf16", "f32") : readHost(t);
      return g.constant(t.dtype === "bf16" ? "f32" : t.dtype, t.shape, widened);
    }
    return feed(t);
  });
}

const identity = (from: string, to: string) => ({
  op: "Identity",
  domain: "",
  inputs: [from],
  outputs: [to],
  attributes: {},
});

function renameValues(g: GraphBuilder, rename: ReadonlyMap<string, string>): GraphBuilder {
  const to = (name: string): string => rename.get(name) ?? name;
  for (let i = 0; i < g.nodes.length; i++) {
    const node = g.nodes[i]!;
    g.nodes[i] = { ...node, inputs: node.inputs.map(to), outputs: node.outputs.map(to) };
  }
  return g;
}

/** Operations whose results share their operand's memory. */
const VIEWS: ReadonlySet<string> = new Set(["reshape", "alias", "stopGradient", "customGradient"]);

/** Bytes alive at the worst moment if values are freed after their last use. */
function estimatePeak(nodes: readonly Node[], roots: readonly Tensor[]): number {
  const lastUse = new Map<Node, number>();
  nodes.forEach((node, i) => {
    for (const input of node.inputs) lastUse.set(input.node, i);
  });
  for (const root of roots) lastUse.set(root.node, nodes.length);
  const bytes = (node: Node): number =>
    node.op && VIEWS.has(node.op.name) ? 0 : node.avals.reduce((n, a) => n + bytesOf(a.shape, a.dtype), 0);
  const freed = nodes.map((): Node[] => []);
  for (const [node, i] of lastUse) freed[i]?.push(node);
  let [alive, peak] = [0, 0];
  nodes.forEach((node, i) => {
    alive += bytes(node);
    peak = Math.max(peak, alive);
    for (const dead of freed[i]!) alive -= bytes(dead);
  });
  return peak;
}
