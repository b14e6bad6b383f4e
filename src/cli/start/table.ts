/** The table at the end of the tour, wrapped to the terminal. */
import { outcome, qualityText, type TourSummary } from "../../tour/index.ts";
import { wrap } from "../help.ts";

const HEADS = ["system", "what it did", "measured against the known truth", "seconds"] as const;
const BETWEEN = "  ";
/** Narrowest that the two columns of text become. */
const LEAST = 24;

/** Lines of each cell of a row, side by side. */
function rowText(cells: readonly (readonly string[])[], widths: readonly number[]): string {
  const height = Math.max(...cells.map((lines) => lines.length));
  const line = (k: number): string =>
    cells
      .map((lines, c) => {
        const text = lines[k] ?? "";
        return c === cells.length - 1 ? text.padStart(widths[c]!) : text.padEnd(widths[c]!);
      })
      .join(BETWEEN)
      .trimEnd();
  return Array.from({ length: height }, (_, k) => line(k)).join("\n");
}

/** What every system did, how good it was and how long it took. */
export function summaryText({ systems, seconds, peakMemoryBytes }: TourSummary, columns = 110): string {
  const first = Math.max(HEADS[0].length, ...systems.map(({ name }) => name.length));
  const last = HEADS[3].length;
  const free = Math.min(columns, 130) - 1 - first - last - 3 * BETWEEN.length;
  const what = Math.max(LEAST, Math.floor(free * 0.45));
  const measured = Math.max(LEAST, free - what);
  const widths = [first, what, measured, last];
  const rows = systems.map((row) => [
    [row.name],
    wrap(outcome(row), what),
    row.status === "done" ? row.quality.flatMap((quality) => wrap(qualityText(quality), measured)) : [],
    [row.seconds.toFixed(1)],
  ]);
  const rule = "─".repeat(widths.reduce((sum, width) => sum + width, 3 * BETWEEN.length));
  const memory = `${(peakMemoryBytes / 2 ** 20).toFixed(0)} MiB of memory at most`;
  return [
    rowText(
      HEADS.map((head) => wrap(head, measured)),
      widths,
    ),
    rule,
    ...rows.map((row) => rowText(row, widths)),
    rule,
    `${seconds.toFixed(1)} s in all, ${memory}.`,
  ].join("\n");
}
