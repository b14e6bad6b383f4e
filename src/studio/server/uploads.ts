/** Pictures that came from outside: checked before they are believed, and named by their content. */
import { createHash } from "node:crypto";
import { lstat, mkdir, readFile, utimes } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../../errors.ts";
import { decodePicture, encodePicture, type Picture, probePicture, writeFileAtomic } from "../../io/index.ts";
import type { UploadInfo } from "../api-types.ts";
import type { BodyLimits } from "./body.ts";
import { openGate } from "./gate.ts";
import { HttpError } from "./http-error.ts";
import { type Retention, sweep } from "./retention.ts";

export interface UploadLimits extends BodyLimits {
  readonly pixels: number;
}

export const UPLOAD_LIMITS: UploadLimits = { bytes: 256 * 2 ** 20, pixels: 100_000_000, seconds: 120 };

/** Uploads that no job needs are kept for a day, and up to a GiB of them. */
export const UPLOAD_RETENTION: Retention = { hours: 24, bytes: 2 ** 30 };

const HASH = /^[0-9a-f]{64}$/;

/** Pixels only: no SVG, whose reader would follow what the file says. */
const TAKEN: ReadonlySet<string> = new Set(["png", "jpeg", "webp", "gif", "tiff", "heif"]);

/** Pictures that are decoded at once: each may take hundreds of megabytes. */
const DECODERS = 2;

const MOST_FORMATS = 10_000;

/** What browsers show; anything else they get as PNG. */
const SHOWN: Readonly<Record<string, string>> = {
  png: "image/png",
  jpeg: "image/jpeg",
  webp: "image/webp",
  gif: "image/gif",
};

export type UploadKind = "picture" | "volume" | "file";

/** NIfTI, plain or compressed, or TIFF, by its first bytes; the job itself reads the rest. */
function isVolume(bytes: Uint8Array): boolean {
  const { length } = bytes;
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  const [first, header] = length < 4 ? [0, 0] : [view.getUint16(0), view.getInt32(0, true)];
  const tiff = first === 0x4949 || first === 0x4d4d;
  const nifti = [348, 540].includes(header) || (length >= 4 && [348, 540].includes(view.getInt32(0)));
  return tiff || nifti || first === 0x1f8b;
}

export interface Uploads {
  /** Takes a file of a kind, by default a picture. @throws HttpError for another */
  add(bytes: Uint8Array, kind?: UploadKind): Promise<UploadInfo>;
  addPicture(picture: Picture): Promise<UploadInfo>;
  info(hash: string): Promise<UploadInfo | undefined>;
  /** Where the picture lies, if it is there. */
  path(hash: string): Promise<string | undefined>;
  /** Keeps a picture for the job that is about to need it; false when it is not there. */
  hold(hash: string): Promise<boolean>;
  /** Removes pictures that no job needs, by age and size. It happens by itself when much is uploaded. */
  sweep(): void;
  /** What a browser shows of it: the file itself, or a PNG of it. */
  view(
    hash: string,
  ): Promise<{ path: string; type: string } | { bytes: Uint8Array; type: string } | undefined>;
}

/** Opens the pictures below a folder. `needed`: hashes that jobs refer to. */
export async function openUploads(
  root: string,
  limits: UploadLimits,
  { needed, ...retention }: Retention & { readonly needed: () => ReadonlySet<string> },
): Promise<Uploads> {
  const folder = join(root, "uploads");
  await mkdir(folder, { recursive: true });
  let fresh = 0; // bytes since the last sweep
  const tidy = (): void => {
    fresh = 0;
    const hashes = needed();
    sweep(folder, (name) => hashes.has(name), retention);
  };
  tidy();

  const path = async (hash: string): Promise<string | undefined> => {
    if (!HASH.test(hash)) return undefined;
    const file = join(folder, hash);
    return (await lstat(file).catch(() => undefined))?.isFile() ? file : undefined; // no link either
  };

  const decode = openGate(DECODERS);
  const formats = new Map<string, string>(); // media types by hash

  async function hold(hash: string): Promise<boolean> {
    const file = await path(hash);
    const now = new Date();
    return (
      file !== undefined &&
      utimes(file, now, now).then(
        () => true,
        () => false,
      )
    );
  }

  async function describe(bytes: Uint8Array, hash: string): Promise<UploadInfo> {
    const { width, height, format } = await probePicture(bytes, {
      maxPixels: limits.pixels,
      name: "the picture",
    });
    if (!TAKEN.has(format))
      throw new HttpError(
        422,
        `expected PNG, JPEG, WebP, GIF, TIFF or AVIF, got ${format || "another format"}`,
      );
    return { hash, width, height, format, bytes: bytes.length };
  }

  async function add(bytes: Uint8Array, kind: UploadKind = "picture"): Promise<UploadInfo> {
    const hash = createHash("sha256").update(bytes).digest("hex");
    try {
      if (bytes.length === 0) throw new HttpError(422, "the file is empty");
      if (kind === "volume" && !isVolume(bytes)) throw new HttpError(422, "expected NIfTI or TIFF");
      const info =
        kind === "picture" ? await describe(bytes, hash) : { hash, format: kind, bytes: bytes.length };
      if (await hold(hash)) return info;
      // All of it can be read.
      if (kind === "picture")
        await decode(() => decodePicture(bytes, { maxPixels: limits.pixels, name: "the picture" }));
      await writeFileAtomic(join(folder, hash), bytes);
      fresh += bytes.length;
      if (fresh > retention.bytes / 8) tidy();
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
    hold,
    sweep: tidy,
    async info(hash) {
      const file = await path(hash);
      if (file === undefined) return undefined;
      const bytes = await readFile(file);
      return describe(bytes, hash).catch(() => ({ hash, format: "file", bytes: bytes.length }));
    },
    async view(hash) {
      const file = await path(hash);
      if (file === undefined) return undefined;
      const known = formats.get(hash);
      if (known !== undefined) return { path: file, type: known };
      const bytes = await readFile(file);
      const type = SHOWN[(await describe(bytes, hash)).format];
      if (formats.size > MOST_FORMATS) formats.clear();
      if (type) formats.set(hash, type);
      if (type) return { path: file, type };
      const png = await decode(async () => encodePicture(await decodePicture(bytes)));
      return { bytes: png, type: "image/png" };
    },
  };
}
