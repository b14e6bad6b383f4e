import { describe, expect, it } from "vitest";
import { AbortError, ArgumentError } from "../../src/errors.ts";
import { decodeTiled, decodeTiles, encodeTiled } from "../../src/networks/autoencoder/tiles.ts";
import { autoencoderKL } from "../../src/networks/autoencoder-kl.ts";
import { autoencoderTiny } from "../../src/networks/autoencoder-tiny.ts";
import { blankRng, createRng } from "../../src/nn/index.ts";
import { cachedSessions, jit, type Tensor } from "../../src/tensor/index.ts";
import { withTinyWeights } from "./tiny-models.ts";

const tiny = withTinyWeights(
  autoencoderTiny(
    {
      latent_channels: 2,
      encoder_block_out_channels: [8, 8],
      decoder_block_out_channels: [8, 8],
      num_encoder_blocks: [1, 1],
      num_decoder_blocks: [1, 1],
    },
    blankRng,
  ),
);
const kl = withTinyWeights(
  autoencoderKL(
    {
      block_out_channels: [8, 16],
      norm_num_groups: 4,
      latent_channels: 2,
      down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
      up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    },
    blankRng,
  ),
);

/** Root mean square of the difference where `at` is true, in units of that of the expected values. */
async function difference(got: Tensor, expected: Tensor, at: (i: number) => boolean = () => true) {
  expect(got.shape).toEqual(expected.shape);
  const [a, b] = [await got.toArray(), await expected.toArray()];
  const rms = (values: readonly number[]): number =>
    Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
  return rms(a.map((v, i) => v - b[i]!).filter((_, i) => at(i))) / rms(b);
}

describe("decoding and encoding in tiles", () => {
  it("gives what the whole gives where there are no norms and no tile's border is in reach", async () => {
    const z = createRng(1).normal([2, 2, 22, 40]);
    const whole = await tiny.decode(z).data();
    const tiled = await (await decodeTiled(tiny, z, { tile: 20, overlap: 8 })).data();
    // 40 columns: tiles begin at 0, 10 and 20; 22 rows: at 0 and 2. A point sees 7 latent points to each side.
    const clear = (place: number, borders: readonly number[]): boolean =>
      borders.every((border) => Math.abs(place / 2 - border) > 7.5);
    let compared = 0;
    let blended = 0;
    whole.forEach((v, i) => {
      const [row, column] = [Math.floor(i / 80) % 44, i % 80];
      const difference = Math.abs(Number(v) - Number(tiled[i]!));
      if (difference > 1e-3) blended++;
      if (!clear(row, [2, 20]) || !clear(column, [10, 20, 30])) return;
      compared++;
      expect(difference).toBeLessThan(1e-5);
    });
    expect(compared).toBeGreaterThan(50);
    expect(blended).toBeGreaterThan(0); // or the test compares the whole with itself
  });

  it("gives almost what the whole gives where there are norms and attention", async () => {
    const z = createRng(2).normal([1, 2, 48, 40]);
    const whole = kl.decode(z);
    const inside = (i: number): boolean => {
      const [row, column] = [Math.floor(i / 80), i % 80]; // tiles begin at row 0 and 16, and at column 0 and 8
      return row < 32 - 12 && column < 16 - 4; // in the first tile alone, away from where the others begin
    };
    const options = { tile: 32, overlap: 8 };
    const decoded = await decodeTiled(kl, z, options);
    expect(await difference(decoded, whole)).toBeLessThan(0.08);
    expect(await difference(decoded, whole, inside)).toBeLessThan(0.05);
    const seams = (i: number): boolean => Math.abs(Math.floor(i / 80) - 63.5) < 2;
    const hard = await decodeTiled(kl, z, { tile: 32, overlap: 0 });
    expect(await difference(hard, whole, seams)).toBeGreaterThan(await difference(decoded, whole, seams));
    const x = createRng(3).normal([1, 3, 96, 80]);
    expect(await difference(await encodeTiled(kl, x, options), kl.moments(x))).toBeLessThan(0.08);
  });

  it("takes samples one by one, exactly", async () => {
    const z = createRng(4).normal([3, 2, 6, 5]);
    const sliced = await decodeTiled(kl, z, { tile: Number.POSITIVE_INFINITY });
    expect(await difference(sliced, kl.decode(z))).toBeLessThan(1e-5);
    expect(await difference(await decodeTiled(kl, z), sliced)).toBe(0); // smaller than a tile
    const x = createRng(5).normal([2, 3, 8, 12]);
    const latents = await encodeTiled(tiny, x, { tile: Number.POSITIVE_INFINITY });
    expect(await difference(latents, tiny.encode(x))).toBeLessThan(1e-5);
  });

  it("compiles one graph for all tiles, or none if the caller brings it", async () => {
    const z = createRng(6).normal([2, 2, 25, 21]);
    await z.data();
    const before = cachedSessions();
    const shapes = new Set<string>();
    const steps: number[] = [];
    const compiled = jit((t: Tensor) => tiny.decode(t));
    const run = (t: Tensor): Promise<Tensor> => {
      shapes.add(t.shape.join());
      return compiled(t);
    };
    for await (const { done, total } of decodeTiles(tiny, z, { tile: 8, overlap: 3, run }))
      steps.push(done / total);
    expect([...shapes]).toEqual(["1,2,8,8"]);
    expect(compiled.signatures).toBe(1);
    expect(cachedSessions()).toBe(before);
    expect(steps.length).toBe(2 * 5 * 4);
    expect(steps.at(-1)).toBe(1);
    await compiled.close();
  });

  it("stops when it is told to, and says which tiles do not fit", async () => {
    const z = createRng(7).normal([1, 2, 16, 16]);
    const controller = new AbortController();
    const steps = decodeTiles(tiny, z, { tile: 8, signal: controller.signal });
    await steps.next();
    controller.abort();
    await expect(steps.next()).rejects.toThrow(AbortError);
    await expect(decodeTiled(tiny, z, { tile: 8, overlap: 8 })).rejects.toThrow(
      /overlap: expected an integer from 0 to below/,
    );
    await expect(decodeTiled(tiny, z, { tile: 0 })).rejects.toThrow(ArgumentError);
    const odd = createRng(7).normal([1, 3, 15, 16]);
    await expect(encodeTiled(tiny, odd)).rejects.toThrow(/the nearest is 16 x 16/);
  });
});
