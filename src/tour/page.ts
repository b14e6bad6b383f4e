/** `index.html` of the tour: one file with everything inside. */
import { escapeHtml, type Table } from "../report/index.ts";
import { HOW_TO_GET_SHIPPED } from "../systems/shipped.ts";
import { formatBytes } from "../tensor/index.ts";
import type { Exhibit, TourReport, Visit } from "./run.ts";
import { columnCount } from "./sheet.ts";
import { STYLE } from "./style.ts";
import type { SystemRow, TourSummary } from "./summary.ts";
import { beats, qualityText, secondsText, valueText } from "./text.ts";

type Done = Extract<SystemRow, { status: "done" }>;

/** More columns than this have their headings upright on a narrow page. */
const FEW_COLUMNS = 6;

const tag = (name: string, attributes: string, inner: string): string =>
  `<${name}${attributes && ` ${attributes}`}>${inner}</${name}>`;

const captioned = (inner: string, caption: string): string =>
  tag("figure", "", `${inner}${tag("figcaption", "", escapeHtml(caption))}`);

const spans = (texts: readonly string[]): string =>
  texts.map((text) => tag("span", "", escapeHtml(text))).join("");

function sheetHtml({ figure, png, width, height, file }: Extract<Exhibit, { type: "figure" }>): string {
  const { columns, rows, caption } = figure;
  const count = columnCount(figure);
  const heads =
    typeof columns === "number"
      ? ""
      : tag("div", `class="columns" style="grid-template-columns:repeat(${count},1fr)"`, spans(columns));
  const sides = rows
    ? tag("div", `class="rows" style="grid-template-rows:repeat(${rows.length},1fr)"`, spans(rows))
    : "";
  const data = Buffer.from(png).toString("base64");
  const img = `<img alt="${escapeHtml(caption)}" title="${escapeHtml(file)}" width="${width}" height="${height}" src="data:image/png;base64,${data}">`;
  const layout = `${rows ? "auto " : ""}minmax(0,${width}px)`;
  const kind = `sheet${rows ? " headed" : ""}${count > FEW_COLUMNS ? " tilted" : ""}`;
  return captioned(
    tag("div", `class="${kind}" style="grid-template-columns:${layout}"`, `${heads}${sides}${img}`),
    caption,
  );
}

const cellText = (value: string | number | null): string =>
  value === null ? "–" : typeof value === "number" ? valueText(value) : value;

function tableHtml({ columns, rows }: Table): string {
  const line = (cell: "th" | "td", values: readonly (string | number | null)[]): string =>
    tag("tr", "", values.map((value) => tag(cell, "", escapeHtml(cellText(value)))).join(""));
  const body = rows.map((row) => line("td", row)).join("");
  const table = `${tag("thead", "", line("th", columns))}${tag("tbody", "", body)}`;
  return tag("div", 'class="wide"', tag("table", "", table));
}

function exhibitHtml(exhibit: Exhibit): string {
  if (exhibit.type === "figure") return sheetHtml(exhibit);
  if (exhibit.type === "chart") return captioned(exhibit.svg, exhibit.caption);
  return captioned(tableHtml(exhibit.table), exhibit.title);
}

function numberHtml(quality: Done["quality"][number]): string {
  const { name, value, unit, baseline } = quality;
  const ahead = beats(quality);
  const against = baseline
    ? tag(
        "dd",
        `class="against"`,
        `${escapeHtml(baseline.name)}: ${escapeHtml(valueText(baseline.value, unit))}`,
      )
    : tag("dd", 'class="against"', `${quality.better} is better`);
  const tone = ahead === undefined ? "" : ahead ? " ahead" : " behind";
  const number = tag("dd", `class="value${tone}"`, escapeHtml(valueText(value, unit)));
  return tag("div", 'class="number"', `${tag("dt", "", escapeHtml(name))}${number}${against}`);
}

const capital = (text: string): string => `${text[0]!.toUpperCase()}${text.slice(1)}`;

/** What came of a stop, in words. */
export function outcome(row: SystemRow): string {
  if (row.status === "done") return `${capital(row.did)}.`;
  if (row.status === "failed") return `Failed: ${row.error}`;
  return `Left out: ${row.missing.join(", ")} ${row.missing.length > 1 ? "are" : "is"} not there; ${HOW_TO_GET_SHIPPED}.`;
}

function visitHtml({ stop, row, exhibits }: Visit): string {
  const { name, title, about, origin, claim } = stop;
  const parts = [
    tag(
      "div",
      'class="head"',
      `${tag("h2", "", escapeHtml(title))}${tag("span", 'class="time"', secondsText(row.seconds))}`,
    ),
    origin ? tag("p", 'class="from"', escapeHtml(origin)) : "",
    tag("p", "", escapeHtml(about)),
    claim ? tag("p", 'class="claim"', `${tag("b", "", "What the paper claims")}${escapeHtml(claim)}`) : "",
    tag("p", row.status === "failed" ? 'class="failed"' : "", tag("strong", "", escapeHtml(outcome(row)))),
  ];
  if (row.status === "done") {
    parts.push(tag("dl", 'class="numbers"', row.quality.map(numberHtml).join("")));
    parts.push(...row.warnings.map((text) => tag("p", 'class="failed"', escapeHtml(text))));
  }
  parts.push(...exhibits.map(exhibitHtml));
  if (row.next.length > 0)
    parts.push(
      tag(
        "div",
        'class="next"',
        `${tag("span", 'class="soft"', "Try next, on files of your own")}${tag("pre", "", row.next.map(commandLine).map(escapeHtml).join("\n"))}`,
      ),
    );
  return tag("section", `class="card" id="${escapeHtml(name)}"`, parts.join("\n"));
}

/** `tweedie …` as it is typed in the repository. */
export const commandLine = (command: string): string =>
  command.startsWith("tweedie ") ? `npx ${command}` : command;

function overviewHtml({ systems }: TourSummary): string {
  const heads = ["system", "what it did", "measured against the known truth", "time"];
  const rows = systems.map((row) => {
    const quality = row.status === "done" ? row.quality.map(qualityText).map(escapeHtml).join("<br>") : "";
    const cells = [
      `<a href="#${escapeHtml(row.name)}">${escapeHtml(row.name)}</a>`,
      escapeHtml(outcome(row)),
      quality,
      secondsText(row.seconds),
    ];
    return tag("tr", "", cells.map((cell, i) => tag("td", `data-head="${heads[i]}"`, cell)).join(""));
  });
  const head = tag("thead", "", tag("tr", "", heads.map((text) => tag("th", "", text)).join("")));
  return tag(
    "div",
    'class="card"',
    tag("table", 'class="overview"', `${head}${tag("tbody", "", rows.join(""))}`),
  );
}

function circumstances(summary: TourSummary): string {
  const { date, node, platform, processor, cores, threads, seed, seconds, peakMemoryBytes } = summary;
  const parts = [
    `${date.slice(0, 10)} ${date.slice(11, 16)} UTC`,
    `Node ${node} on ${platform}`,
    processor,
    `${threads} threads on ${cores} cores`,
    `seed ${seed}`,
    `${secondsText(seconds)} in all`,
    `at most ${formatBytes(peakMemoryBytes)} of memory`,
  ];
  return tag("p", 'class="soft"', parts.map(escapeHtml).join(" · "));
}

/** The page as HTML text. It loads nothing. */
export function tourPage({ summary, visits }: TourReport): string {
  const body = [
    tag("h1", "", "Tweedie: the tour"),
    tag(
      "p",
      'class="lead"',
      "Diffusion models in TypeScript. Everything below was computed on this machine a moment ago, on inputs whose truth is known because our own generators made them. Numbers on the better side of what they are compared with are green.",
    ),
    circumstances(summary),
    overviewHtml(summary),
    ...visits.map(visitHtml),
    tag(
      "footer",
      "",
      "<p>The pictures lie beside this page, the numbers in summary.json. <code>npx tweedie studio</code> opens the page for files of your own; <code>npm start -- --help</code> says how to take this tour otherwise.</p>",
    ),
  ].join("\n");
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>Tweedie: the tour</title><style>${STYLE}</style></head>
<body><main>
${body}
</main></body></html>
`;
}
