/**
 * Rays against solids. A solid is met in its own axes (centre at the origin, unturned); `t` is the distance along a
 * direction of any length. Results go into one reused record, because a picture asks for tens of thousands.
 */
import type { Vector3 } from "../../geometry/index.ts";
import type { Solid } from "./objects.ts";

/** Where a ray met a solid, in the solid's axes. */
export interface SolidHit {
  t: number;
  nx: number;
  ny: number;
  nz: number;
  /** Surface coordinates in metres. */
  u: number;
  v: number;
}

/** Given in place of a hit when only whether there is one matters, as for shadows: it is not filled in. */
export const ANY_HIT: SolidHit = { t: 0, nx: 0, ny: 0, nz: 0, u: 0, v: 0 };

const EPSILON = 1e-6;

/** Nearest meeting beyond EPSILON and before `limit`; false without one. `hit` is written only when true. */
export type Intersect = (
  ox: number,
  oy: number,
  oz: number,
  dx: number,
  dy: number,
  dz: number,
  limit: number,
  hit: SolidHit,
) => boolean;

function sphere(radius: number): Intersect {
  return (ox, oy, oz, dx, dy, dz, limit, hit) => {
    const a = dx * dx + dy * dy + dz * dz;
    const b = ox * dx + oy * dy + oz * dz;
    const root = b * b - a * (ox * ox + oy * oy + oz * oz - radius * radius);
    if (root < 0) return false;
    const t = (-b - Math.sqrt(root)) / a;
    if (t < EPSILON || t >= limit) return false;
    if (hit === ANY_HIT) return true;
    hit.t = t;
    hit.nx = (ox + t * dx) / radius;
    hit.ny = (oy + t * dy) / radius;
    hit.nz = (oz + t * dz) / radius;
    hit.u = Math.atan2(hit.nx, hit.nz) * radius;
    hit.v = Math.asin(Math.max(-1, Math.min(1, hit.ny))) * radius;
    return true;
  };
}

function box([hx, hy, hz]: Vector3): Intersect {
  return (ox, oy, oz, dx, dy, dz, limit, hit) => {
    let near = Number.NEGATIVE_INFINITY;
    let far = limit;
    let axis = 0;
    for (let k = 0; k < 3; k++) {
      const o = k === 0 ? ox : k === 1 ? oy : oz;
      const d = k === 0 ? dx : k === 1 ? dy : dz;
      const h = k === 0 ? hx : k === 1 ? hy : hz;
      if (d === 0) {
        if (o < -h || o > h) return false;
        continue;
      }
      const t0 = ((d > 0 ? -h : h) - o) / d;
      const t1 = ((d > 0 ? h : -h) - o) / d;
      if (t0 > near) {
        near = t0;
        axis = k;
      }
      if (t1 < far) far = t1;
      if (near > far) return false;
    }
    if (near < EPSILON || near >= limit) return false;
    if (hit === ANY_HIT) return true;
    const [x, y, z] = [ox + near * dx, oy + near * dy, oz + near * dz];
    hit.t = near;
    hit.nx = axis === 0 ? -Math.sign(dx) : 0;
    hit.ny = axis === 1 ? -Math.sign(dy) : 0;
    hit.nz = axis === 2 ? -Math.sign(dz) : 0;
    hit.u = axis === 0 ? z : x;
    hit.v = axis === 1 ? z : y;
    return true;
  };
}

/** Caps of cylinders and the base of cones: a disc at height y with its normal up or down. */
function disc(y: number, radius: number, normal: 1 | -1): Intersect {
  return (ox, oy, oz, dx, dy, dz, limit, hit) => {
    if (dy === 0) return false;
    const t = (y - oy) / dy;
    if (t < EPSILON || t >= limit) return false;
    const [x, z] = [ox + t * dx, oz + t * dz];
    if (x * x + z * z > radius * radius) return false;
    hit.t = t;
    hit.nx = 0;
    hit.ny = normal;
    hit.nz = 0;
    hit.u = x;
    hit.v = z;
    return true;
  };
}

/** The nearest of several surfaces. */
const nearest =
  (...parts: readonly Intersect[]): Intersect =>
  (ox, oy, oz, dx, dy, dz, limit, hit) => {
    let found = false;
    for (const part of parts) {
      if (!part(ox, oy, oz, dx, dy, dz, found ? hit.t : limit, hit)) continue;
      if (hit === ANY_HIT) return true;
      found = true;
    }
    return found;
  };

/**
 * The mantle of a cylinder (slope 0) or a cone with its tip at y = -h: x² + z² = (radius0 + slope y)², |y| <= h.
 * `radius0` is the radius at y = 0.
 */
function mantle(radius0: number, slope: number, h: number): Intersect {
  return (ox, oy, oz, dx, dy, dz, limit, hit) => {
    const [r, s] = [radius0 + slope * oy, slope * dy];
    const a = dx * dx + dz * dz - s * s;
    const b = ox * dx + oz * dz - r * s;
    const root = b * b - a * (ox * ox + oz * oz - r * r);
    if (root < 0 || a === 0) return false;
    const spread = Math.sqrt(root) / Math.abs(a);
    for (const t of [-b / a - spread, -b / a + spread]) {
      const y = oy + t * dy;
      if (t < EPSILON || t >= limit || y < -h || y > h) continue;
      if (hit === ANY_HIT) return true;
      const [x, z] = [ox + t * dx, oz + t * dz];
      const around = Math.hypot(x, z) || 1;
      const scale = 1 / Math.hypot(1, slope);
      hit.t = t;
      hit.nx = (x / around) * scale;
      hit.ny = -slope * scale;
      hit.nz = (z / around) * scale;
      hit.u = Math.atan2(x, z) * Math.abs(radius0 + slope * h);
      hit.v = y;
      return true;
    }
    return false;
  };
}

/** A solid moved by a fixed vector. */
const moved =
  ([mx, my, mz]: Vector3, part: Intersect): Intersect =>
  (ox, oy, oz, dx, dy, dz, limit, hit) =>
    part(ox - mx, oy - my, oz - mz, dx, dy, dz, limit, hit);

/** The rounded tube around a segment (Quilez' capsule), with its two spherical ends. */
function capsule(from: Vector3, to: Vector3, radius: number): Intersect {
  const [bx, by, bz] = [to[0] - from[0], to[1] - from[1], to[2] - from[2]];
  const bb = bx * bx + by * by + bz * bz;
  const ends = nearest(moved(from, sphere(radius)), moved(to, sphere(radius)));
  if (bb < 1e-12) return ends;
  return (ox, oy, oz, dx, dy, dz, limit, hit) => {
    const [ax, ay, az] = [ox - from[0], oy - from[1], oz - from[2]];
    const [bd, bo] = [bx * dx + by * dy + bz * dz, bx * ax + by * ay + bz * az];
    const a = bb * (dx * dx + dy * dy + dz * dz) - bd * bd;
    const b = bb * (ax * dx + ay * dy + az * dz) - bd * bo;
    const root = b * b - a * (bb * (ax * ax + ay * ay + az * az) - bo * bo - radius * radius * bb);
    if (root < 0 || a <= 0) return ends(ox, oy, oz, dx, dy, dz, limit, hit);
    const t = (-b - Math.sqrt(root)) / a;
    const along = bo + t * bd;
    if (along <= 0 || along >= bb || t < EPSILON || t >= limit)
      return ends(ox, oy, oz, dx, dy, dz, limit, hit);
    if (hit === ANY_HIT) return true;
    const share = along / bb;
    hit.t = t;
    hit.nx = (ax + t * dx - bx * share) / radius;
    hit.ny = (ay + t * dy - by * share) / radius;
    hit.nz = (az + t * dz - bz * share) / radius;
    hit.u = 0;
    hit.v = share * Math.sqrt(bb);
    return true;
  };
}

/** The intersection of rays with a solid in the solid's own axes. */
export function intersectSolid(solid: Solid): Intersect {
  switch (solid.kind) {
    case "sphere":
      return sphere(solid.radius);
    case "box":
      return box(solid.half);
    case "cylinder": {
      const { radius, halfHeight: h } = solid;
      return nearest(mantle(radius, 0, h), disc(-h, radius, -1), disc(h, radius, 1));
    }
    case "cone": {
      const { radius, halfHeight: h } = solid;
      return nearest(mantle(radius / 2, radius / (2 * h), h), disc(h, radius, 1));
    }
    case "capsule":
      return capsule(solid.from, solid.to, solid.radius);
  }
}

/** Centre, in the solid's axes, and radius of a ball that holds the solid. */
export function boundingBall(solid: Solid): { readonly centre: Vector3; readonly radius: number } {
  switch (solid.kind) {
    case "sphere":
      return { centre: [0, 0, 0], radius: solid.radius };
    case "box":
      return { centre: [0, 0, 0], radius: Math.hypot(...solid.half) };
    case "cylinder":
    case "cone":
      return { centre: [0, 0, 0], radius: Math.hypot(solid.radius, solid.halfHeight) };
    case "capsule": {
      const { from, to, radius } = solid;
      const centre: Vector3 = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2, (from[2] + to[2]) / 2];
      return { centre, radius: Math.hypot(to[0] - from[0], to[1] - from[1], to[2] - from[2]) / 2 + radius };
    }
  }
}
