/** Volumes as slices: NIfTI and TIFF stacks. */
import { isNIFTI, NIFTI1, readHeader, readImage } from "nifti-reader-js";
import { FormatError } from "../../errors.ts";
import { decodePicture, type Picture, probePicture } from "../../io/picture-codec.ts";
import { readBytes } from "../files.ts";

/** Slices of a volume, and where it lies. */
export interface Volume {
  /** Slices along the last axis, floats for NIfTI (after its slope and intercept), the file's depth for TIFF. */
  readonly slices: readonly Picture[];
  /** Millimetres per voxel along x, y and the slices, where the format has them. */
  readonly spacing?: readonly [x: number, y: number, z: number];
  /** From voxel to scanner coordinates in millimetres, rows of a 4x4 matrix, where a three-dimensional file says them. */
  readonly affine?: readonly (readonly number[])[];
}

/** Whether a file's name ends as NIfTI's do. */
export const isNiftiName = (name: string): boolean => /\.nii(\.gz)?$/i.test(name);

/** Readers of one voxel by NIfTI's datatype code. */
const VOXELS: Record<
  number,
  { bytes: number; read: (view: DataView, at: number, little: boolean) => number }
> = {
  [NIFTI1.TYPE_UINT8]: { bytes: 1, read: (v, at) => v.getUint8(at) },
  [NIFTI1.TYPE_INT8]: { bytes: 1, read: (v, at) => v.getInt8(at) },
  [NIFTI1.TYPE_INT16]: { bytes: 2, read: (v, at, little) => v.getInt16(at, little) },
  [NIFTI1.TYPE_UINT16]: { bytes: 2, read: (v, at, little) => v.getUint16(at, little) },
  [NIFTI1.TYPE_INT32]: { bytes: 4, read: (v, at, little) => v.getInt32(at, little) },
  [NIFTI1.TYPE_UINT32]: { bytes: 4, read: (v, at, little) => v.getUint32(at, little) },
  [NIFTI1.TYPE_FLOAT32]: { bytes: 4, read: (v, at, little) => v.getFloat32(at, little) },
  [NIFTI1.TYPE_INT64]: { bytes: 8, read: (v, at, little) => Number(v.getBigInt64(at, little)) },
  [NIFTI1.TYPE_UINT64]: { bytes: 8, read: (v, at, little) => Number(v.getBigUint64(at, little)) },
  [NIFTI1.TYPE_FLOAT64]: { bytes: 8, read: (v, at, little) => v.getFloat64(at, little) },
};

/** A NIfTI-1 or -2 file, gzip or not. A fourth axis counts as more slices. */
export async function readNifti(path: string): Promise<Volume> {
  const bytes = await readBytes(path);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  if (!isNIFTI(buffer)) throw new FormatError(`${path}: is no NIfTI file`);
  const header = readHeader(buffer)!;
  const { dims, datatypeCode, littleEndian, pixDims, scl_slope, scl_inter } = header;
  const { affine, qform_code, sform_code } = header;
  const rank = dims[0]!;
  if (rank < 2) throw new FormatError(`${path}: a NIfTI file of ${rank} axis; expected pictures or a volume`);
  const [width, height, ...rest] = dims.slice(1, rank + 1) as [number, number, ...number[]];
  const count = rest.reduce((product, d) => product * d, 1);
  const voxel = VOXELS[datatypeCode];
  if (!voxel) throw new FormatError(`${path}: NIfTI datatype ${datatypeCode} is not supported`);
  const view = new DataView(readImage(header, buffer));
  const size = width * height;
  if (!(size > 0 && view.byteLength >= size * count * voxel.bytes))
    throw new FormatError(`${path}: ${width}x${height}x${count} voxels are more than the file holds`);
  // As nibabel has it: without a slope that is a number there is no scaling.
  const [slope, intercept] = scl_slope && Number.isFinite(scl_slope) ? [scl_slope, scl_inter] : [1, 0];
  if (!Number.isFinite(intercept))
    throw new FormatError(`${path}: the intercept of its values is ${intercept}`);
  const slices = Array.from({ length: count }, (_, z) => {
    const data = new Float32Array(size);
    for (let i = 0; i < size; i++)
      data[i] = voxel.read(view, (z * size + i) * voxel.bytes, littleEndian) * slope + intercept;
    return { width, height, channels: 1, data };
  });
  const placed = rank === 3 && (qform_code > 0 || sform_code > 0);
  return {
    slices,
    spacing: [pixDims[1]!, pixDims[2]!, pixDims[3]!],
    ...(placed && { affine }),
  };
}

/** The scanner's axis that a voxel axis runs along, and in which direction. */
interface Axis {
  readonly along: number;
  readonly sign: number;
}

/** For each voxel axis the scanner's axis that is nearest to it. */
function axesOf(affine: readonly (readonly number[])[]): Axis[] {
  const free = new Set([0, 1, 2]);
  return [0, 1, 2].map((voxel) => {
    const column = (row: number): number => affine[row]![voxel]!;
    const along = [...free].reduce((a, b) => (Math.abs(column(b)) > Math.abs(column(a)) ? b : a));
    free.delete(along);
    return { along, sign: Math.sign(column(along)) };
  });
}

const sizesOf = ({ slices }: Volume): readonly [number, number, number] => [
  slices[0]!.width,
  slices[0]!.height,
  slices.length,
];

/** Tolerances of headers: a hundredth of the spacing, half a voxel of the place. */
const SAME_SPACING = 0.01;
const SAME_PLACE = 0.5;

/**
 * A volume with its axes in the order and direction of another one, such as a mask that was stored mirrored. Volumes that do
 * not say where they lie stay as they are.
 *
 * @throws {FormatError} for other voxels than the other's, or another place, though both say where they lie
 */
export function alignedTo(volume: Volume, other: Volume, name: string): Volume {
  if (!volume.affine || !other.affine) return volume;
  const [own, wanted] = [axesOf(volume.affine), axesOf(other.affine)];
  const source = wanted.map(({ along }) => own.findIndex((axis) => axis.along === along));
  const flipped = wanted.map(({ sign }, i) => own[source[i]!]!.sign !== sign);
  const from = sizesOf(volume);
  const sizes = source.map((axis) => from[axis]!) as [number, number, number];
  checkSamePlace(volume.affine, other.affine, { source, flipped, sizes }, name);
  if (source.every((axis, i) => axis === i) && !flipped.includes(true)) return volume;
  const [width, height, count] = sizes;
  const slices = Array.from({ length: count }, (_, z) => {
    const data = new Float32Array(width * height);
    for (let i = 0; i < data.length; i++) {
      const at = [i % width, Math.floor(i / width), z];
      const stored = [0, 0, 0];
      for (const [axis, k] of source.entries())
        stored[k] = flipped[axis] ? sizes[axis]! - 1 - at[axis]! : at[axis]!;
      const [x, y, slice] = stored as [number, number, number];
      data[i] = volume.slices[slice]!.data[y * from[0] + x]!;
    }
    return { width, height, channels: 1, data };
  });
  return { slices, affine: other.affine, ...(other.spacing && { spacing: other.spacing }) };
}

/** How the axes of one volume become those of another. */
interface Rearranged {
  readonly source: readonly number[];
  readonly flipped: readonly boolean[];
  readonly sizes: readonly number[];
}

function checkSamePlace(
  affine: readonly (readonly number[])[],
  other: readonly (readonly number[])[],
  { source, flipped, sizes }: Rearranged,
  name: string,
): void {
  const length = (matrix: readonly (readonly number[])[], axis: number): number =>
    Math.hypot(...[0, 1, 2].map((row) => matrix[row]![axis]!));
  const [spacing, expected] = [
    source.map((axis) => length(affine, axis)),
    [0, 1, 2].map((i) => length(other, i)),
  ];
  const text = (values: readonly number[]): string => values.map((v) => Number(v.toPrecision(4))).join(" x ");
  if (spacing.some((v, i) => Math.abs(v / expected[i]! - 1) > SAME_SPACING))
    throw new FormatError(`${name}: voxels of ${text(spacing)} mm, its partner's are ${text(expected)} mm`);
  const first = [0, 1, 2].map((row) =>
    source.reduce(
      (sum, axis, i) => sum + (flipped[i] ? (sizes[i]! - 1) * affine[row]![axis]! : 0),
      affine[row]![3]!,
    ),
  );
  const apart = Math.hypot(...first.map((v, row) => v - other[row]![3]!));
  if (apart > SAME_PLACE * Math.max(...expected))
    throw new FormatError(`${name}: lies ${Number(apart.toPrecision(4))} mm away from its partner`);
}

/** All pages of a TIFF file, which must be of one size. */
export async function readTiffStack(path: string): Promise<Volume> {
  const bytes = await readBytes(path);
  const { pages } = await probePicture(bytes, { name: path });
  const slices: Picture[] = [];
  for (let page = 0; page < pages; page++)
    slices.push(await decodePicture(bytes, { name: `${path}, page ${page}`, colour: "as-is", page }));
  const odd = slices.findIndex((s) => s.width !== slices[0]!.width || s.height !== slices[0]!.height);
  if (odd >= 0)
    throw new FormatError(
      `${path}: page ${odd} is ${slices[odd]!.width}x${slices[odd]!.height}, the first ${slices[0]!.width}x${slices[0]!.height}`,
    );
  return { slices };
}

/** A volume by the ending of its name: NIfTI, or all pages of a TIFF file. */
export const readVolume = (path: string): Promise<Volume> =>
  isNiftiName(path) ? readNifti(path) : readTiffStack(path);
