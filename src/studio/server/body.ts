/** Bodies of requests, as long as they keep to the limits. */
import { formatBytes } from "../../tensor/index.ts";
import { HttpError } from "./http-error.ts";

export interface BodyLimits {
  readonly bytes: number;
  readonly seconds: number;
}

/** Bytes of all bodies that are being received; beyond the budget, new ones are asked to come later. */
let receiving = 0;
const BUDGET = 384 * 2 ** 20;

/** The body of a request. @throws HttpError 413 too large, 408 too slow, 503 too much at once, 400 empty */
export async function readBody(request: Request, { bytes, seconds }: BodyLimits): Promise<Uint8Array> {
  const tooLarge = (): HttpError => new HttpError(413, `expected at most ${formatBytes(bytes)}`);
  if (Number(request.headers.get("content-length") ?? 0) > bytes) throw tooLarge();
  const reader = request.body?.getReader();
  if (!reader) throw new HttpError(400, "expected a body");
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    reader.cancel().catch(() => {});
  }, seconds * 1000);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (late) throw new HttpError(408, `expected the whole body within ${seconds} s`);
      if (done) break;
      size += value.length;
      receiving += value.length;
      if (size > bytes) {
        reader.cancel().catch(() => {});
        throw tooLarge();
      }
      if (receiving > BUDGET) {
        reader.cancel().catch(() => {});
        throw new HttpError(503, "too much is being uploaded at this moment; try again");
      }
      chunks.push(value);
    }
  } finally {
    clearTimeout(timer);
    receiving -= size;
  }
  if (size === 0) throw new HttpError(400, "expected a body, got an empty one");
  return Buffer.concat(chunks, size);
}
