import { describe, expect, it } from "vitest";
import { drawShapeScene, renderShapes } from "../../src/data/index.ts";
import { ArgumentError } from "../../src/errors.ts";
import { askedShapes, colourScore, colourShares } from "../../src/metrics/index.ts";

/** A scene as planes in [-1, 1], with its caption. */
function scene(index: number): { values: Float32Array; caption: string } {
  const { image, caption } = renderShapes(drawShapeScene(3, index));
  const plane = image.length / 3;
  const values = new Float32Array(image.length);
  for (let i = 0; i < plane; i++)
    for (let c = 0; c < 3; c++) values[c * plane + i] = 2 * image[3 * i + c]! - 1;
  return { values, caption };
}
const flat = (...colour: readonly number[]): Float32Array =>
  Float32Array.from({ length: 3 * 64 }, (_, i) => 2 * colour[Math.floor(i / 64)]! - 1);

describe("the judge by colours", () => {
  it("prefers a scene's own caption to that of another scene", () => {
    let right = 0;
    for (let i = 0; i < 60; i++) {
      const [own, other] = [scene(i), scene(i + 1)];
      if (own.caption === other.caption) continue;
      right += Number(
        colourScore(own.values, askedShapes(own.caption)) >
          colourScore(own.values, askedShapes(other.caption)),
      );
    }
    expect(right).toBeGreaterThan(55);
  });

  it("is what its formula says of a flat picture", () => {
    const red = flat(0.9, 0.15, 0.15);
    expect(colourShares(red).shares.red).toBeCloseTo(1, 6);
    expect(colourScore(red, askedShapes("a red circle on teal"))).toBeCloseTo(2 + 1.5 * 0.35, 4);
    expect(colourScore(red, askedShapes("a blue circle on teal"))).toBeCloseTo(-3, 4);
    const teal = flat(0.1, 0.45, 0.45);
    expect(colourScore(teal, askedShapes("a red circle on teal"))).toBeCloseTo(1, 4);
    expect(colourScore(teal, askedShapes("a red circle on pink"))).toBeCloseTo(-2, 4);
  });

  it("likes crisp colours, and larger things", () => {
    const [crisp, dull] = [flat(0.9, 0.15, 0.15), flat(0.8, 0.3, 0.3)];
    const asked = askedShapes("a red circle on teal");
    expect(colourScore(crisp, asked)).toBeGreaterThan(colourScore(dull, asked));
  });
});

describe("what a caption asks for", () => {
  it("is its things with their colours, and the ground", () => {
    expect(askedShapes("A red person and a blue square on teal")).toEqual({
      shapes: [
        { name: "person", colour: "red" },
        { name: "square", colour: "blue" },
      ],
      ground: "teal",
    });
  });
  it.each(["a cat", "a red circle", "on teal", ""])("is refused for another text: %s", (text) => {
    expect(() => askedShapes(text)).toThrow(ArgumentError);
  });
});
