/** Colours that maps are painted with, by the type of the control; labels say what they stand for. */

export type Paint = readonly [label: string, colour: string];

const grays = [0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 1].map((v): Paint => {
  const byte = Math.round(255 * v);
  return [v === 0 ? "nothing" : `depth ${v}`, `rgb(${byte} ${byte} ${byte})`];
});

const PALETTES: Readonly<Record<string, readonly Paint[]>> = {
  edge: [["line", "#ffffff"], ["nothing", "#000000"]],
  depth: grays,
  seg: [
    ["wall", "rgb(89 77 115)"],
    ["floor", "rgb(166 153 128)"],
    ["circle", "rgb(230 51 64)"],
    ["square", "rgb(51 191 77)"],
    ["triangle", "rgb(51 102 242)"],
    ["person", "rgb(242 204 38)"],
    ["nothing", "#000000"],
  ],
  pose: [
    ["neck", "#ff0000"],
    ["body", "#ffff00"],
    ["left arm", "#00ff00"],
    ["right arm", "#00ffff"],
    ["left leg", "#0000ff"],
    ["right leg", "#ff00ff"],
    ["nothing", "#000000"],
  ],
};

/** What a map of this type is painted with. */
export const paintsOf = (type: string): readonly Paint[] => PALETTES[type] ?? PALETTES.edge!;
