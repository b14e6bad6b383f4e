/** Types of conditions. */

/** What a condition shows. `edge`: outlines, also canny and sketches; `seg`: areas in the colours of their classes. */
export const TYPES = ["edge", "depth", "seg", "pose"] as const;
/** Type of a condition. */
export type ControlType = (typeof TYPES)[number];

/** Pixels of such maps mean something only where they are: they are not mixed when a map changes size. */
export const isDrawn = (type: ControlType): boolean => type !== "depth";

/** Types as the encoder reads them beside the prompt: each once, in one order, so that the order given is nothing. */
export const taskWords = (types: readonly ControlType[]): string =>
  types.length === 0 ? "" : `, ${TYPES.filter((type) => types.includes(type)).join(" and ")}`;
