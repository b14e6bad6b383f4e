/** Finds out which channel-blocked convolution layout the CPU kernels of this machine use. */

import { CPU_CAPABILITIES, GraphBuilder } from "../onnx/builder.ts";
import { encodeModel } from "../onnx/model.ts";
import { blockedConv, blockWeight } from "../ops/conv-blocked.ts";
import { fillNormal } from "../random/philox.ts";
import type { Runtime, Session } from "./runtime.ts";

const CHANNELS = 32;
const SHAPES = { x: [1, CHANNELS, 3, 3], w: [CHANNELS, CHANNELS, 3, 3] };
const CONV = { kernel_shape: [3, 3], strides: [1, 1], dilations: [1, 1], pads: [1, 1, 1, 1], group: 1 };

/** A session that computes one small convolution both ways. */
function probe(block: number, open: (model: Uint8Array) => Promise<Session>): Promise<Session> {
  const g = new GraphBuilder(CPU_CAPABILITIES);
  const plain = g.op("Conv", ["x", "w"], CONV);
  const blocked = blockedConv(g, "x", blockWeight(g, "w", SHAPES.w, block), undefined, SHAPES.x, CONV);
  const names = (list: readonly string[], shape: readonly number[]) =>
    list.map((name) => ({ name, shape, dtype: "f32" as const }));
  return open(
    encodeModel(g, [...names(["x"], SHAPES.x), ...names(["w"], SHAPES.w)], names([plain, blocked], SHAPES.x)),
  );
}

/**
 * Channels per block (16 with AVX-512 or NEON, 8 with AVX2), or undefined when the kernels are not there. By trial: the
 * layout is right when a blocked convolution gives what the plain one gives.
 */
export async function findChannelBlock(rt: Runtime): Promise<number | undefined> {
  const array = (shape: readonly number[], sample: number) => {
    const data = fillNormal(new Float32Array(shape.reduce((a, b) => a * b, 1)), { seed: 0, sample });
    return new rt.Tensor("float32", data, shape);
  };
  const feeds = { x: array(SHAPES.x, 0), w: array(SHAPES.w, 1) };
  for (const block of [16, 8]) {
    try {
      const session = await probe(block, (model) => rt.createSession(model, "cpu", { threads: 1 }));
      const [plain, blocked] = session.outputNames as [string, string];
      const results = await session.run(feeds, { [plain]: null, [blocked]: null });
      await session.close();
      const [a, b] = [results[plain]!.data as Float32Array, results[blocked]!.data as Float32Array];
      if (a.every((v, i) => Math.abs(v - b[i]!) < 1e-3)) return block;
    } catch {
      // This build has no such kernel; the plain convolution serves.
    }
  }
  return undefined;
}
