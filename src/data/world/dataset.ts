/**
 * The scene world as datasets: still pictures with all that is known of them, and clips of one scene along a path.
 * Every sample is a pure function of (seed, index), so worker threads, shards and resumed runs agree.
 */
import { ArgumentError } from "../../errors.ts";
import { type Camera, project } from "../../geometry/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { type Dataset, dataset } from "../dataset.ts";
import { createDraw } from "../random-draws.ts";
import { captionScene } from "./captions.ts";
import { type Figure, JOINTS } from "./figure.ts";
import { drawCameras, PATHS, type PathKind, type PathOptions } from "./paths.ts";
import { renderView, type View } from "./render.ts";
import { drawScene, type Scene, type SceneOptions } from "./scene.ts";

/** Options of `keyPointsOf`, `openScenes` and `openClips`. */
export interface WorldOptions extends SceneOptions, PathOptions {
  readonly seed: Seed;
  /** Number of scenes. */
  readonly count: number;
}

/** A joint in the picture. */
export interface KeyPoint {
  readonly name: (typeof JOINTS)[number];
  readonly x: number;
  readonly y: number;
  /** In the picture, in front of the camera, and not hidden behind something else. */
  readonly visible: boolean;
}

/** A rendered scene with all that is known of it. */
export interface SceneSample {
  readonly scene: Scene;
  readonly camera: Camera;
  readonly view: View;
  readonly caption: string;
  /** Joints of the figure, when the scene has one. */
  readonly keyPoints?: readonly KeyPoint[];
}

/** A rendered film with all that is known of it. */
export interface ClipSample {
  readonly scene: Scene;
  readonly path: PathKind;
  readonly cameras: readonly Camera[];
  readonly views: readonly View[];
  readonly caption: string;
}

/** How deep a joint lies within its limb, at most, in metres. */
const LIMB = 0.2;

/** Joints of a figure as a view shows them. */
export function keyPointsOf(figure: Figure, camera: Camera, { width, height, depth }: View): KeyPoint[] {
  return figure.joints.map((joint, i) => {
    const { x, y, depth: z } = project(camera, joint);
    const inside = z > 0 && x >= 0 && y >= 0 && x < width && y < height;
    const seen = inside ? depth[Math.floor(y) * width + Math.floor(x)]! : 0;
    return { name: JOINTS[i]!, x, y, visible: inside && z < seen + LIMB };
  });
}

function checkCount({ count }: WorldOptions): void {
  if (!(Number.isSafeInteger(count) && count > 0))
    throw new ArgumentError(`world: count must be a positive integer, got ${count}`);
}

/** One picture of each scene, from a random place of its path. */
export function openScenes(options: WorldOptions): Dataset<SceneSample> {
  checkCount(options);
  const { seed, count } = options;
  return dataset(count, (index) => {
    const scene = drawScene(seed, index, options);
    const cameras = drawCameras(scene, seed, index, options);
    const camera = createDraw(seed, index, 0, "world view").pick(cameras);
    const view = renderView(scene, camera);
    const keyPoints = scene.figure && keyPointsOf(scene.figure, camera, view);
    return {
      scene,
      camera,
      view,
      caption: captionScene(scene, seed, index),
      ...(keyPoints ? { keyPoints } : {}),
    };
  });
}

/** All views along the path of each scene. */
export function openClips(options: WorldOptions): Dataset<ClipSample> {
  checkCount(options);
  const { seed, count } = options;
  return dataset(count, (index) => {
    const scene = drawScene(seed, index, options);
    const path = options.kind ?? createDraw(seed, index, 0, "world path kind").pick(PATHS);
    const cameras = drawCameras(scene, seed, index, { ...options, kind: path });
    const views = cameras.map((camera) => renderView(scene, camera));
    return { scene, path, cameras, views, caption: captionScene(scene, seed, index, path) };
  });
}
