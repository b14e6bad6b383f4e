/** Pictures in rows on one sheet, with nothing between them: the gaps are transparent, so they fit light and dark pages. */
import { ArgumentError } from "../errors.ts";
import type { Picture } from "../io/index.ts";
import { grid } from "../report/index.ts";
import type { Figure } from "../work.ts";

const GAP = 4;

/** Number of columns of a figure. */
export const columnCount = ({ columns }: Pick<Figure, "columns">): number =>
  typeof columns === "number" ? columns : columns.length;

/** A figure as one picture with transparency. @throws ArgumentError for pictures of several sizes */
export function sheet(figure: Figure): Picture {
  const { pictures, scale = 1, name } = figure;
  const columns = columnCount(figure);
  const [first] = pictures;
  if (!first || pictures.some(({ width, height }) => width !== first.width || height !== first.height))
    throw new ArgumentError(`figure "${name}": expected pictures of one size`);
  const drawn = grid(pictures, { columns, scale, gap: GAP });
  const [width, height] = [drawn.width - 2 * GAP, drawn.height - 2 * GAP]; // without the gap around all
  const data = new Uint8Array(width * height * 4);
  const [cellWidth, cellHeight] = [first.width * scale + GAP, first.height * scale + GAP];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const cell = Math.floor(y / cellHeight) * columns + Math.floor(x / cellWidth);
      const between = x % cellWidth >= cellWidth - GAP || y % cellHeight >= cellHeight - GAP;
      if (between || cell >= pictures.length) continue;
      const from = 3 * ((y + GAP) * drawn.width + x + GAP);
      const to = 4 * (y * width + x);
      data.set(drawn.data.subarray(from, from + 3), to);
      data[to + 3] = 255;
    }
  return { width, height, channels: 4, data };
}
