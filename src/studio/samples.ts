/** Pictures of the scene world, for trying any system out. */
import { drawShapeScene, openScenes, renderShapes } from "../data/world/index.ts";
import type { Picture } from "../io/index.ts";
import type { SamplePicture } from "../systems/system.ts";

const bytes = (values: Float32Array): Uint8Array =>
  Uint8Array.from(values, (v) => Math.round(255 * Math.max(0, Math.min(1, v))));

const SIZE = 128;

async function room(): Promise<Picture> {
  const { view } = await openScenes({ seed: 7, count: 1, size: SIZE }).get(0);
  return { width: view.width, height: view.height, channels: 3, data: bytes(view.image) };
}

async function shapes(): Promise<Picture> {
  const { image } = renderShapes(drawShapeScene(7, 1), SIZE);
  return { width: SIZE, height: SIZE, channels: 3, data: bytes(image) };
}

export const worldSamples: readonly SamplePicture[] = [
  { name: "room", label: "A room", make: room },
  { name: "shapes", label: "Shapes", make: shapes },
];
