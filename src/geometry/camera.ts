/**
 * Pinhole cameras. Axes as OpenCV has them: x right, y down, z forwards. Pixel (i, j) covers [i, i + 1) x [j, j + 1),
 * so its centre is (i + 0.5, j + 0.5); focal lengths and the principal point are in pixels.
 */
import { ArgumentError } from "../errors.ts";
import {
  cross,
  invertRigid,
  type Matrix4,
  normalize,
  rigid,
  rigidError,
  subVectors,
  transformPoint,
  type Vector3,
} from "./matrix.ts";

/** How a pinhole camera maps directions to pixels: focal lengths and centre, in pixels. */
export interface Intrinsics {
  readonly width: number;
  readonly height: number;
  readonly fx: number;
  readonly fy: number;
  readonly cx: number;
  readonly cy: number;
}

/** A pinhole camera in the world. */
export interface Camera extends Intrinsics {
  /** Row-major 4x4, rigid. */
  readonly worldToCamera: Matrix4;
}

/** The camera, when it is one. @throws ArgumentError for sizes, focal lengths or a pose that cannot be. */
export function checkCamera<C extends Camera>(camera: C, name = "camera"): C {
  const { width, height, fx, fy, cx, cy, worldToCamera } = camera;
  if (!(width > 0 && height > 0)) throw new ArgumentError(`${name}: a picture of ${width}x${height} pixels`);
  if (!(fx > 0 && fy > 0 && Number.isFinite(fx + fy)))
    throw new ArgumentError(`${name}: focal lengths must be positive, got fx ${fx}, fy ${fy}`);
  if (!Number.isFinite(cx + cy)) throw new ArgumentError(`${name}: the principal point is (${cx}, ${cy})`);
  const error = rigidError(worldToCamera);
  if (!(error < 1e-3))
    throw new ArgumentError(
      `${name}: the pose is no rotation with a translation: ${worldToCamera.join(", ")}`,
    );
  return camera;
}

/** Intrinsics of a horizontal field of view in degrees, with square pixels and a central principal point. */
export function intrinsicsFromFov(width: number, height: number, degrees: number): Intrinsics {
  if (!(degrees > 0 && degrees < 180))
    throw new ArgumentError(
      `intrinsicsFromFov: the field of view must be in (0, 180) degrees, got ${degrees}`,
    );
  const focal = width / 2 / Math.tan((degrees * Math.PI) / 360);
  return { width, height, fx: focal, fy: focal, cx: width / 2, cy: height / 2 };
}

/** The same camera with its picture scaled to another size. */
export const resizeIntrinsics = <C extends Intrinsics>(camera: C, width: number, height: number): C => {
  const [sx, sy] = [width / camera.width, height / camera.height];
  const scaled = { fx: camera.fx * sx, fy: camera.fy * sy, cx: camera.cx * sx, cy: camera.cy * sy };
  return { ...camera, ...scaled, width, height };
};

/** World-to-camera transform of an eye that looks at a point. @throws ArgumentError when `up` is the view direction. */
export function lookAt(eye: Vector3, target: Vector3, up: Vector3 = [0, 1, 0]): Matrix4 {
  const forward = normalize(subVectors(target, eye));
  const right = normalize(cross(forward, up));
  const down = cross(forward, right);
  return invertRigid(
    rigid(
      [
        [right[0], down[0], forward[0]],
        [right[1], down[1], forward[1]],
        [right[2], down[2], forward[2]],
      ],
      eye,
    ),
  );
}

/** Where the camera is in the world. */
export function cameraCentre({ worldToCamera }: Camera): Vector3 {
  const m = invertRigid(worldToCamera);
  return [m[3]!, m[7]!, m[11]!];
}

/** A world point in the picture, in pixels, with its depth along z; depth <= 0 is behind the camera. */
export function project(camera: Camera, point: Vector3): { x: number; y: number; depth: number } {
  const [x, y, depth] = transformPoint(camera.worldToCamera, point);
  return { x: (camera.fx * x) / depth + camera.cx, y: (camera.fy * y) / depth + camera.cy, depth };
}

/** The world point at a place of the picture, in pixels, and a depth along z. */
export function unproject(camera: Camera, x: number, y: number, depth: number): Vector3 {
  const point: Vector3 = [
    ((x - camera.cx) / camera.fx) * depth,
    ((y - camera.cy) / camera.fy) * depth,
    depth,
  ];
  return transformPoint(invertRigid(camera.worldToCamera), point);
}

/** World-to-camera from a camera-to-world pose with OpenGL axes (x right, y up, z backwards), as NeRF files have it. */
export const fromOpenGlPose = (cameraToWorld: Matrix4): Matrix4 =>
  invertRigid(cameraToWorld.map((value, at) => (at < 12 && (at % 4 === 1 || at % 4 === 2) ? -value : value)));
