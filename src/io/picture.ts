/** Pixels row by row, channels interleaved. The array's type is the depth: bytes, 16-bit or floats. // [H, W, C] */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly data: Uint8Array | Uint16Array | Float32Array;
}
