/** Paths of a camera around a thing: a few that are drawn by name, and those of files. */
import { ArgumentError } from "../errors.ts";
import { type Camera, intrinsicsFromFov, lookAt, type Vector3 } from "../geometry/index.ts";
import { readNerfTransforms } from "./formats/cameras.ts";

/** Names of the paths that are drawn; each begins in front of the thing, one radius away. */
export const CAMERA_PATHS = ["orbit", "swing", "rise", "approach", "spiral"] as const;
/** Name of a camera path. */
export type CameraPathName = (typeof CAMERA_PATHS)[number];

const TURN = 2 * Math.PI;

/** Angle around the vertical, angle above the ground, and distance in radii, at a share 0 to 1 of the path. */
const SHAPES: Record<
  CameraPathName,
  (share: number) => readonly [around: number, above: number, far: number]
> = {
  orbit: (s) => [TURN * s, 0.35, 1],
  swing: (s) => [0.5 * Math.sin(TURN * s), 0.35, 1],
  rise: (s) => [0, 0.1 + 1.1 * s, 1],
  approach: (s) => [0, 0.35, 1 - 0.5 * s],
  spiral: (s) => [TURN * s, 0.15 + 0.8 * s, 1 - 0.3 * s],
};

/** Options of `drawCameraPath` and `readCameraPath`. */
export interface CameraPathOptions {
  /** How many cameras. A drawn path of `orbit` does not repeat its first. */
  readonly count: number;
  /** Pixels of the pictures. */
  readonly width: number;
  readonly height: number;
  /** What is looked at, y being up. Default the origin. */
  readonly target?: Vector3;
  /** Distance at the beginning. Default 3. */
  readonly radius?: number;
  /** Horizontal field of view in degrees. Default 50. */
  readonly fov?: number;
}

/** The cameras of a path that is drawn. @throws ArgumentError for no cameras at all */
export function drawCameraPath(name: CameraPathName, options: CameraPathOptions): Camera[] {
  const { count, width, height, target = [0, 0, 0], radius = 3, fov = 50 } = options;
  if (!Number.isSafeInteger(count) || count < 1)
    throw new ArgumentError(`camera path: expected a number of cameras from 1 up, got ${count}`);
  const intrinsics = intrinsicsFromFov(width, height, fov);
  const last = name === "orbit" || name === "swing" ? count : Math.max(1, count - 1);
  return Array.from({ length: count }, (_, i) => {
    const [around, above, far] = SHAPES[name](i / last);
    const [r, ground] = [radius * far, Math.cos(above)];
    const eye: Vector3 = [
      target[0] + r * ground * Math.sin(around),
      target[1] + r * Math.sin(above),
      target[2] + r * ground * Math.cos(around),
    ];
    return { ...intrinsics, worldToCamera: lookAt(eye, target) };
  });
}

/**
 * Cameras by what a person may write: the name of a path, or a `transforms.json` file, whose own cameras are taken as
 * they are. @throws FormatError for a file that is none
 */
export async function readCameraPath(text: string, options: CameraPathOptions): Promise<Camera[]> {
  const name = CAMERA_PATHS.find((known) => known === text);
  if (name !== undefined) return drawCameraPath(name, options);
  return (await readNerfTransforms(text)).frames.map(({ camera }) => camera);
}
