/** Foreign graphs as functions: networks that torch exported, our own exports, and what is refused. */
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ArgumentError, DTypeError, FormatError, ShapeError, TweedieError } from "../../src/errors.ts";
import {
  exportOnnx,
  grad,
  groupNorm,
  importOnnx,
  importOnnxGraph,
  jit,
  type NamedTensors,
  type Tensor,
  tensor,
  valueAndGrad,
  zeros,
} from "../../src/tensor/index.ts";
import { type Attributes, GraphBuilder, PLAIN_ONNX } from "../../src/tensor/onnx/builder.ts";
import { encodeModel } from "../../src/tensor/onnx/model.ts";
import { assertClose, type Nd } from "./op-check.ts";

interface Case {
  readonly name: string;
  readonly model: string;
  readonly x: Nd;
  readonly y: Nd;
  readonly cotangent: Nd;
  readonly gradients: Record<string, Nd>;
}
const { cases } = JSON.parse(
  readFileSync(new URL("../fixtures/torch-onnx.json", import.meta.url), "utf8"),
) as { cases: Case[] };
const load = ({ shape, data }: Nd): Tensor => tensor(Float32Array.from(data), { shape });
const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));

describe.each(cases)("a network exported by torch: $name", ({ model, x, y, cotangent, gradients }) => {
  const graph = importOnnxGraph(bytesOf(model));

  it("has torch's values and gradients, towards its input and its weights", async () => {
    const loss = (all: { x: Tensor; parameters: NamedTensors }): Tensor =>
      graph.call({ x: all.x }, all.parameters).y!.mul(load(cotangent)).sum();
    const compiled = jit(grad(loss));
    const got = await compiled({ x: load(x), parameters: graph.parameters });
    await compiled.close();
    assertClose(await graph.call({ x: load(x) }).y!.toArray(), y.data, 2e-5, "values");
    const names = Object.keys(gradients);
    expect(names.length).toBeGreaterThan(3);
    for (const name of names) {
      const gradient = name === "x" ? got.x : got.parameters[name]!;
      assertClose(await gradient.toArray(), gradients[name]!.data, 2e-4, name);
    }
  });

  it("takes any batch size", async () => {
    const [one] = load(x).split(x.shape[0]!, 0) as [Tensor];
    const alone = await graph.call({ x: one }).y!.toArray();
    assertClose(alone, y.data.slice(0, alone.length), 2e-5, "values");
  });
});

/** A graph of one node. */
function modelOf(op: string, attributes = {}, shape: readonly number[] = [2, 3]): Uint8Array {
  const g = new GraphBuilder(PLAIN_ONNX);
  const out = g.op(op, ["x"], attributes);
  const aval = { shape, dtype: "f32" } as const;
  return encodeModel(g, [{ name: "x", ...aval }], [{ name: out, ...aval }]);
}

const NODES: readonly (readonly [what: string, build: (g: GraphBuilder) => string])[] = [
  ["AveragePool over its padding", (g) => pool(g, "AveragePool", { count_include_pad: 1 })],
  ["AveragePool without its padding", (g) => pool(g, "AveragePool", {})],
  ["AveragePool, more before", (g) => pool(g, "AveragePool", { pads: [1, 1, 0, 0] })],
  ["MaxPool, more before", (g) => pool(g, "MaxPool", { pads: [1, 1, 0, 0] })],
  ["MaxPool, same size", (g) => pool(g, "MaxPool", { auto_pad: "SAME_UPPER", pads: undefined })],
  ["Flatten", (g) => g.op("Flatten", [g.reshape("x", [1, 2, 2, 3, 4])], { axis: 2 })],
  ["HardSigmoid", (g) => g.op("HardSigmoid", ["x"], { alpha: { float: 0.3 } })],
  ["Elu", (g) => g.op("Elu", ["x"], { alpha: { float: 0.5 } })],
  ["Slice backwards", (g) => g.slice("x", [1], [-2], [-100], [-1])],
  ["Resize nearest", (g) => resizeTo(g, [2, 2, 6, 8], { mode: "nearest" })],
  ["Resize linear", (g) => resizeTo(g, [2, 2, 5, 6], { mode: "linear" })],
  [
    "Resize linear, corners",
    (g) => resizeTo(g, [2, 2, 5, 6], { mode: "linear", coordinate_transformation_mode: "align_corners" }),
  ],
  ["Resize cubic", (g) => resizeTo(g, [2, 2, 6, 7], { mode: "cubic" })],
  [
    "Gemm",
    (g) =>
      g.op("Gemm", ["x", "x", g.scalar("f32", 2, [1])], {
        transB: 1,
        alpha: { float: 0.5 },
        beta: { float: 3 },
      }),
  ],
  [
    "a shape computed from a shape",
    (g) => {
      const shape = g.slice(g.op("Shape", [g.reshape("x", [2, 3, 8])]), [0], [-1], [-4], [-1]); // 8, 3, 2
      const product = g.op("ReduceProd", [g.slice(shape, [0], [0], [2], [1]), g.ints([0])], { keepdims: 1 });
      return g.op("Reshape", ["x", g.op("Concat", [product, g.ints([-1])], { axis: 0 })]);
    },
  ],
];
const pool = (g: GraphBuilder, op: string, more: Attributes): string =>
  g.op(op, [g.reshape("x", [1, 2, 4, 6])], {
    kernel_shape: [2, 3],
    strides: [2, 2],
    pads: [1, 1, 1, 1],
    ...more,
  });
const resizeTo = (g: GraphBuilder, size: readonly number[], attributes: Attributes): string =>
  g.op("Resize", [g.reshape("x", [2, 2, 3, 4]), "", "", g.ints(size)], attributes);

it.each(NODES)("%s: the graph gives what the runtime gives", async (_, build) => {
  const g = new GraphBuilder(PLAIN_ONNX);
  const out = build(g);
  const x = tensor(
    Float32Array.from({ length: 48 }, (_, i) => Math.sin(2.3 * i)),
    { shape: [2, 24] },
  );
  const aval = { shape: x.shape, dtype: "f32" } as const;
  const bytes = encodeModel(g, [{ name: "x", ...aval }], [{ name: out }]);
  const model = await importOnnx(bytes);
  const expected = (await model.run({ x }))[out]!;
  const got = importOnnxGraph(bytes).call({ x })[out]!;
  expect(got.shape).toEqual(expected.shape);
  assertClose(await got.toArray(), await expected.toArray(), 1e-5, "values");
  await model.close();
});

describe("importOnnxGraph", () => {
  const weights = {
    kernel: tensor(
      Float32Array.from({ length: 36 }, (_, i) => Math.sin(i)),
      { shape: [4, 1, 3, 3] },
    ),
    rows: tensor(
      Float32Array.from({ length: 8 }, (_, i) => Math.cos(i)),
      { shape: [4, 2] },
    ),
  };
  const network = (x: Tensor): Tensor => {
    const maps = groupNorm(
      x
        .pad(
          [
            [0, 0],
            [0, 0],
            [1, 1],
            [1, 1],
          ],
          "replicate",
        )
        .mul(1),
      1,
    );
    return maps.mean([2, 3]).repeat(4, 1).silu().matmul(weights.rows).softmax();
  };

  it("takes back what exportOnnx wrote, as a frozen loss for what comes before", async () => {
    const x = tensor(
      Float32Array.from({ length: 18 }, (_, i) => Math.sin(3 * i)),
      { shape: [2, 1, 3, 3] },
    );
    const bytes = await exportOnnx(network, [x], { inputNames: ["x"], outputNames: ["y"] });
    const graph = importOnnxGraph(bytes);
    expect(graph.inputs).toEqual([{ name: "x", dtype: "f32", shape: [2, 1, 3, 3] }]);
    const lossOf = (f: (x: Tensor) => Tensor) => (scale: Tensor) => f(x.mul(scale).tanh()).square().sum();
    const [value, slope] = valueAndGrad(lossOf((t) => graph.call({ x: t }).y!))(tensor(0.7));
    const [expected, expectedSlope] = valueAndGrad(lossOf(network))(tensor(0.7));
    expect(await value.item()).toBeCloseTo(await expected.item(), 6);
    expect(await slope.item()).toBeCloseTo(await expectedSlope.item(), 5);
  });

  it("names the operators that it lacks, and how many of them there are", () => {
    expect(() => importOnnxGraph(modelOf("Det"))).toThrow(
      /no operations here for Det \(1\); importOnnx runs/,
    );
  });

  it("refuses what a node asks for and it cannot give, by the node's name", () => {
    const pool = importOnnxGraph(modelOf("MaxPool", { kernel_shape: [2, 2], ceil_mode: 1 }, [1, 1, 3, 3]));
    expect(() => pool.call({ x: zeros([1, 1, 3, 3]) })).toThrow(/MaxPool "v0": ceil_mode 1 is not supported/);
  });

  it("says in its own words that bytes are damaged, wherever they are", () => {
    const whole = bytesOf(cases[0]!.model);
    for (let at = 1; at < whole.length - 40; at += 37) {
      for (const damaged of [
        whole.subarray(0, at),
        Uint8Array.from(whole, (b, i) => (i === at ? b ^ 0x15 : b)),
      ]) {
        try {
          importOnnxGraph(damaged);
        } catch (error) {
          expect(error, `byte ${at}: ${error}`).toBeInstanceOf(TweedieError);
        }
      }
    }
  });

  it("checks its inputs, its parameters and its bytes", () => {
    const graph = importOnnxGraph(bytesOf(cases[0]!.model));
    const [x] = [load(cases[0]!.x)];
    expect(() => graph.call({})).toThrow(/missing: x/);
    expect(() => graph.call({ x, z: x })).toThrow(ArgumentError);
    expect(() => graph.call({ x: x.cast("f64") })).toThrow(DTypeError);
    expect(() => graph.call({ x: zeros([1, 3, 8, 8]) })).toThrow(ShapeError);
    expect(() => graph.call({ x }, { nothing: x })).toThrow(/no parameter "nothing"/);
    expect(() => graph.call({ x }, { "a.weight": x })).toThrow(ShapeError);
    expect(() => importOnnxGraph(Uint8Array.of(1, 2, 3))).toThrow(FormatError);
    expect(() => importOnnxGraph(new Uint8Array())).toThrow(FormatError);
  });
});
