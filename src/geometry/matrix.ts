/** 4x4 transforms, row-major, acting on column vectors. */
import { ArgumentError } from "../errors.ts";

/** A point or direction in three dimensions. */
export type Vector3 = readonly [x: number, y: number, z: number];
/** Row-major 4x4. */
export type Matrix4 = readonly number[];

/** The matrix that changes nothing. */
export const IDENTITY: Matrix4 = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/** a + b. */
export const addVectors = (a: Vector3, b: Vector3): Vector3 => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
/** a - b. */
export const subVectors = (a: Vector3, b: Vector3): Vector3 => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
/** a times a number. */
export const scaleVector = (a: Vector3, s: number): Vector3 => [a[0] * s, a[1] * s, a[2] * s];
/** The scalar product. */
export const dot = (a: Vector3, b: Vector3): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
/** The Euclidean length. */
export const length = (a: Vector3): number => Math.hypot(a[0], a[1], a[2]);

/** The vector product: perpendicular to both, by the right hand. */
export const cross = (a: Vector3, b: Vector3): Vector3 => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

/** Unit vector. @throws ArgumentError for one without a direction. */
export function normalize(a: Vector3): Vector3 {
  const norm = length(a);
  if (!(norm > 0 && Number.isFinite(norm)))
    throw new ArgumentError(`normalize: [${a.join(", ")}] has no direction`);
  return scaleVector(a, 1 / norm);
}

/** a b: first b, then a. */
export function multiply(a: Matrix4, b: Matrix4): Matrix4 {
  const out = new Array<number>(16).fill(0);
  for (let i = 0; i < 4; i++)
    for (let j = 0; j < 4; j++) for (let k = 0; k < 4; k++) out[4 * i + j]! += a[4 * i + k]! * b[4 * k + j]!;
  return out;
}

/** m applied to a point. */
export const transformPoint = (m: Matrix4, p: Vector3): Vector3 => [
  m[0]! * p[0] + m[1]! * p[1] + m[2]! * p[2] + m[3]!,
  m[4]! * p[0] + m[5]! * p[1] + m[6]! * p[2] + m[7]!,
  m[8]! * p[0] + m[9]! * p[1] + m[10]! * p[2] + m[11]!,
];

/** Rotation (three rows) and translation as one transform. */
export const rigid = (rows: readonly [Vector3, Vector3, Vector3], t: Vector3): Matrix4 => [
  ...rows[0],
  t[0],
  ...rows[1],
  t[1],
  ...rows[2],
  t[2],
  0,
  0,
  0,
  1,
];

/** Inverse of a rotation with a translation. */
export function invertRigid(m: Matrix4): Matrix4 {
  const column = (j: number): Vector3 => [m[j]!, m[4 + j]!, m[8 + j]!];
  const t = column(3);
  const rows = [column(0), column(1), column(2)] as const;
  return rigid([rows[0], rows[1], rows[2]], [-dot(rows[0], t), -dot(rows[1], t), -dot(rows[2], t)]);
}

/** How far m is from a rigid transform: the largest |R Rᵀ - 1|, infinite for a mirror or a wrong last row. */
export function rigidError(m: Matrix4): number {
  if (m.length !== 16 || !m.every(Number.isFinite)) return Number.POSITIVE_INFINITY;
  if (m[12] !== 0 || m[13] !== 0 || m[14] !== 0 || m[15] !== 1) return Number.POSITIVE_INFINITY;
  const rows = [0, 4, 8].map((at): Vector3 => [m[at]!, m[at + 1]!, m[at + 2]!]) as [
    Vector3,
    Vector3,
    Vector3,
  ];
  if (dot(cross(rows[0], rows[1]), rows[2]) <= 0) return Number.POSITIVE_INFINITY;
  return Math.max(...rows.flatMap((a, i) => rows.map((b, j) => Math.abs(dot(a, b) - (i === j ? 1 : 0)))));
}

/** Rotation of a unit quaternion, w first, normalised here. */
export function quaternionRows(
  q: readonly [w: number, x: number, y: number, z: number],
): [Vector3, Vector3, Vector3] {
  const norm = Math.hypot(...q);
  if (!(norm > 0 && Number.isFinite(norm)))
    throw new ArgumentError(`quaternionRows: [${q.join(", ")}] is no rotation`);
  const [w, x, y, z] = q.map((value) => value / norm) as [number, number, number, number];
  return [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
}
