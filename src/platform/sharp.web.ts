/** `#sharp` in browsers, which have their own decoders. */
import { DeviceError } from "../errors.ts";

export default function sharp(): never {
  throw new DeviceError(
    "pictures are decoded and encoded by sharp, in Node only: in a browser draw them on a canvas, and take or give its pixels",
  );
}
