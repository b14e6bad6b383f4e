/** Line charts as SVG text, readable on light and dark ground. */
import { scaleLinear, scaleLog } from "d3-scale";
import { schemeTableau10 } from "d3-scale-chromatic";
import { area, line } from "d3-shape";
import { ArgumentError } from "../errors.ts";

/** A line of a chart. */
export interface Series {
  readonly name: string;
  readonly x: ArrayLike<number>;
  /** NaN leaves a gap. */
  readonly y: ArrayLike<number>;
  /** A band around the line, such as a confidence interval. */
  readonly low?: ArrayLike<number>;
  readonly high?: ArrayLike<number>;
}

/** Options of `lineChart`. */
export interface ChartOptions {
  readonly title?: string;
  readonly xLabel?: string;
  readonly yLabel?: string;
  readonly logX?: boolean;
  readonly logY?: boolean;
  /** Default 640x320. */
  readonly width?: number;
  readonly height?: number;
  /** A dot at every point, for few points. Default: at most 30 per series. */
  readonly dots?: boolean;
}

/** Text for HTML and SVG, in elements and in attributes. */
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

const MARGIN = { top: 28, right: 16, bottom: 40, left: 62 };

/** Least and greatest of the finite values, positive ones only for a logarithmic axis. */
function extent(values: Iterable<number>, log: boolean, axis: string): [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    if (!Number.isFinite(value) || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high)
    throw new ArgumentError(`lineChart: no ${log ? "positive " : ""}finite values on the ${axis} axis`);
  if (low === high) return log ? [low / 2, high * 2] : [low - 0.5, high + 0.5];
  return [low, high];
}

const tickText = (value: number): string => {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(6)));
};

/** One chart of several series. @throws ArgumentError when nothing can be drawn. */
export function lineChart(series: readonly Series[], options: ChartOptions = {}): string {
  const { width = 640, height = 320, logX = false, logY = false, title, xLabel, yLabel } = options;
  const all = (pick: (s: Series) => ArrayLike<number> | undefined): number[] =>
    series.flatMap((s) => Array.from(pick(s) ?? []));
  const xDomain = extent(
    all((s) => s.x),
    logX,
    "x",
  );
  const yDomain = extent([...all((s) => s.y), ...all((s) => s.low), ...all((s) => s.high)], logY, "y");
  const axis = (log: boolean) => (log ? scaleLog() : scaleLinear());
  const x = axis(logX)
    .domain(xDomain)
    .range([MARGIN.left, width - MARGIN.right]);
  const y = axis(logY)
    .domain(yDomain)
    .range([height - MARGIN.bottom, MARGIN.top]);
  if (!logY) y.nice(); // a whole decade more would be mostly empty
  const drawable = (value: number, log: boolean): boolean => Number.isFinite(value) && (!log || value > 0);
  const round = (value: number): string => value.toFixed(1);

  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" role="img" font-family="system-ui, sans-serif" font-size="11" fill="currentColor">`,
  ];
  // For who cannot see it: what it shows, and where each line ends.
  const ends = series.map((s) => `${s.name} ends at ${tickText(Number(s.y[s.y.length - 1]))}`);
  parts.push(`<title>${escapeHtml([...(title ? [title] : []), ...ends].join("; "))}</title>`);
  if (title)
    parts.push(
      `<text x="${MARGIN.left}" y="16" font-size="13" font-weight="600">${escapeHtml(title)}</text>`,
    );
  const xTicks = logX ? logTicks(x.domain()) : x.ticks(6);
  const yTicks = logY ? logTicks(y.domain()) : y.ticks(5);
  for (const t of yTicks) {
    const at = round(y(t)!);
    parts.push(
      `<line x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${at}" y2="${at}" stroke="currentColor" stroke-opacity="0.15"/>`,
      `<text x="${MARGIN.left - 6}" y="${at}" dy="0.32em" text-anchor="end">${tickText(t)}</text>`,
    );
  }
  for (const t of xTicks)
    parts.push(
      `<text x="${round(x(t)!)}" y="${height - MARGIN.bottom + 16}" text-anchor="middle">${tickText(t)}</text>`,
    );
  if (xLabel)
    parts.push(
      `<text x="${(MARGIN.left + width - MARGIN.right) / 2}" y="${height - 6}" text-anchor="middle">${escapeHtml(xLabel)}</text>`,
    );
  if (yLabel) {
    const middle = (MARGIN.top + height - MARGIN.bottom) / 2;
    parts.push(
      `<text transform="translate(14 ${middle}) rotate(-90)" text-anchor="middle">${escapeHtml(yLabel)}</text>`,
    );
  }
  for (const [k, s] of series.entries()) {
    const colour = schemeTableau10[k % 10]!;
    const points = Array.from(s.x, (_, i) => i);
    const inside = (i: number): boolean => drawable(s.x[i]!, logX) && drawable(s.y[i]!, logY);
    if (s.low && s.high) {
      const band = area<number>()
        .defined((i) => drawable(s.x[i]!, logX) && drawable(s.low![i]!, logY) && drawable(s.high![i]!, logY))
        .x((i) => x(s.x[i]!)!)
        .y0((i) => y(s.low![i]!)!)
        .y1((i) => y(s.high![i]!)!)
        .digits(1);
      parts.push(`<path d="${band(points) ?? ""}" fill="${colour}" fill-opacity="0.2"/>`);
    }
    const path = line<number>()
      .defined(inside)
      .x((i) => x(s.x[i]!)!)
      .y((i) => y(s.y[i]!)!)
      .digits(1);
    parts.push(
      `<path d="${path(points) ?? ""}" fill="none" stroke="${colour}" stroke-width="1.6" stroke-linejoin="round"/>`,
    );
    if (options.dots ?? points.length <= 30)
      for (const i of points)
        if (inside(i))
          parts.push(
            `<circle cx="${round(x(s.x[i]!)!)}" cy="${round(y(s.y[i]!)!)}" r="2.5" fill="${colour}"/>`,
          );
  }
  if (series.length > 1) parts.push(legend(series, width));
  return `${parts.join("")}</svg>`;
}

/** Round numbers of a logarithmic axis: 1, 2 and 5 of each decade, or the decades alone where there are many. */
function logTicks([low, high]: readonly number[]): number[] {
  const [first, last] = [Math.floor(Math.log10(low!)), Math.ceil(Math.log10(high!))];
  const every = Math.ceil((last - first) / 8);
  const digits = last - first <= 3 ? [1, 2, 5] : [1];
  const decades = Array.from({ length: last - first + 1 }, (_, i) => first + i).filter(
    (d) => d % every === 0,
  );
  return decades
    .flatMap((decade) => digits.map((digit) => Number(`${digit}e${decade}`)))
    .filter((t) => t >= low! && t <= high!);
}

/** Names of the series in one row at the top right, each with its colour behind it: nobody knows how wide the font is. */
function legend(series: readonly Series[], width: number): string {
  let right = width - MARGIN.right;
  const entries = [...series.entries()].reverse().map(([k, { name }]) => {
    const end = right;
    right -= 22 + 6.6 * name.length;
    const colour = schemeTableau10[k % 10]!;
    return `<text x="${(end - 13).toFixed(1)}" y="16" text-anchor="end">${escapeHtml(name)}</text><rect x="${(end - 9).toFixed(1)}" y="9" width="9" height="9" rx="2" fill="${colour}"/>`;
  });
  return entries.join("");
}
