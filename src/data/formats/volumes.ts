/** Volumes as slices: NIfTI and TIFF stacks. */
import { isNIFTI, NIFTI1, readHeader, readImage } from "nifti-reader-js";
import { FormatError } from "../../errors.ts";
import { decodePicture, type Picture, probePicture } from "../../io/picture-codec.ts";
import { readBytes } from "../files.ts";

export interface Volume {
  /** Slices along the last axis, floats for NIfTI (after its slope and intercept), the file's depth for TIFF. */
  readonly slices: readonly Picture[];
  /** Millimetres per voxel along x, y and the slices, where the format has them. */
  readonly spacing?: readonly [x: number, y: number, z: number];
}

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
  [NIFTI1.TYPE_FLOAT64]: { bytes: 8, read: (v, at, little) => v.getFloat64(at, little) },
};

/** A NIfTI-1 or -2 file, gzip or not. A fourth axis counts as more slices. */
export async function readNifti(path: string): Promise<Volume> {
  const bytes = await readBytes(path);
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  if (!isNIFTI(buffer)) throw new FormatError(`${path}: is no NIfTI file`);
  const header = readHeader(buffer)!;
  const { dims, datatypeCode, littleEndian, pixDims, scl_slope, scl_inter } = header;
  const rank = dims[0]!;
  const [width, height, ...rest] = dims.slice(1, rank + 1) as [number, number, ...number[]];
  const count = rest.reduce((product, d) => product * d, 1);
  const voxel = VOXELS[datatypeCode];
  if (!voxel) throw new FormatError(`${path}: NIfTI datatype ${datatypeCode} is not supported`);
  const view = new DataView(readImage(header, buffer));
  const size = width * height;
  if (!(size > 0 && view.byteLength >= size * count * voxel.bytes))
    throw new FormatError(`${path}: ${width}x${height}x${count} voxels are more than the file holds`);
  const [slope, intercept] = scl_slope ? [scl_slope, scl_inter] : [1, 0];
  const slices = Array.from({ length: count }, (_, z) => {
    const data = new Float32Array(size);
    for (let i = 0; i < size; i++)
      data[i] = voxel.read(view, (z * size + i) * voxel.bytes, littleEndian) * slope + intercept;
    return { width, height, channels: 1, data };
  });
  return { slices, spacing: [pixDims[1]!, pixDims[2]!, pixDims[3]!] };
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
