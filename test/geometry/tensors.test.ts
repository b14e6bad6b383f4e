import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import {
  type Camera,
  type CameraTensors,
  cameraCentre,
  cameraRays,
  cameraTensors,
  intrinsicsFromFov,
  invertRigid,
  lookAt,
  pluckerRays,
  project,
  projectPoints,
  quaternionRotation,
  quaternionRows,
  rigid,
  rigidInverse,
  sphericalHarmonics,
  unproject,
  unprojectPoints,
  type Vector3,
} from "../../src/geometry/index.ts";
import { norm, type Tensor, tensor, zeros } from "../../src/tensor/index.ts";
import { torchCases } from "../tensor/torch-cases.ts";

const cameraOf = (worldToCamera?: Tensor, intrinsics?: Tensor): CameraTensors => ({
  worldToCamera: worldToCamera!,
  intrinsics: intrinsics!,
});

torchCases(
  "torch-geometry.json",
  {
    quaternionRotation: (_, q) => quaternionRotation(q!),
    rigidInverse: (_, m) => rigidInverse(m!),
    project: (_, m, i, points) => {
      const { pixels, depth } = projectPoints(cameraOf(m, i), points!);
      return pixels.concat(depth.unsqueeze(-1), -1);
    },
    unproject: (_, m, i, pixels, depth) => unprojectPoints(cameraOf(m, i), pixels!, depth!),
    plucker: ({ height, width }: { height: number; width: number }, m, i) =>
      pluckerRays(cameraOf(m, i), height, width),
    sphericalHarmonics: ({ degree }: { degree: number }, x) => sphericalHarmonics(x!, degree),
    normalizedHarmonics: ({ degree }: { degree: number }, x) =>
      sphericalHarmonics(x!.div(norm(x!, -1, true)), degree),
  },
  [1e-5, 2e-4],
);

const number = fc.double({ min: -3, max: 3, noNaN: true });
const vector = fc.tuple(number, number, number);
const quaternion = fc.tuple(number, number, number, number).filter((q) => Math.hypot(...q) > 0.1);
const near = (got: readonly number[], expected: readonly number[], digits = 4): void => {
  expect(got.length).toBe(expected.length);
  got.forEach((v, i) => {
    expect(v).toBeCloseTo(expected[i]!, digits);
  });
};

describe("geometry on tensors", () => {
  it("is that on numbers", async () => {
    const pose = fc.tuple(quaternion, vector).map(([q, t]) => rigid(quaternionRows(q), t));
    await fc.assert(
      fc.asyncProperty(
        fc.array(pose, { minLength: 1, maxLength: 3 }),
        quaternion,
        vector,
        async (poses, q, p) => {
          near(await quaternionRotation(tensor([[...q]])).toArray(), quaternionRows(q).flat());
          const cameras = poses.map(
            (worldToCamera): Camera => ({ ...intrinsicsFromFov(64, 48, 60), worldToCamera }),
          );
          const all = cameraTensors(cameras);
          near(await rigidInverse(all.worldToCamera).toArray(), poses.flatMap(invertRigid));
          const depths = cameras.map((_, i) => 1 + i);
          const places = cameras.map((_, i) => [10 + i, 20 - i]);
          const points = unprojectPoints(all, tensor(places).unsqueeze(1), tensor(depths).unsqueeze(1));
          near(
            await points.toArray(),
            cameras.flatMap((c, i) => [...unproject(c, places[i]![0]!, places[i]![1]!, depths[i]!)]),
          );
          const back = projectPoints(all, points);
          near(await back.pixels.toArray(), places.flat(), 2);
          near(await back.depth.toArray(), depths);
          const one = cameras[0]!;
          const seen = project(one, p as Vector3);
          if (Math.abs(seen.depth) < 0.5) return;
          const { pixels } = projectPoints(cameraTensors([one]), tensor([[[...p]]]));
          near(await pixels.toArray(), [seen.x, seen.y], 1);
        },
      ),
      { numRuns: 15 },
    );
  });

  it("rays go through what the pixels show, and their moments are those of any point on them", async () => {
    const eye: Vector3 = [1, 2, -4];
    const camera: Camera = { ...intrinsicsFromFov(4, 3, 70), worldToCamera: lookAt(eye, [0, 0, 0]) };
    const all = cameraTensors([camera]);
    const { origins, directions } = cameraRays(all, 3, 4);
    near(await origins.toArray(), cameraCentre(camera));
    const { pixels } = projectPoints(all, origins.add(directions.mul(5)));
    const centres = Array.from({ length: 12 }, (_, i) => [(i % 4) + 0.5, Math.floor(i / 4) + 0.5]);
    near(await pixels.toArray(), centres.flat(), 3);
    const rays = pluckerRays(all, 3, 4);
    expect(rays.shape).toEqual([1, 6, 3, 4]);
    const [d, m] = rays.split(2, 1) as [Tensor, Tensor];
    near(await d.mul(m).sum(1).toArray(), new Array(12).fill(0));
    near(await d.square().sum(1).toArray(), new Array(12).fill(1));
  });

  it("harmonics are orthonormal over the sphere", async () => {
    // A product of Gauss-Legendre nodes in z and equal steps in the angle is exact for these degrees.
    const nodes = [0.1834346424956498, 0.525532409916329, 0.7966664774136267, 0.9602898564975363];
    const weights = [0.362683783378362, 0.3137066458778873, 0.2223810344533745, 0.1012285362903763];
    const directions: number[][] = [];
    const areas: number[] = [];
    for (const sign of [-1, 1])
      nodes.forEach((z, i) => {
        for (let k = 0; k < 8; k++) {
          const [r, angle] = [Math.sqrt(1 - z * z), (Math.PI * k) / 4];
          directions.push([r * Math.cos(angle), r * Math.sin(angle), sign * z]);
          areas.push((weights[i]! * Math.PI) / 4);
        }
      });
    const y = sphericalHarmonics(tensor(directions), 3); // [64, 16]
    const products = y.mul(tensor(areas).unsqueeze(1)).matmul(y, { transA: true });
    near(
      await products.toArray(),
      Array.from({ length: 256 }, (_, i) => (i % 17 === 0 ? 1 : 0)),
      5,
    );
  });

  it("says what shape it needs", () => {
    expect(() => quaternionRotation(zeros([3]))).toThrow(ShapeError);
    expect(() => rigidInverse(zeros([3, 4]))).toThrow(/\[..., 4, 4\]/);
    expect(() => sphericalHarmonics(zeros([2, 3]), 4)).toThrow(ArgumentError);
    expect(() => cameraTensors([])).toThrow(ArgumentError);
    expect(() => cameraRays(cameraOf(zeros([4, 4]), zeros([4])), 0, 2)).toThrow(ArgumentError);
  });
});
