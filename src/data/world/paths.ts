/** Cameras and their paths through a scene, clear of walls and objects. */
import { type Camera, intrinsicsFromFov, lookAt, type Vector3 } from "../../geometry/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { createDraw, type Draw } from "../random-draws.ts";
import type { Scene } from "./scene.ts";

/** Kinds of camera paths through a scene. */
export const PATHS = ["wander", "orbit", "pan", "walk", "truck"] as const;
/** Kind of a camera path through a scene. */
export type PathKind = (typeof PATHS)[number];

/** Options of `drawCameras`. */
export interface PathOptions {
  readonly kind?: PathKind;
  /** Number of cameras. Default 9. */
  readonly frames?: number;
  /** Picture side in pixels. Default 64. */
  readonly size?: number;
  /** Horizontal field of view in degrees. Default: by the kind of path. */
  readonly fov?: number;
}

/** A pose: where the eye is, where it heads (yaw 0 along +z, to the right growing), how far down it looks. */
interface Pose {
  readonly eye: Vector3;
  readonly yaw: number;
  readonly pitch: number;
}

const FOV: Record<PathKind, number> = { wander: 75, orbit: 50, pan: 75, walk: 65, truck: 65 };
const CLEARANCE = 0.3;
const ATTEMPTS = 200;

/** Whether every pose keeps its distance from walls and objects. */
function isClear({ room, objects }: Scene, poses: readonly Pose[]): boolean {
  return poses.every(({ eye: [x, y, z] }) => {
    const inside =
      Math.abs(x) < room.half[0] - CLEARANCE &&
      Math.abs(y) < room.half[1] - CLEARANCE / 2 &&
      Math.abs(z) < room.half[2] - CLEARANCE;
    return (
      inside && objects.every((o) => Math.hypot(o.centre[0] - x, o.centre[2] - z) > o.footprint + CLEARANCE)
    );
  });
}

const along = (frames: number, pose: (s: number) => Pose): Pose[] =>
  Array.from({ length: frames }, (_, i) => pose(frames === 1 ? 0 : i / (frames - 1)));

/** A candidate path of a kind; `reach` shrinks from 1 to 0 as attempts fail, until the camera hardly moves. */
function drawPath(
  kind: PathKind,
  draw: Draw,
  { room, objects }: Scene,
  frames: number,
  reach: number,
): Pose[] {
  const [hx, hy, hz] = room.half;
  const side = draw.pick([-1, 1]);
  const level = draw.uniform(-0.3, 0.15) * hy;
  const start: Vector3 = [draw.uniform(-0.3, 0.3) * hx, level, -hz + CLEARANCE + 0.1 + draw.uniform(0, 0.3)];
  const move = (x: number, z: number): Vector3 => [start[0] + x, start[1], start[2] + z];
  switch (kind) {
    case "wander": {
      const [yaw0, turn] = [draw.uniform(-0.25, 0.25), draw.uniform(-1.2, 1.2) * reach];
      const [forward, sideways] = [draw.uniform(0, 1.8) * reach, draw.uniform(-0.8, 0.8) * reach];
      return along(frames, (s) => ({
        eye: move(s * sideways, s * forward),
        yaw: yaw0 + s * turn,
        pitch: 0.08,
      }));
    }
    case "orbit": {
      const target = objects.length > 0 ? draw.pick(objects).centre : ([0, 0.5 * hy, 0] as Vector3);
      const radius = draw.uniform(1.2, 2) * (0.6 + 0.4 * reach);
      const [arc, begin] = [side * draw.uniform(Math.PI / 3, Math.PI) * reach, draw.uniform(0, 2 * Math.PI)];
      return along(frames, (s) => {
        const angle = begin + s * arc;
        const eye: Vector3 = [
          target[0] + radius * Math.sin(angle),
          level,
          target[2] - radius * Math.cos(angle),
        ];
        const pitch = Math.atan2(Math.max(target[1], 0.3 * hy) - level, radius);
        return { eye, yaw: Math.atan2(target[0] - eye[0], target[2] - eye[2]), pitch };
      });
    }
    case "pan": {
      const [turn, forward] = [side * draw.uniform(0.7, 1.2), draw.uniform(0, 0.8) * reach];
      return along(frames, (s) => ({ eye: move(0, s * forward), yaw: (s - 0.5) * turn, pitch: 0.08 }));
    }
    case "walk": {
      const [length, sway] = [draw.uniform(2, 4) * reach, draw.uniform(0.03, 0.1)];
      return along(frames, (s) => ({
        eye: move(sway * Math.sin(6 * s), Math.min(s * length, 1.7 * hz)),
        yaw: 0.05 * Math.sin(5 * s),
        pitch: 0.06,
      }));
    }
    case "truck": {
      const length = side * draw.uniform(1, 2) * reach;
      return along(frames, (s) => ({ eye: move((s - 0.5) * length, 0.3), yaw: 0, pitch: 0.1 }));
    }
  }
}

function cameraOf({ eye, yaw, pitch }: Pose, size: number, fov: number): Camera {
  const forward: Vector3 = [
    Math.sin(yaw) * Math.cos(pitch),
    Math.sin(pitch),
    Math.cos(yaw) * Math.cos(pitch),
  ];
  const target: Vector3 = [eye[0] + forward[0], eye[1] + forward[1], eye[2] + forward[2]];
  return { ...intrinsicsFromFov(size, size, fov), worldToCamera: lookAt(eye, target, [0, -1, 0]) };
}

/** The path of a seed through a scene. Every scene has one: at worst the camera turns where it stands. */
export function drawCameras(scene: Scene, seed: Seed, index: number, options: PathOptions = {}): Camera[] {
  const draw = createDraw(seed, index, 0, "world path");
  const { kind = draw.pick(PATHS), frames = 9, size = 64, fov = FOV[kind] } = options;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const poses = drawPath(kind, draw, scene, frames, 1 - attempt / ATTEMPTS);
    if (isClear(scene, poses)) return poses.map((pose) => cameraOf(pose, size, fov));
  }
  const [, , hz] = scene.room.half;
  const still: Pose = { eye: [0, -0.2, -hz + CLEARANCE], yaw: 0, pitch: 0.08 };
  return along(frames, (s) => ({ ...still, yaw: 0.4 * (s - 0.5) })).map((pose) => cameraOf(pose, size, fov));
}
