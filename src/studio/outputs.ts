/** Pictures that a system writes into its output folder, as results: while it works, and when it is done. */
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { decodePicture } from "../io/index.ts";
import type { PictureEvent } from "./tool.ts";

/** Milliseconds between two looks. */
const LOOK_EVERY = 1000;
/** Pictures of one job; a folder of thousands is looked at with other means. */
const MOST = 60;
/** What the job's process itself writes. */
const OWN = /^(?:result-\d+|preview)\.png$/;
/** Uploaded pictures are called by their hash, and systems call their results after the picture. */
const HASH = /[0-9a-f]{64}-?/g;
/** Of pictures of a training's course, the newest counts. */
const COURSE = /(?:^|\/)samples\/(.*?)[-_]?\d+$/;

/** A word for the name of a file. */
export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9.]+/g, "-")
    .replaceAll(/^[-.]+|[-.]+$/g, "")
    .slice(0, 60) || "result";

/** Watches the folders below a job's folder. `start`: pictures from before are known already. */
export function watchOutputs(folder: string, start = Date.now()) {
  const seen = new Map<string, number>();
  let looked = 0;

  async function picture(path: string): Promise<PictureEvent | undefined> {
    const label = relative(folder, path)
      .split(sep)
      .slice(1) // the folder is called after the option
      .join("/")
      .replace(/\.png$/i, "")
      .replaceAll(HASH, "");
    const name = slug(COURSE.exec(label)?.[1] ?? label);
    const read = decodePicture(await readFile(path), { colour: "rgb" });
    return read.then(
      (decoded) => ({ type: "picture", name, label: label || "result", picture: decoded }),
      () => undefined, // being written, or not for showing
    );
  }

  return {
    /** Pictures that are new or have changed; `now`: looks in any case. */
    async *pictures(now = false): AsyncGenerator<PictureEvent> {
      if (!now && Date.now() - looked < LOOK_EVERY) return;
      looked = Date.now();
      const names = (await readdir(folder, { recursive: true }).catch(() => [] as string[])).filter(
        (name) => /\.png$/i.test(name) && !OWN.test(name),
      );
      for (const name of names.sort()) {
        const path = join(folder, name);
        const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: 0 }));
        if (mtimeMs < start || seen.get(path) === mtimeMs || seen.size >= MOST) continue;
        seen.set(path, mtimeMs);
        const event = await picture(path);
        if (event) yield event;
      }
    },
  };
}
