/** Reports: one HTML file with everything inside, no network, light and dark. */

import { latin1Text } from "../io/latin1.ts";
import { encodePicture, type Picture } from "../io/picture-codec.ts";
import type { Table } from "../work.ts";
import { escapeHtml } from "./chart.ts";
import { toRgb } from "./pixels.ts";

export type { Table };

/** A part of a page. */
export type Section =
  | { readonly heading: string }
  | { readonly text: string }
  | { readonly table: Table; readonly caption?: string }
  /** SVG text, as `lineChart` gives it. */
  | { readonly chart: string; readonly caption?: string }
  | { readonly picture: Picture; readonly caption: string };

/** A page. */
export interface Report {
  readonly title: string;
  readonly sections: readonly Section[];
}

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
figure { margin: 1.2rem 0; } figcaption { font-size: .85rem; opacity: .75; margin-top: .35rem; }
img { max-width: 100%; image-rendering: pixelated; } svg { max-width: 100%; height: auto; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid color-mix(in srgb, currentColor 18%, transparent); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
`;

const cellText = (value: string | number | null): string => {
  if (value === null) return "–";
  return typeof value === "number" ? String(Number(value.toPrecision(5))) : value;
};

function tableHtml({ columns, rows }: Table): string {
  const cells = (tag: "th" | "td", values: readonly (string | number | null)[]): string =>
    `<tr>${values.map((v) => `<${tag}>${escapeHtml(cellText(v))}</${tag}>`).join("")}</tr>`;
  return `<div class="wide"><table><thead>${cells("th", columns)}</thead><tbody>${rows.map((r) => cells("td", r)).join("")}</tbody></table></div>`;
}

const figure = (inner: string, caption: string | undefined): string =>
  `<figure>${inner}${caption ? `<figcaption>${escapeHtml(caption)}</figcaption>` : ""}</figure>`;

async function sectionHtml(section: Section): Promise<string> {
  if ("heading" in section) return `<h2>${escapeHtml(section.heading)}</h2>`;
  if ("text" in section) return `<p>${escapeHtml(section.text)}</p>`;
  if ("table" in section) return figure(tableHtml(section.table), section.caption);
  if ("chart" in section) return figure(section.chart, section.caption);
  const { width } = section.picture;
  const png = btoa(latin1Text(await encodePicture(toRgb(section.picture))));
  // Small pictures are shown larger, pixel by pixel.
  const shown = width * Math.max(1, Math.floor(480 / width));
  const alt = escapeHtml(section.caption);
  return figure(`<img alt="${alt}" width="${shown}" src="data:image/png;base64,${png}">`, section.caption);
}

/** The report as one HTML text. */
export async function reportHtml({ title, sections }: Report): Promise<string> {
  const body = await Promise.all(sections.map(sectionHtml));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>${escapeHtml(title)}</title><style>${STYLE}</style></head>
<body><main><h1>${escapeHtml(title)}</h1>
${body.join("\n")}
</main></body></html>
`;
}

const isNumeric = (cell: string | number | null | undefined): boolean =>
  typeof cell !== "string" || /^[-+]?[\d.]+\S*$/.test(cell);

/** A table as Markdown: numbers to five digits, columns of numbers to the right. */
export function tableMarkdown({ columns, rows }: Table): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((c) => c.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`;
  const rule = columns.map((_, i) => (i > 0 && rows.every((row) => isNumeric(row[i])) ? "--:" : "---"));
  return [line(columns), line(rule), ...rows.map((row) => line(row.map(cellText)))].join("\n");
}
