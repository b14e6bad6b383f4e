/** Room on the disk: a job that fills it would take others' results with it. */
import { statfs } from "node:fs/promises";
import { formatBytes } from "../../tensor/index.ts";
import { HttpError } from "./http-error.ts";

/** Bytes that stay free, unless told otherwise. */
export const KEPT_FREE = 2 ** 30;

/** @throws HttpError 507 when fewer bytes are free where a folder lies */
export async function needRoomIn(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free >= bytes) return;
  throw new HttpError(
    507,
    `${formatBytes(free)} are free where results are kept, ${formatBytes(bytes)} must stay free: remove jobs, or start the studio with another --data`,
  );
}
