/** Moving pictures: GIF, which everything shows. */
import sharp from "#sharp";
import { ArgumentError } from "../errors.ts";
import type { Picture } from "./picture.ts";

/**
 * GIF bytes of pictures of one size with 8 bits and 1 or 3 channels, shown so many a second and repeated for ever. A GIF
 * counts hundredths of seconds and at most 256 colours a frame.
 *
 * @throws ArgumentError for no frames, other depths, sizes that differ
 */
export async function encodeAnimation(frames: readonly Picture[], rate: number): Promise<Uint8Array> {
  const [first] = frames;
  if (!first) throw new ArgumentError("encodeAnimation: no frames");
  const { width, height, channels } = first;
  const size = width * height * channels;
  const data = new Uint8Array(size * frames.length);
  for (const [i, frame] of frames.entries()) {
    const same = frame.width === width && frame.height === height && frame.channels === channels;
    if (!same || !(frame.data instanceof Uint8Array) || frame.data.length !== size)
      throw new ArgumentError(
        `encodeAnimation: frame ${i} is not ${width}x${height}x${channels} bytes, as the first`,
      );
    data.set(frame.data, i * size);
  }
  const raw = { width, height: height * frames.length, channels: channels as 1 | 3, pageHeight: height };
  const delay = frames.map(() => Math.round(1000 / rate));
  return sharp(data, { raw }).gif({ delay, loop: 0 }).toBuffer();
}
