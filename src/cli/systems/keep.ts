/**
 * Files of the results that an action tells, for actions with a folder of results: `NAME.png`, `NAME.svg`, `TITLE.csv`,
 * `curves.csv`, and for an album a folder of its pictures beside a sheet of them, or a GIF where they follow each other.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { slug } from "../../io/file-names.ts";
import { encodeAnimation, encodePicture, type Picture, writeFileAtomic } from "../../io/index.ts";
import { grid, overlay, toRgb } from "../../report/index.ts";
import type { Album, Figure, Table, WorkEvent } from "../../work.ts";

type Content = Uint8Array | string;
/** A file by its path below the folder, and what it holds. */
type Kept = readonly [path: string, content: Content | Promise<Content>, about: string];

const cell = (value: string | number | null): string => {
  const text = value === null ? "" : String(value);
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

const csv = ({ columns, rows }: Table): string =>
  [columns, ...rows].map((row) => `${row.map(cell).join(",")}\n`).join("");

/** What an album comes to in one picture. */
function sheetOf({ view, parts }: Album): Picture {
  const pictures = parts.map(({ picture }) => picture);
  const [picture, mask] = pictures as [Picture, Picture];
  if (view === "mask")
    return overlay(
      picture,
      Array.from(mask.data, (v) => (v > 127 ? 1 : 0)),
    );
  return grid(pictures, { columns: view === "comparison" ? 2 : Math.min(8, pictures.length) });
}

function albumFiles(album: Album): Kept[] {
  const { name, caption, view, parts, rate = 10 } = album;
  const each = parts.map(({ label, picture }, i): Kept => {
    const path = join(name, `${String(i + 1).padStart(3, "0")}-${slug(label)}.png`);
    return [path, encodePicture(picture), `${caption}: ${label}`];
  });
  const whole: Kept =
    view === "frames" || view === "scene"
      ? [
          `${name}.gif`,
          encodeAnimation(
            parts.map(({ picture }) => toRgb(picture)),
            rate,
          ),
          caption,
        ]
      : [`${name}.png`, encodePicture(sheetOf(album)), caption];
  const weights = parts.flatMap(({ label, weight }) =>
    weight === undefined ? [] : [[label, weight] as const],
  );
  const table: Kept[] =
    weights.length > 0
      ? [[join(name, "weights.csv"), csv({ columns: ["part", "weight"], rows: weights }), "weights"]]
      : [];
  return [whole, ...each, ...table];
}

/** The headings of a sheet, which its file has no room for. */
function captionOf({ caption, columns, rows }: Figure): string {
  const named = typeof columns === "number" ? [] : [`columns ${columns.join(", ")}`];
  return [caption, ...named, ...(rows ? [`rows ${rows.join(", ")}`] : [])].join("; ");
}

function filesOf(event: WorkEvent): Kept[] {
  switch (event.type) {
    case "picture":
      return [[`${event.name}.png`, encodePicture(event.picture), event.name]];
    case "figure": {
      const columns = typeof event.columns === "number" ? event.columns : event.columns.length;
      const sheet = grid(event.pictures, { columns, scale: event.scale ?? 1 });
      return [[`${event.name}.png`, encodePicture(sheet), captionOf(event)]];
    }
    case "album":
      return albumFiles(event);
    case "chart":
      return [[`${event.name}.svg`, event.svg, event.caption]];
    case "table":
      return [[`${slug(event.title)}.csv`, csv(event.table), event.title]];
    default:
      return [];
  }
}

export interface Keeper {
  /** Writes what an event holds, whole files only, and gives their paths. */
  keep(event: WorkEvent): Promise<{ path: string; about: string }[]>;
  /** Writes the curves. */
  end(): Promise<{ path: string; about: string }[]>;
}

/** Keeps results in a folder, which is made when the first one comes. */
export function resultKeeper(folder: string): Keeper {
  const curves: [string, number, string, number][] = [];
  async function write([file, content, about]: Kept): Promise<{ path: string; about: string }> {
    const path = join(folder, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFileAtomic(path, Buffer.from(await content));
    return { path, about };
  }
  return {
    async keep(event) {
      if (event.type === "metrics")
        for (const [name, value] of Object.entries(event.values))
          curves.push([event.stage, event.step, name, value]);
      const written: { path: string; about: string }[] = [];
      for (const file of filesOf(event)) written.push(await write(file));
      return written;
    },
    async end() {
      if (curves.length === 0) return [];
      const table = { columns: ["stage", "step", "measure", "value"], rows: curves };
      return [await write(["curves.csv", csv(table), "curves"])];
    },
  };
}
