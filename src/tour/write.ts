/** The tour's folder: pictures, charts, `summary.json` and `index.html`, each written whole. */
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../io/index.ts";
import { tourPage } from "./page.ts";
import type { TourReport } from "./run.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Removes the pictures of an earlier tour, so that none lies beside a summary that does not know it. */
async function removeEarlier(folder: string, { visits }: TourReport): Promise<void> {
  const kept = new Set(
    visits.flatMap(({ exhibits }) => exhibits.flatMap((e) => ("file" in e ? [e.file] : []))),
  );
  const earlier = await readFile(join(folder, "index.html"), "utf8").catch(() => "");
  for (const name of await readdir(folder)) {
    const own =
      /\.(?:png|svg)$/.test(name) && (earlier.includes(`title="${name}"`) || /-[\w-]+\.svg$/.test(name));
    if (own && !kept.has(name)) await rm(join(folder, name), { force: true });
  }
}

/** Writes a tour into a folder and returns the path of its page, which is written last. */
export async function writeTour(folder: string, report: TourReport): Promise<string> {
  await mkdir(folder, { recursive: true });
  await removeEarlier(folder, report);
  for (const exhibit of report.visits.flatMap(({ exhibits }) => exhibits)) {
    if (exhibit.type === "figure") await writeFileAtomic(join(folder, exhibit.file), exhibit.png);
    if (exhibit.type === "chart") await writeFileAtomic(join(folder, exhibit.file), bytes(exhibit.svg));
  }
  await writeFileAtomic(join(folder, "summary.json"), bytes(`${JSON.stringify(report.summary, null, 2)}\n`));
  const page = join(folder, "index.html");
  await writeFileAtomic(page, bytes(tourPage(report)));
  return page;
}
