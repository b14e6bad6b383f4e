/** CLIP-style similarity of embeddings. */
import { ArgumentError, ShapeError } from "../errors.ts";

/** Cosine of two vectors. @throws ArgumentError when one is zero. */
export function cosineSimilarity(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new ShapeError(`cosineSimilarity: vectors of ${a.length} and ${b.length}`);
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  if (!(aa > 0 && bb > 0)) throw new ArgumentError("cosineSimilarity: a zero vector has no direction");
  return ab / Math.sqrt(aa * bb);
}

/** CLIPScore (Hessel et al., 2021): 100 max(cos, 0) of a picture's and a text's embedding. */
export const clipScore = (image: ArrayLike<number>, text: ArrayLike<number>): number =>
  100 * Math.max(0, cosineSimilarity(image, text));

/** Whether an edit moves the picture as the text moves: cosine of the two differences (Gal et al., 2022). */
export function directionalSimilarity(
  imageBefore: ArrayLike<number>,
  imageAfter: ArrayLike<number>,
  textBefore: ArrayLike<number>,
  textAfter: ArrayLike<number>,
): number {
  const difference = (a: ArrayLike<number>, b: ArrayLike<number>): number[] =>
    Array.from(b, (x, i) => x - a[i]!);
  return cosineSimilarity(difference(imageBefore, imageAfter), difference(textBefore, textAfter));
}
