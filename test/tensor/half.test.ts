/** f16 values, which newer JavaScript engines would hand out as `Float16Array`. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { wrapHost } from "../../src/tensor/eager.ts";
import { exportOnnx, importOnnx, jit, type Tensor, tensor } from "../../src/tensor/index.ts";
import { runtime } from "../../src/tensor/runtime/devices.ts";
import { asHostArray, withBits } from "../../src/tensor/runtime/half.ts";

const half = (values: readonly number[]): Tensor => tensor([...values], { dtype: "f16" });

describe("f16 in and out", () => {
  it("of a single operation, and of one on its result", async () => {
    const sum = half([1, 2]).add(half([3, 4.5]));
    expect(await sum.toArray()).toEqual([4, 6.5]);
    expect(await sum.data()).toEqual(Uint16Array.of(0x4400, 0x4680));
    expect(await sum.mul(sum).toArray()).toEqual([16, 42.25]);
  });

  it("of a donated state, which is written into its own memory", async () => {
    const step = jit((state: Tensor, x: Tensor) => ({ state: state.add(x), total: state.sum() }), {
      donate: [0],
    });
    let state = half([1, 2, 3]);
    const totals: number[] = [];
    for (let i = 0; i < 4; i++) {
      const out = await step(state, half([1, 1, 0.5]));
      state = out.state;
      totals.push(await out.total.item());
    }
    expect(totals).toEqual([6, 8.5, 11, 13.5]);
    expect(await state.toArray()).toEqual([5, 6, 5]);
    await step.close();
  });

  it("of weights in memory, given as arguments and captured as constants", async () => {
    const [w, x] = [half([1, 2, 3, 4]).reshape([2, 2]), tensor([[1, 1]])];
    await w.eval();
    const [given, captured] = [
      jit((a: Tensor, b: Tensor) => a.matmul(b.cast("f32"))),
      jit((a: Tensor) => a.matmul(w.cast("f32"))),
    ];
    expect(await (await given(x, w)).toArray()).toEqual([4, 6]);
    expect(await (await captured(x)).toArray()).toEqual([4, 6]);
    await Promise.all([given.close(), captured.close()]);
  });

  it("of a foreign model", async () => {
    const model = await importOnnx(await exportOnnx((x: Tensor) => x.mul(2), [half([1, 2])]));
    const { output } = await model.run({ "input.0": half([1.5, -3]) });
    expect([output!.dtype, await output!.toArray()]).toEqual(["f16", [3, -6]]);
    await model.close();
  });
});

/** Stands in for the engine's class where there is none: only its name and its memory count. */
describe("an engine with Float16Array", () => {
  const own = Object.getOwnPropertyDescriptor(globalThis, "Float16Array");
  beforeEach(() => {
    if (own) return;
    class Float16Array extends Uint16Array {}
    Object.assign(globalThis, { Float16Array });
  });
  afterEach(() => {
    if (!own) Reflect.deleteProperty(globalThis, "Float16Array");
  });
  const engineArray = (bits: Uint16Array): Uint16Array => {
    const { Float16Array } = globalThis as unknown as { Float16Array: typeof Uint16Array };
    return new Float16Array(bits.buffer as ArrayBuffer, bits.byteOffset, bits.length);
  };

  it("hands out bits over the same memory", () => {
    const bits = Uint16Array.of(0, 0x3c00, 0x4000).subarray(1);
    const found = asHostArray(engineArray(bits));
    expect(found.constructor).toBe(Uint16Array);
    expect(found).toEqual(Uint16Array.of(0x3c00, 0x4000));
    bits[0] = 0x4400;
    expect(found[0]).toBe(0x4400);
  });

  it("gives the runtime's tensors their bits as data, once", async () => {
    const rt = await runtime();
    const made = wrapHost(rt, "f16", [2], Uint16Array.of(0x3c00, 0x4000));
    expect(made.data.constructor).toBe(Uint16Array);
    expect(withBits(made)).toBe(made);
    const other = new rt.Tensor("float32", Float32Array.of(1), [1]);
    expect(withBits(other).data).toEqual(Float32Array.of(1));
  });
});
