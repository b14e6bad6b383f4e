/** What stands in a room: solids, and the things that are made of them. */
import type { Vector3 } from "../../geometry/index.ts";
import type { ColourName, Texture } from "./materials.ts";

/** The class of figures. */
export const FIGURE_CLASS = "person";

/** Solids about their own centre; the y axis is up or down alike, capsules excepted. */
export type Solid =
  | { readonly kind: "sphere"; readonly radius: number }
  | { readonly kind: "box"; readonly half: Vector3 }
  | { readonly kind: "cylinder"; readonly radius: number; readonly halfHeight: number }
  /** Tip at -y, base at +y. */
  | { readonly kind: "cone"; readonly radius: number; readonly halfHeight: number }
  /** Around the segment from `from` to `to`, which are relative to the centre. */
  | { readonly kind: "capsule"; readonly from: Vector3; readonly to: Vector3; readonly radius: number };

/** Classes of things in a scene. */
export const CLASSES = [
  "wall",
  "floor",
  "ceiling",
  "sphere",
  "cube",
  "tower",
  "cylinder",
  "cone",
  FIGURE_CLASS,
] as const;
/** Class of a thing in a scene. */
export type ClassName = (typeof CLASSES)[number];
/** Classes of things that are not figures. */
export const OBJECT_CLASSES = ["sphere", "cube", "tower", "cylinder", "cone"] as const;

/** One thing in the room; a figure is one thing of several solids. */
export interface SceneObject {
  readonly className: ClassName;
  readonly colour: ColourName;
  readonly centre: Vector3;
  /** Turn about the vertical axis, in radians. */
  readonly yaw: number;
  readonly solids: readonly Solid[];
  readonly texture: Texture;
  /** Radius of a disc on the floor that holds it. */
  readonly footprint: number;
}
