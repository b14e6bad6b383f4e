/** Pictures that came from outside: checked before they are believed, and named by their content. */
import { createHash } from "node:crypto";
import { mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../../errors.ts";
import { decodePicture, encodePicture, type Picture, probePicture, writeFileAtomic } from "../../io/index.ts";
import type { UploadInfo } from "../api-types.ts";
import { HttpError } from "./http-error.ts";

export interface UploadLimits {
  readonly bytes: number;
  readonly pixels: number;
  readonly seconds: number;
}

export const UPLOAD_LIMITS: UploadLimits = { bytes: 32 * 2 ** 20, pixels: 40_000_000, seconds: 30 };

const HASH = /^[0-9a-f]{64}$/;

/** What browsers show; anything else they get as PNG. */
const SHOWN: Readonly<Record<string, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  webp: "image/webp",
  gif: "image/gif",
};

export interface Uploads {
  add(bytes: Uint8Array): Promise<UploadInfo>;
  addPicture(picture: Picture): Promise<UploadInfo>;
  info(hash: string): Promise<UploadInfo | undefined>;
  /** Where the picture lies, if it is there. */
  path(hash: string): Promise<string | undefined>;
  view(hash: string): Promise<{ bytes: Uint8Array; type: string } | undefined>;
}

export async function openUploads(root: string, limits: UploadLimits = UPLOAD_LIMITS): Promise<Uploads> {
  const folder = join(root, "uploads");
  await mkdir(folder, { recursive: true });

  const path = async (hash: string): Promise<string | undefined> => {
    if (!HASH.test(hash)) return undefined;
    const file = join(folder, hash);
    return (await stat(file).catch(() => undefined))?.isFile() ? file : undefined;
  };

  async function describe(bytes: Uint8Array, hash: string): Promise<UploadInfo> {
    const { width, height, format } = await probePicture(bytes, {
      maxPixels: limits.pixels,
      name: "the picture",
    });
    return { hash, width, height, format, bytes: bytes.length };
  }

  async function add(bytes: Uint8Array): Promise<UploadInfo> {
    const hash = createHash("sha256").update(bytes).digest("hex");
    try {
      const info = await describe(bytes, hash);
      if (await path(hash)) return info;
      await decodePicture(bytes, { maxPixels: limits.pixels, name: "the picture" }); // all of it can be read
      await writeFileAtomic(join(folder, hash), bytes);
      return info;
    } catch (error) {
      if (error instanceof FormatError) throw new HttpError(422, error.message);
      throw error;
    }
  }

  return {
    add,
    addPicture: async (picture) => add(await encodePicture(picture)),
    path,
    async info(hash) {
      const file = await path(hash);
      return file === undefined ? undefined : describe(await readFile(file), hash);
    },
    async view(hash) {
      const file = await path(hash);
      if (file === undefined) return undefined;
      const bytes = await readFile(file);
      const { format } = await describe(bytes, hash);
      const type = SHOWN[format];
      if (type) return { bytes, type };
      return { bytes: await encodePicture(await decodePicture(bytes)), type: "image/png" };
    },
  };
}

/** Bytes of all bodies that are being received; beyond the budget, new ones are asked to come later. */
let receiving = 0;
const BUDGET = 128 * 2 ** 20;

/** The body of a request, as long as it keeps to the limits. */
export async function readBody(request: Request, { bytes, seconds }: UploadLimits): Promise<Uint8Array> {
  const tooLarge = (): HttpError => new HttpError(413, `expected at most ${bytes} bytes`);
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
