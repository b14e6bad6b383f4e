/** The tour's folder: pictures, charts, `summary.json` and `index.html`, each written whole. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../io/index.ts";
import { tourPage } from "./page.ts";
import type { TourReport } from "./run.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Writes a tour into a folder and returns the path of its page, which is written last. */
export async function writeTour(folder: string, report: TourReport): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (const exhibit of report.visits.flatMap(({ exhibits }) => exhibits)) {
    if (exhibit.type === "figure") await writeFileAtomic(join(folder, exhibit.file), exhibit.png);
    if (exhibit.type === "chart") await writeFileAtomic(join(folder, exhibit.file), bytes(exhibit.svg));
  }
  await writeFileAtomic(join(folder, "summary.json"), bytes(`${JSON.stringify(report.summary, null, 2)}\n`));
  const page = join(folder, "index.html");
  await writeFileAtomic(page, bytes(tourPage(report)));
  return page;
}
