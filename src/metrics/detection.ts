/** Average precision of boxes over a set of pictures. */
import { ArgumentError } from "../errors.ts";

/** Corners in pixels, x1 > x0 and y1 > y0; an empty box overlaps nothing. */
export type Box = readonly [x0: number, y0: number, x1: number, y1: number];

/** A box that was found in a picture, with its score. */
export interface Detection {
  readonly image: number;
  readonly box: Box;
  readonly score: number;
}

const area = ([x0, y0, x1, y1]: Box): number => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);

/** Intersection over union of two boxes; 0 when either is empty. */
export function boxIou(a: Box, b: Box): number {
  const both = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  const union = area(a) + area(b) - both;
  return union > 0 ? both / union : 0;
}

/**
 * Area under precision over recall, all points interpolated. Detections in descending score each take the unmatched
 * true box of their image with the greatest overlap, if that is at least `threshold`.
 */
export function boxAveragePrecision(
  detections: readonly Detection[],
  truth: readonly { readonly image: number; readonly box: Box }[],
  threshold = 0.5,
): number {
  if (truth.length === 0) throw new ArgumentError("boxAveragePrecision: no true boxes");
  const taken = new Set<number>();
  const ranked = [...detections].sort((a, b) => b.score - a.score);
  const hits = ranked.map(({ image, box }) => {
    let [best, bestIou] = [-1, threshold];
    truth.forEach((candidate, i) => {
      const overlap = candidate.image === image && !taken.has(i) ? boxIou(box, candidate.box) : -1;
      if (overlap >= bestIou) [best, bestIou] = [i, overlap];
    });
    if (best >= 0) taken.add(best);
    return best >= 0;
  });
  let found = 0;
  const precision = hits.map((hit, i) => {
    if (hit) found++;
    return found / (i + 1);
  });
  for (let i = precision.length - 2; i >= 0; i--) precision[i] = Math.max(precision[i]!, precision[i + 1]!);
  return hits.reduce((sum, hit, i) => sum + (hit ? precision[i]! : 0), 0) / truth.length;
}
