/** Camera trajectories: RealEstate10K text, NeRF `transforms.json`, COLMAP text. */
import { join } from "#node";
import { ArgumentError, FormatError } from "../../errors.ts";
import {
  type Camera,
  checkCamera,
  fromOpenGlPose,
  type Intrinsics,
  type Matrix4,
  quaternionRows,
  rigid,
} from "../../geometry/index.ts";
import { readJson, readLines } from "../files.ts";

/** One camera of a trajectory. */
export interface Frame {
  readonly camera: Camera;
  /** Microseconds into the video, where the format has them. */
  readonly timestamp?: number;
  /** The picture's file, where the format names one. */
  readonly image?: string;
}

/** Cameras of a recording, in the order of time. */
export interface Trajectory {
  /** Where the pictures come from, such as a video's address. */
  readonly source?: string;
  readonly frames: readonly Frame[];
}

/** The frame, or an error of the file's own kind that says where. */
function frame(where: string, build: () => Frame): Frame {
  try {
    const built = build();
    checkCamera(built.camera);
    return built;
  } catch (cause) {
    if (cause instanceof ArgumentError) throw new FormatError(`${where}: ${cause.message}`, { cause });
    throw cause;
  }
}

const finite = (where: string, fields: readonly string[]): number[] =>
  fields.map((text) => {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) throw new FormatError(`${where}: "${text}" is no number`);
    return value;
  });

/**
 * A RealEstate10K file: the video's address, then timestamp, fx fy cx cy as shares of the picture, two zeros, and the
 * world-to-camera rows. `width` and `height` are the pictures' size in pixels.
 */
export async function readRealEstate10k(path: string, width: number, height: number): Promise<Trajectory> {
  const [source, ...lines] = await readLines(path);
  if (source === undefined || lines.length === 0) throw new FormatError(`${path}: no camera lines`);
  const frames = lines.map((line, i) => {
    const where = `${path}: line ${i + 2}`;
    const values = finite(where, line.trim().split(/\s+/));
    if (values.length !== 19) throw new FormatError(`${where}: expected 19 numbers, got ${values.length}`);
    const [timestamp, fx, fy, cx, cy] = values as [number, number, number, number, number];
    const intrinsics = { width, height, fx: fx * width, fy: fy * height, cx: cx * width, cy: cy * height };
    return frame(where, () => ({
      timestamp,
      camera: { ...intrinsics, worldToCamera: [...values.slice(7), 0, 0, 0, 1] },
    }));
  });
  return { source, frames };
}

interface NerfFrame extends NerfIntrinsics {
  file_path?: string;
  transform_matrix?: number[][];
}
interface NerfIntrinsics {
  w?: number;
  h?: number;
  fl_x?: number;
  fl_y?: number;
  cx?: number;
  cy?: number;
  camera_angle_x?: number;
}

function nerfIntrinsics(
  where: string,
  { w, h, fl_x, fl_y, cx, cy, camera_angle_x }: NerfIntrinsics,
): Intrinsics {
  if (!w || !h) throw new FormatError(`${where}: no picture size \`w\` and \`h\``);
  const fx = fl_x ?? (camera_angle_x ? w / 2 / Math.tan(camera_angle_x / 2) : undefined);
  if (!fx) throw new FormatError(`${where}: neither \`fl_x\` nor \`camera_angle_x\``);
  return { width: w, height: h, fx, fy: fl_y ?? fx, cx: cx ?? w / 2, cy: cy ?? h / 2 };
}

/** A NeRF `transforms.json`: camera-to-world poses with OpenGL axes. Lens distortion is not undone. */
export async function readNerfTransforms(path: string): Promise<Trajectory> {
  const json = (await readJson(path)) as NerfIntrinsics & { frames?: NerfFrame[] };
  if (!Array.isArray(json?.frames) || json.frames.length === 0)
    throw new FormatError(`${path}: no \`frames\``);
  const frames = json.frames.map((entry, i) => {
    const where = `${path}: frame ${i}`;
    const pose = entry.transform_matrix?.flat();
    if (pose?.length !== 16) throw new FormatError(`${where}: \`transform_matrix\` is not 4x4`);
    return frame(where, () => ({
      ...(entry.file_path ? { image: entry.file_path } : {}),
      camera: { ...nerfIntrinsics(where, { ...json, ...entry }), worldToCamera: fromOpenGlPose(pose) },
    }));
  });
  return { frames };
}

/** Parameters of COLMAP's undistorted models, as fx fy cx cy; of the radial ones the distortion is left out. */
function colmapIntrinsics(
  where: string,
  model: string,
  p: readonly number[],
): [number, number, number, number] {
  if (model === "PINHOLE" || model === "OPENCV") return [p[0]!, p[1]!, p[2]!, p[3]!];
  if (["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"].includes(model)) return [p[0]!, p[0]!, p[1]!, p[2]!];
  throw new FormatError(
    `${where}: camera model ${model} is not one of SIMPLE_PINHOLE, PINHOLE, SIMPLE_RADIAL, RADIAL, OPENCV`,
  );
}

/**
 * Whether a line of images.txt is the first of an image's two: id, rotation, place, camera, name. The second lists points as
 * `x y id`, and is empty without any; a name that reads as a number cannot be told from those.
 */
function isImageLine(fields: readonly string[]): boolean {
  if (fields.length < 10) return false;
  const points = fields.length % 3 === 0 && fields.every((field) => Number.isFinite(Number(field)));
  return /^\d+$/.test(fields[0]!) && !points;
}

/** A COLMAP text model: the folder with `cameras.txt` and `images.txt`. Frames are in the order of their image ids. */
export async function readColmap(folder: string): Promise<Trajectory> {
  const entries = async (file: string): Promise<[where: string, fields: string[]][]> =>
    (await readLines(join(folder, file))).map((line, i) => [
      `${join(folder, file)}: entry ${i}`,
      line.split(" "), // of an image the name comes last, and may hold spaces
    ]);
  const intrinsics = new Map<string, Intrinsics>();
  for (const [where, fields] of await entries("cameras.txt")) {
    if (fields[0]!.startsWith("#")) continue;
    const [id, model, ...numbers] = fields as [string, string, ...string[]];
    const [width, height, ...parameters] = finite(where, numbers) as [number, number, ...number[]];
    const [fx, fy, cx, cy] = colmapIntrinsics(where, model, parameters);
    intrinsics.set(id, { width, height, fx, fy, cx, cy });
  }
  const images = (await entries("images.txt")).filter(([, fields]) => isImageLine(fields));
  const frames = images.map(([where, fields]): [number, Frame] => {
    const [id, qw, qx, qy, qz, tx, ty, tz] = finite(where, fields.slice(0, 8)) as [number, ...number[]] &
      [number, number, number, number, number, number, number, number];
    const camera = intrinsics.get(fields[8]!);
    if (!camera) throw new FormatError(`${where}: camera ${fields[8]} is not in cameras.txt`);
    const pose = (): Matrix4 => rigid(quaternionRows([qw, qx, qy, qz]), [tx, ty, tz]);
    return [
      id,
      frame(where, () => ({
        image: fields.slice(9).join(" "),
        camera: { ...camera, worldToCamera: pose() },
      })),
    ];
  });
  if (frames.length === 0) throw new FormatError(`${folder}: images.txt has no images`);
  return { frames: frames.sort(([a], [b]) => a - b).map(([, f]) => f) };
}

/** A 4x4 matrix of numbers in text, such as a 7-Scenes pose (camera-to-world there). */
export async function readMatrix4(path: string): Promise<Matrix4> {
  const values = finite(
    path,
    (await readLines(path)).flatMap((line) => line.trim().split(/\s+/)),
  );
  if (values.length !== 16) throw new FormatError(`${path}: expected 16 numbers, got ${values.length}`);
  return values;
}
