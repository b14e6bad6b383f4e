/** Writing pictures, with sharp as the codec. */
import sharp from "#sharp";
import { ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor/index.ts";
import { writeFileAtomic } from "./atomic.ts";

/** Options of `writeGrid`. */
export interface GridOptions {
  /** Pictures per row. Default: as square as possible. */
  readonly columns?: number;
  /** Every pixel becomes a block of this size. Default 1. */
  readonly scale?: number;
  /** Pixels between pictures. Default 2. */
  readonly gap?: number;
}

/** Writes pictures x [N, 3 or 1, H, W] with values in [-1, 1] as one PNG grid. */
export async function writeGrid(path: string, x: Tensor, options: GridOptions = {}): Promise<void> {
  const [n, channels, h, w] = x.shape as [number, number, number, number];
  if (x.rank !== 4 || (channels !== 1 && channels !== 3))
    throw new ShapeError(`writeGrid: expected [N, 1 or 3, H, W], got [${x.shape}]`);
  const { columns = Math.ceil(Math.sqrt(n)), scale = 1, gap = 2 } = options;
  const rows = Math.ceil(n / columns);
  const [width, height] = [columns * (w * scale + gap) + gap, rows * (h * scale + gap) + gap];
  const values = await x.data();
  const pixels = new Uint8Array(width * height * 3).fill(255);
  for (let i = 0; i < n; i++) {
    const [left, top] = [
      gap + (i % columns) * (w * scale + gap),
      gap + Math.floor(i / columns) * (h * scale + gap),
    ];
    for (let y = 0; y < h * scale; y++) {
      for (let xx = 0; xx < w * scale; xx++) {
        for (let c = 0; c < 3; c++) {
          const at =
            ((i * channels + (c % channels)) * h + Math.floor(y / scale)) * w + Math.floor(xx / scale);
          const value = (Number(values[at]) + 1) * 127.5;
          pixels[((top + y) * width + left + xx) * 3 + c] = Math.min(255, Math.max(0, Math.round(value)));
        }
      }
    }
  }
  await writeFileAtomic(
    path,
    await sharp(pixels, { raw: { width, height, channels: 3 } })
      .png()
      .toBuffer(),
  );
}
