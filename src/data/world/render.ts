/**
 * The ray caster: pictures of a scene with exact depth, normals and labels. Colour depends on the surface point alone,
 * never on the eye, so that any two views of a point agree.
 */
import { type Camera, checkCamera, invertRigid, type Vector3 } from "../../geometry/index.ts";
import { ANY_HIT, boundingBall, type Intersect, intersectSolid, type SolidHit } from "./intersect.ts";
import { patternAt, type Texture } from "./materials.ts";
import { CLASSES } from "./objects.ts";
import type { Light, Scene } from "./scene.ts";

/** A picture of a scene with depth, normals and labels. */
export interface View {
  readonly width: number;
  readonly height: number;
  /** Mean of 2 x 2 rays per pixel, in [0, 1]. // [H, W, 3] */
  readonly image: Float32Array;
  /** Along the camera's z axis at the pixel's centre, in metres. // [H, W] */
  readonly depth: Float32Array;
  /** In world axes at the pixel's centre, towards the room. // [H, W, 3] */
  readonly normals: Float32Array;
  /** Number in `CLASSES`. // [H, W] */
  readonly classes: Int32Array;
  /** 0 to 5 for the room's faces, 6 + k for object k. // [H, W] */
  readonly instances: Int32Array;
  /** 1 where the right or lower neighbour is another instance. // [H, W] */
  readonly edges: Uint8Array;
}

/** Light that each face of the room, and each direction of an object, gives back without a lamp. */
const FACE_SHADE = [0.85, 0.85, 1, 0.6, 0.95, 0.75] as const;
const flatShade = (nx: number, ny: number, nz: number): number => 0.75 - 0.2 * ny + 0.1 * nx - 0.05 * nz;

/** Points of the lamp that shadows are asked for: fixed, so that every view sees the same shadow. */
const LAMP_POINTS = [
  [-0.75, -0.25],
  [-0.25, 0.75],
  [0.25, -0.75],
  [0.75, 0.25],
] as const;

/** One solid with the place and turn of its object, and a ball around it that most rays miss. */
interface Part {
  readonly intersect: Intersect;
  readonly object: number;
  readonly x: number;
  readonly y: number;
  readonly z: number;
  readonly cos: number;
  readonly sin: number;
  readonly ballX: number;
  readonly ballY: number;
  readonly ballZ: number;
  readonly ballSquared: number;
}

function partsOf({ objects }: Scene): Part[] {
  return objects.flatMap(({ centre: [x, y, z], yaw, solids }, object) =>
    solids.map((solid) => {
      const [cos, sin] = [Math.cos(yaw), Math.sin(yaw)];
      const ball = boundingBall(solid);
      const [bx, by, bz] = ball.centre;
      return {
        intersect: intersectSolid(solid),
        object,
        x,
        y,
        z,
        cos,
        sin,
        ballX: x + cos * bx + sin * bz,
        ballY: y + by,
        ballZ: z - sin * bx + cos * bz,
        ballSquared: ball.radius ** 2,
      };
    }),
  );
}

/** Where a ray ended. Reused. */
export interface SceneHit {
  t: number;
  /** 0 to 5 for faces, 6 + k for objects. */
  instance: number;
  nx: number;
  ny: number;
  nz: number;
  u: number;
  v: number;
}

/** A scene ready for rays. */
export interface Tracer {
  /** The first thing on a ray that starts in the room. */
  cast(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number, hit: SceneHit): void;
  /** Whether an object lies between two points. */
  blocked(ox: number, oy: number, oz: number, dx: number, dy: number, dz: number): boolean;
}

/** Prepares a scene for its rays. */
export function createTracer(scene: Scene): Tracer {
  const parts = partsOf(scene);
  const [hx, hy, hz] = scene.room.half;
  const local: SolidHit = { t: 0, nx: 0, ny: 0, nz: 0, u: 0, v: 0 };

  const meets = (
    p: Part,
    ox: number,
    oy: number,
    oz: number,
    dx: number,
    dy: number,
    dz: number,
    limit: number,
    found: SolidHit,
  ): boolean => {
    const bx = ox - p.ballX;
    const by = oy - p.ballY;
    const bz = oz - p.ballZ;
    const outside = bx * bx + by * by + bz * bz - p.ballSquared;
    const towards = -(bx * dx + by * dy + bz * dz);
    const squared = dx * dx + dy * dy + dz * dz;
    if (outside > 0 && (towards <= 0 || towards * towards < squared * outside)) return false;
    const x = ox - p.x;
    const z = oz - p.z;
    return p.intersect(
      p.cos * x - p.sin * z,
      oy - p.y,
      p.sin * x + p.cos * z,
      p.cos * dx - p.sin * dz,
      dy,
      p.sin * dx + p.cos * dz,
      limit,
      found,
    );
  };

  /** The room's box from inside: the nearest face in the ray's direction. */
  function castRoom(
    ox: number,
    oy: number,
    oz: number,
    dx: number,
    dy: number,
    dz: number,
    hit: SceneHit,
  ): void {
    const tx = dx === 0 ? Number.POSITIVE_INFINITY : ((dx > 0 ? hx : -hx) - ox) / dx;
    const ty = dy === 0 ? Number.POSITIVE_INFINITY : ((dy > 0 ? hy : -hy) - oy) / dy;
    const tz = dz === 0 ? Number.POSITIVE_INFINITY : ((dz > 0 ? hz : -hz) - oz) / dz;
    const t = Math.min(tx, ty, tz);
    const x = ox + t * dx;
    const y = oy + t * dy;
    const z = oz + t * dz;
    hit.t = t;
    hit.nx = hit.ny = hit.nz = 0;
    if (t === tx) {
      hit.instance = dx > 0 ? 1 : 0;
      hit.nx = -Math.sign(dx);
      hit.u = z;
      hit.v = y;
    } else if (t === ty) {
      hit.instance = dy > 0 ? 3 : 2;
      hit.ny = -Math.sign(dy);
      hit.u = x;
      hit.v = z;
    } else {
      hit.instance = dz > 0 ? 5 : 4;
      hit.nz = -Math.sign(dz);
      hit.u = x;
      hit.v = y;
    }
  }

  return {
    cast(ox, oy, oz, dx, dy, dz, hit) {
      castRoom(ox, oy, oz, dx, dy, dz, hit);
      for (const p of parts) {
        if (!meets(p, ox, oy, oz, dx, dy, dz, hit.t, local)) continue;
        hit.t = local.t;
        hit.instance = 6 + p.object;
        hit.nx = p.cos * local.nx + p.sin * local.nz;
        hit.ny = local.ny;
        hit.nz = -p.sin * local.nx + p.cos * local.nz;
        hit.u = local.u;
        hit.v = local.v;
      }
    },
    blocked(ox, oy, oz, dx, dy, dz) {
      for (const p of parts) if (meets(p, ox, oy, oz, dx, dy, dz, 1, ANY_HIT)) return true;
      return false;
    },
  };
}

/** Light at a surface point: [r, g, b] into `out`. */
type Shader = (x: number, y: number, z: number, hit: SceneHit, out: Float64Array) => void;

function createShader(light: Light, tracer: Tracer): Shader {
  if (light.kind === "flat") {
    return (_x, _y, _z, hit, out) => {
      out.fill(hit.instance < 6 ? FACE_SHADE[hit.instance]! : flatShade(hit.nx, hit.ny, hit.nz));
    };
  }
  const { position, halfSize, colour, ambient } = light;
  const reach = 2.2; // metres at which the lamp gives half of its light
  return (x, y, z, hit, out) => {
    const sx = x + 1e-4 * hit.nx;
    const sy = y + 1e-4 * hit.ny;
    const sz = z + 1e-4 * hit.nz;
    let direct = 0;
    for (let k = 0; k < LAMP_POINTS.length; k++) {
      const lx = position[0] + LAMP_POINTS[k]![0] * halfSize - sx;
      const ly = position[1] - sy;
      const lz = position[2] + LAMP_POINTS[k]![1] * halfSize - sz;
      const facing = hit.nx * lx + hit.ny * ly + hit.nz * lz;
      if (facing <= 0 || tracer.blocked(sx, sy, sz, lx, ly, lz)) continue;
      const distance = Math.sqrt(lx * lx + ly * ly + lz * lz);
      direct += facing / distance / (1 + (distance / reach) ** 2);
    }
    const gain = (1.6 * direct * (1 - ambient)) / LAMP_POINTS.length;
    for (let c = 0; c < 3; c++) out[c] = ambient + gain * colour[c]!;
  };
}

/** A view of a scene. @throws ArgumentError for what is no camera. */
export function renderView(scene: Scene, camera: Camera): View {
  checkCamera(camera, "renderView");
  const { width, height, fx, fy, cx, cy } = camera;
  const tracer = createTracer(scene);
  const shade = createShader(scene.light, tracer);
  const textures: Texture[] = [...scene.room.faces, ...scene.objects.map((o) => o.texture)];
  const classOf = [0, 0, CLASSES.indexOf("ceiling"), CLASSES.indexOf("floor"), 0, 0].concat(
    scene.objects.map((o) => CLASSES.indexOf(o.className)),
  );
  const m = invertRigid(camera.worldToCamera);
  const [ox, oy, oz] = [m[3]!, m[7]!, m[11]!];
  const hit: SceneHit = { t: 0, instance: 0, nx: 0, ny: 0, nz: 0, u: 0, v: 0 };
  const light = new Float64Array(3);
  const view = {
    width,
    height,
    image: new Float32Array(width * height * 3),
    depth: new Float32Array(width * height),
    normals: new Float32Array(width * height * 3),
    classes: new Int32Array(width * height),
    instances: new Int32Array(width * height),
    edges: new Uint8Array(width * height),
  };
  const castAt = (x: number, y: number): void => {
    const u = (x - cx) / fx;
    const v = (y - cy) / fy;
    const dx = m[0]! * u + m[1]! * v + m[2]!;
    const dy = m[4]! * u + m[5]! * v + m[6]!;
    const dz = m[8]! * u + m[9]! * v + m[10]!;
    // The direction has length 1 along the camera's z, so t is the depth.
    tracer.cast(ox, oy, oz, dx, dy, dz, hit);
    point[0] = ox + hit.t * dx;
    point[1] = oy + hit.t * dy;
    point[2] = oz + hit.t * dz;
  };
  const point = new Float64Array(3);
  for (let j = 0; j < height; j++) {
    for (let i = 0; i < width; i++) {
      const at = j * width + i;
      for (let s = 0; s < 4; s++) {
        castAt(i + 0.25 + 0.5 * (s & 1), j + 0.25 + 0.5 * (s >> 1));
        shade(point[0]!, point[1]!, point[2]!, hit, light);
        const texture = textures[hit.instance]!;
        const mix = patternAt(texture, hit.u, hit.v);
        const [a, b] = texture.colours;
        for (let c = 0; c < 3; c++)
          view.image[3 * at + c]! += 0.25 * Math.min(1, light[c]! * (a[c]! + (b[c]! - a[c]!) * mix));
      }
      castAt(i + 0.5, j + 0.5);
      view.depth[at] = hit.t;
      view.normals.set([hit.nx, hit.ny, hit.nz], 3 * at);
      view.instances[at] = hit.instance;
      view.classes[at] = classOf[hit.instance]!;
    }
  }
  markEdges(view);
  return view;
}

function markEdges({ width, height, instances, edges }: View): void {
  for (let j = 0; j < height; j++) {
    for (let i = 0; i < width; i++) {
      const at = j * width + i;
      const right = i + 1 < width && instances[at + 1] !== instances[at];
      const below = j + 1 < height && instances[at + width] !== instances[at];
      if (right || below) edges[at] = 1;
    }
  }
}

/** Colour of a surface point of the scene, as any view of it has before pixels are averaged. */
export function colourAlongRay(
  scene: Scene,
  origin: Vector3,
  direction: Vector3,
): { colour: number[]; t: number } {
  const tracer = createTracer(scene);
  const hit: SceneHit = { t: 0, instance: 0, nx: 0, ny: 0, nz: 0, u: 0, v: 0 };
  tracer.cast(...origin, ...direction, hit);
  const light = new Float64Array(3);
  const [x, y, z] = origin.map((o, k) => o + hit.t * direction[k]!) as [number, number, number];
  createShader(scene.light, tracer)(x, y, z, hit, light);
  const texture =
    hit.instance < 6 ? scene.room.faces[hit.instance]! : scene.objects[hit.instance - 6]!.texture;
  const mix = patternAt(texture, hit.u, hit.v);
  const [a, b] = texture.colours;
  return { colour: [0, 1, 2].map((c) => Math.min(1, light[c]! * (a[c]! + (b[c]! - a[c]!) * mix))), t: hit.t };
}
