import fc from "fast-check";
import { expect, test } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import {
  type Camera,
  cameraCentre,
  checkCamera,
  IDENTITY,
  intrinsicsFromFov,
  invertRigid,
  lookAt,
  multiply,
  project,
  quaternionRows,
  resizeIntrinsics,
  rigid,
  rigidError,
  unproject,
  type Vector3,
} from "../../src/geometry/index.ts";

const number = fc.double({ min: -3, max: 3, noNaN: true });
const vector = fc.tuple(number, number, number);
const quaternion = fc.tuple(number, number, number, number).filter((q) => Math.hypot(...q) > 0.1);
const camera = (pose: readonly number[]): Camera => ({
  ...intrinsicsFromFov(64, 48, 60),
  worldToCamera: pose,
});

test("a projected point unprojects to itself at its depth", () => {
  fc.assert(
    fc.property(quaternion, vector, vector, (q, t, p) => {
      const c = camera(rigid(quaternionRows(q), t));
      const { x, y, depth } = project(c, p);
      fc.pre(Math.abs(depth) > 1e-2);
      unproject(c, x, y, depth).forEach((value, i) => {
        expect(value).toBeCloseTo(p[i]!, 6);
      });
    }),
  );
});

test("rigid transforms invert, and quaternions give rotations", () => {
  fc.assert(
    fc.property(quaternion, vector, (q, t) => {
      const m = rigid(quaternionRows(q), t);
      expect(rigidError(m)).toBeLessThan(1e-9);
      multiply(m, invertRigid(m)).forEach((value, i) => {
        expect(value).toBeCloseTo(IDENTITY[i]!, 9);
      });
    }),
  );
});

test("a camera sees what it looks at in the middle, with up above", () => {
  const eye: Vector3 = [1, 2, -5];
  const c = camera(lookAt(eye, [0, 0.5, 0]));
  expect(project(c, [0, 0.5, 0])).toMatchObject({ x: expect.closeTo(32, 9), y: expect.closeTo(24, 9) });
  expect(project(c, [0, 1, 0]).y).toBeLessThan(24);
  cameraCentre(c).forEach((value, i) => {
    expect(value).toBeCloseTo(eye[i]!, 9);
  });
  expect(() => lookAt([0, 0, 0], [0, 1, 0])).toThrow(ArgumentError);
});

test("a picture of half the size shows a point at half the place", () => {
  const c = camera(lookAt([0, 0, -4], [0, 0, 0]));
  const [big, small] = [project(c, [0.3, 0.2, 0]), project(resizeIntrinsics(c, 32, 24), [0.3, 0.2, 0])];
  expect([small.x * 2, small.y * 2]).toEqual([expect.closeTo(big.x, 9), expect.closeTo(big.y, 9)]);
});

test("what is no camera is refused", () => {
  const c = camera(IDENTITY);
  expect(() => checkCamera({ ...c, fx: 0 })).toThrow(/focal lengths must be positive/);
  expect(() => checkCamera({ ...c, worldToCamera: IDENTITY.map((x) => 2 * x) })).toThrow(/no rotation/);
  expect(() => checkCamera({ ...c, worldToCamera: [Number.NaN, ...IDENTITY.slice(1)] })).toThrow(
    /no rotation/,
  );
  expect(() => intrinsicsFromFov(10, 10, 180)).toThrow(ArgumentError);
});
