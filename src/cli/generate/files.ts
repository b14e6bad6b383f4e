/** Writes pictures under names that do not collide, whole files only, and removes temporary files when stopped. */
import { rmdirSync, rmSync } from "node:fs";
import { mkdir, readdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { writeFileAtomic } from "../../io/index.ts";
import type { Seed } from "../../tensor/index.ts";
import { UsageError } from "../errors.ts";

const NUMBERED = /^(\d{5,})-\d+\.png$/;

/** Where the pictures of one call go. */
export interface PictureFiles {
  /** @throws UsageError for a name that is taken */
  check(seeds: readonly Seed[]): Promise<void>;
  /** Writes a picture under the next free name, which is returned. */
  write(seed: Seed, png: Uint8Array): Promise<string>;
  /** Writes a preview. */
  preview(png: Uint8Array): Promise<void>;
  /** Removes the preview, and folders that were made for nothing. Takes no time, so that it may run at exit. */
  tidy(): void;
}

const withSuffix = (file: string, suffix: string): string => file.replace(/(\.png)?$/i, `${suffix}.png`);

async function nextNumber(folder: string): Promise<number> {
  const numbers = (await readdir(folder)).map((name) => Number(NUMBERED.exec(name)?.[1] ?? -1));
  return Math.max(-1, ...numbers) + 1;
}

/**
 * `out` is a folder, in which pictures are called `00000-SEED.png` and so on, or the name of a `.png`, to which seeds
 * are added when there are several. Folders are made when the first file is.
 */
export function pictureFiles(out: string, count: number): PictureFiles {
  const isFile = /\.png$/i.test(out);
  const folder = resolve(isFile ? dirname(out) : out);
  const previewPath = isFile ? withSuffix(out, ".preview") : join(out, "preview.png");
  let made: string | undefined;
  let previewed = false;
  const named = (seed: Seed): string => (count === 1 ? out : withSuffix(out, `-${seed}`));
  const prepare = async (): Promise<void> => {
    made ??= await mkdir(folder, { recursive: true });
  };
  return {
    async check(seeds) {
      for (const path of isFile ? seeds.map(named) : [])
        if (await stat(path).catch(() => undefined))
          throw new UsageError(`--out ${path}: this is there already; --overwrite writes over it`);
    },
    async write(seed, png) {
      await prepare();
      const number = isFile ? "" : String(await nextNumber(folder)).padStart(5, "0");
      const path = isFile ? named(seed) : join(out, `${number}-${seed}.png`);
      await writeFileAtomic(path, png);
      return path;
    },
    async preview(png) {
      await prepare();
      previewed = true;
      await writeFileAtomic(previewPath, png);
    },
    tidy() {
      if (previewed) rmSync(previewPath, { force: true });
      for (let path = folder; made && path.startsWith(made); path = dirname(path)) {
        try {
          rmdirSync(path);
        } catch {
          return; // it holds pictures
        }
      }
    },
  };
}
