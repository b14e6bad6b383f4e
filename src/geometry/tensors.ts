/**
 * Geometry on tensors, with any leading axes (cameras, frames, Gaussians), to be traced and differentiated. Conventions are
 * those of the functions on numbers: OpenCV axes, pixel centres at halves, row-major transforms that act on columns.
 */
import { ArgumentError, ShapeError } from "../errors.ts";
import {
  arange,
  broadcastTo,
  concat,
  cross,
  matmul,
  norm,
  stack,
  type Tensor,
  tensor,
  transpose,
} from "../tensor/index.ts";
import type { Camera } from "./camera.ts";

/** Cameras as tensors. Their leading axes broadcast against those of points. */
export interface CameraTensors {
  /** Rigid transforms [..., 4, 4]. */
  readonly worldToCamera: Tensor;
  /** Focal lengths and principal points in pixels, [..., 4]: fx, fy, cx, cy. */
  readonly intrinsics: Tensor;
}

/** Cameras [N] as tensors, f32. */
export function cameraTensors(cameras: readonly Camera[]): CameraTensors {
  if (cameras.length === 0) throw new ArgumentError("cameraTensors: expected at least one camera");
  return {
    worldToCamera: tensor(Float32Array.from(cameras.flatMap((c) => c.worldToCamera)), {
      shape: [cameras.length, 4, 4],
    }),
    intrinsics: tensor(Float32Array.from(cameras.flatMap(({ fx, fy, cx, cy }) => [fx, fy, cx, cy])), {
      shape: [cameras.length, 4],
    }),
  };
}

function needLast(what: string, x: Tensor, ...last: number[]): void {
  if (x.rank < last.length || x.shape.slice(-last.length).join() !== last.join())
    throw new ShapeError(`${what}: expected [..., ${last.join(", ")}], got ${x}`);
}

/** The elements of the last axis, each [..., 1]. */
const parts = (x: Tensor): Tensor[] => x.split(x.shape.at(-1)!, -1);

const joined = (columns: readonly Tensor[], axis = -1): Tensor => concat(columns[0]!, columns.slice(1), axis);

/** The last two axes exchanged. */
const adjoint = (x: Tensor): Tensor =>
  transpose(x, [...Array.from({ length: x.rank - 2 }, (_, i) => i), x.rank - 1, x.rank - 2]);

/** Rotations [..., 3, 3] of quaternions [..., 4], w first, of any length above 0: they are normalised here. */
export function quaternionRotation(q: Tensor): Tensor {
  needLast("quaternionRotation", q, 4);
  const [w, x, y, z] = parts(q.div(norm(q, -1, true))) as [Tensor, Tensor, Tensor, Tensor];
  const twice = (a: Tensor, b: Tensor): Tensor => a.mul(b).mul(2);
  const one = (a: Tensor, b: Tensor): Tensor => a.add(b).neg().add(1);
  const [xx, yy, zz] = [twice(x, x), twice(y, y), twice(z, z)];
  const [xy, xz, yz] = [twice(x, y), twice(x, z), twice(y, z)];
  const [wx, wy, wz] = [twice(w, x), twice(w, y), twice(w, z)];
  const rows = [
    [one(yy, zz), xy.sub(wz), xz.add(wy)],
    [xy.add(wz), one(xx, zz), yz.sub(wx)],
    [xz.sub(wy), yz.add(wx), one(xx, yy)],
  ];
  return joined(rows.flat()).reshape([...q.shape.slice(0, -1), 3, 3]);
}

const rotationOf = (m: Tensor): Tensor => m.sliceAxis(-1, 0, 3).sliceAxis(-2, 0, 3); // [..., 3, 3]
const translationOf = (m: Tensor): Tensor => m.sliceAxis(-1, 3, 4).sliceAxis(-2, 0, 3); // [..., 3, 1]

/** Inverses of rigid transforms [..., 4, 4], by the transposed rotation: exact for these, wrong for others. */
export function rigidInverse(m: Tensor): Tensor {
  needLast("rigidInverse", m, 4, 4);
  const turned = adjoint(rotationOf(m));
  const moved = matmul(turned, translationOf(m)).neg();
  return joined([joined([turned, moved]), m.sliceAxis(-2, 3, 4)], -2);
}

/** Points [..., P, 3] moved by rigid or affine transforms [..., 4, 4]; leading axes broadcast. */
export function transformPoints(m: Tensor, points: Tensor): Tensor {
  needLast("transformPoints", m, 4, 4);
  needLast("transformPoints", points, 3);
  return matmul(points, rotationOf(m), { transB: true }).add(adjoint(translationOf(m)));
}

/** Focal lengths and principal points, both [..., 1, 2], against points [..., P, 2]. */
function lensOf(intrinsics: Tensor): { focal: Tensor; centre: Tensor } {
  needLast("intrinsics", intrinsics, 4);
  const rows = intrinsics.unsqueeze(-2);
  return { focal: rows.sliceAxis(-1, 0, 2), centre: rows.sliceAxis(-1, 2, 4) };
}

/**
 * World points [..., P, 3] in pictures: places [..., P, 2] as (x, y) in pixels, and depths [..., P] along z; depth <= 0 is
 * behind the camera, where the place means nothing (at depth 0 it is not finite).
 */
export function projectPoints(
  { worldToCamera, intrinsics }: CameraTensors,
  points: Tensor,
): { pixels: Tensor; depth: Tensor } {
  const { focal, centre } = lensOf(intrinsics);
  const seen = transformPoints(worldToCamera, points);
  const depth = seen.sliceAxis(-1, 2, 3);
  return { pixels: seen.sliceAxis(-1, 0, 2).div(depth).mul(focal).add(centre), depth: depth.squeeze(-1) };
}

/** World points [..., P, 3] at places [..., P, 2] of pictures, in pixels, and depths [..., P] along z. */
export function unprojectPoints(
  { worldToCamera, intrinsics }: CameraTensors,
  pixels: Tensor,
  depth: Tensor,
): Tensor {
  needLast("unprojectPoints", pixels, 2);
  const { focal, centre } = lensOf(intrinsics);
  const z = depth.unsqueeze(-1);
  const plane = pixels.sub(centre).div(focal).mul(z); // [..., P, 2]
  const full = broadcastTo(z, [...plane.shape.slice(0, -1), 1]);
  return transformPoints(rigidInverse(worldToCamera), joined([plane, full]));
}

/**
 * Rays of cameras [...] through the pixel centres of a picture: where they begin, [..., 1, 3], and their unit directions in
 * the world, [..., H * W, 3], row by row.
 */
export function cameraRays(
  cameras: CameraTensors,
  height: number,
  width: number,
): { origins: Tensor; directions: Tensor } {
  if (![height, width].every((n) => Number.isInteger(n) && n >= 1))
    throw new ArgumentError(`cameraRays: expected a picture of whole pixels, got ${height} x ${width}`);
  const { dtype } = cameras.intrinsics;
  const centres = (n: number): Tensor => arange(0, n).cast(dtype).add(0.5);
  const grid = [centres(width).unsqueeze(0), centres(height).unsqueeze(1)]; // x, y
  const pixels = stack(
    grid.map((g) => broadcastTo(g, [height, width])),
    -1,
  ).reshape([height * width, 2]);
  const { focal, centre } = lensOf(cameras.intrinsics);
  const plane = pixels.sub(centre).div(focal); // [..., H * W, 2]
  const z = broadcastTo(tensor([1], { dtype }), [...plane.shape.slice(0, -1), 1]);
  const pose = rigidInverse(cameras.worldToCamera);
  const directions = matmul(joined([plane, z]), rotationOf(pose), { transB: true });
  return { origins: adjoint(translationOf(pose)), directions: directions.div(norm(directions, -1, true)) };
}

/**
 * Plücker coordinates of the rays through all pixels, [..., 6, H, W]: unit directions, then moments (origin x direction),
 * which are the same for every point of a ray. What camera-conditioned networks are given (Sitzmann et al. 2021, "Light
 * field networks").
 */
export function pluckerRays(cameras: CameraTensors, height: number, width: number): Tensor {
  const { origins, directions } = cameraRays(cameras, height, width);
  const rays = joined([directions, cross(origins, directions)]); // [..., H * W, 6]
  return adjoint(rays).reshape([...rays.shape.slice(0, -2), 6, height, width]);
}

/** Constants of the real harmonics, as in Green 2003, "Spherical harmonic lighting", appendix 2, by degree. */
const C0 = 0.5 / Math.sqrt(Math.PI);
const C1 = Math.sqrt(3 / (4 * Math.PI));
const C2 = [
  Math.sqrt(15 / (4 * Math.PI)),
  Math.sqrt(5 / (16 * Math.PI)),
  Math.sqrt(15 / (16 * Math.PI)),
] as const;
const C3 = [
  Math.sqrt(35 / (32 * Math.PI)),
  Math.sqrt(105 / (4 * Math.PI)),
  Math.sqrt(21 / (32 * Math.PI)),
  Math.sqrt(7 / (16 * Math.PI)),
  Math.sqrt(105 / (16 * Math.PI)),
] as const;

/**
 * Real spherical harmonics of unit directions [..., 3] up to a degree from 0 to 3: [..., (degree + 1)²], by degree and then
 * order from -degree, with the signs (Condon-Shortley) that 3D Gaussian splatting stores its colours in. The colour is the
 * sum over coefficients times these, plus 0.5 there.
 */
export function sphericalHarmonics(directions: Tensor, degree = 3): Tensor {
  needLast("sphericalHarmonics", directions, 3);
  if (![0, 1, 2, 3].includes(degree))
    throw new ArgumentError(`sphericalHarmonics: degree must be 0, 1, 2 or 3, got ${degree}`);
  const [x, y, z] = parts(directions) as [Tensor, Tensor, Tensor];
  const [xx, yy, zz] = [x.square(), y.square(), z.square()];
  const bands = [
    () => [x.mul(0).add(C0)],
    () => [y.mul(-C1), z.mul(C1), x.mul(-C1)],
    () => [
      x.mul(y).mul(C2[0]),
      y.mul(z).mul(-C2[0]),
      zz.mul(2).sub(xx).sub(yy).mul(C2[1]),
      x.mul(z).mul(-C2[0]),
      xx.sub(yy).mul(C2[2]),
    ],
    () => [
      y.mul(xx.mul(3).sub(yy)).mul(-C3[0]),
      x.mul(y).mul(z).mul(C3[1]),
      y.mul(zz.mul(4).sub(xx).sub(yy)).mul(-C3[2]),
      z.mul(zz.mul(2).sub(xx.mul(3)).sub(yy.mul(3))).mul(C3[3]),
      x.mul(zz.mul(4).sub(xx).sub(yy)).mul(-C3[2]),
      z.mul(xx.sub(yy)).mul(C3[4]),
      x.mul(xx.sub(yy.mul(3))).mul(-C3[0]),
    ],
  ];
  return joined(bands.slice(0, degree + 1).flatMap((band) => band()));
}
