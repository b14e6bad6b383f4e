import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import {
  conv,
  convertHost,
  exportOnnx,
  fillNormal,
  fromFile,
  fromHost,
  importOnnx,
  jit,
  matmul,
  type Tensor,
} from "../../src/tensor/index.ts";

const random = (shape: readonly number[], sample: number): Float32Array =>
  fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 1, sample });
const bytesOf = (data: Float32Array | Uint16Array): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

const SHAPES = { matrix: [48, 64], kernel: [32, 32, 3, 3] };
const matrix = random(SHAPES.matrix, 0);
const kernel = random(SHAPES.kernel, 1);
const halves = new Uint16Array(SHAPES.matrix[0]! * SHAPES.matrix[1]!);
const x = fromHost("f32", [5, 64], random([5, 64], 2));

let folder: string;
let path: string;
const at = { matrix: 8, kernel: 8 + matrix.byteLength, half: 8 + matrix.byteLength + kernel.byteLength };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tweedie-file-weights-"));
  path = join(folder, "weights of a model.bin");
  halves.set(convertHost(matrix, "f32", "f16") as Uint16Array);
  await writeFile(
    path,
    Buffer.concat([new Uint8Array(8), bytesOf(matrix), bytesOf(kernel), bytesOf(halves)]),
  );
});
afterAll(() => rm(folder, { recursive: true }));

const matrixInFile = (): Tensor => fromFile("f32", SHAPES.matrix, { path, offset: at.matrix });
const expected = (): Promise<number[]> =>
  matmul(x, fromHost("f32", SHAPES.matrix, matrix), { transB: true }).toArray();

function expectClose(got: readonly number[], want: readonly number[]): void {
  expect(got.length).toBe(want.length);
  for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v)).toBeLessThan(1e-4);
}

describe("a tensor that lies in a file", () => {
  it("is read when its value is asked for", async () => {
    expect(await matrixInFile().toArray()).toEqual(Array.from(matrix));
    expectClose(await matmul(x, matrixInFile(), { transB: true }).toArray(), await expected());
  });

  it("is a constant of a compiled function without ever being held", async () => {
    const weight = matrixInFile();
    const f = jit((input: Tensor) => matmul(input, weight, { transB: true }));
    expectClose(await (await f(x)).toArray(), await expected());
    expect(weight.value?.host).toBeUndefined();
    await f.close();
  });

  it("is widened inside the compiled function when it is of half precision", async () => {
    const weight = fromFile("f16", SHAPES.matrix, { path, offset: at.half });
    const f = jit((input: Tensor) => matmul(input, weight.cast("f32"), { transB: true }));
    const rounded = fromHost("f16", SHAPES.matrix, halves).cast("f32");
    const want = await matmul(x, rounded, { transB: true }).toArray();
    expectClose(await (await f(x)).toArray(), want);
    expect(weight.value?.host).toBeUndefined();
    await f.close();
  });

  it("lies beside large constants from memory, whatever their size", async () => {
    const image = fromHost("f32", [1, 32, 8, 8], random([1, 32, 8, 8], 3));
    const inFile = fromFile("f32", SHAPES.kernel, { path, offset: at.kernel });
    const inMemory = fromHost("f32", SHAPES.kernel, kernel);
    const small = fromHost("f32", [32], random([32], 4));
    const both = (a: Tensor, b: Tensor) => (input: Tensor) =>
      conv(conv(input, a, small, { padding: 1 }), b, small, { padding: 1 });
    const f = jit(both(inFile, inMemory));
    const want = await both(inMemory, inMemory)(image).toArray();
    const got = await (await f(image)).toArray();
    for (const [i, v] of want.entries()) expect(Math.abs(got[i]! - v)).toBeLessThan(1e-2);
    await f.close();
  });

  it("is an argument of a compiled function like any other", async () => {
    const f = jit((input: Tensor, weight: Tensor) => matmul(input, weight, { transB: true }));
    expectClose(await (await f(x, matrixInFile())).toArray(), await expected());
    await f.close();
  });

  it("goes into an exported model as a whole", async () => {
    const weight = matrixInFile();
    const model = await exportOnnx((input: Tensor) => matmul(input, weight, { transB: true }), [x], {
      inputNames: ["x"],
      outputNames: ["y"],
    });
    expect(model.length).toBeGreaterThan(matrix.byteLength);
    const imported = await importOnnx(model);
    expectClose(await (await imported.run({ x })).y!.toArray(), await expected());
    await imported.close();
  });

  it("says so when the file is too short", async () => {
    const beyond = fromFile("f32", [1000], { path, offset: at.half });
    await expect(beyond.data()).resolves.toBeDefined();
    await expect(fromFile("f32", [100_000], { path, offset: 0 }).data()).rejects.toThrow(FormatError);
  });
});
