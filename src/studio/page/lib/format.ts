/** Numbers and times as people read them. */

export function seconds(value: number): string {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60
    ? `${minutes} min ${Math.round(value % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const fileSize = (bytes: number): string =>
  bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;

/** A format of the browser's language, or of English where it has a name that is no language. */
function format(options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  try {
    return new Intl.DateTimeFormat(undefined, options);
  } catch {
    return new Intl.DateTimeFormat("en", options);
  }
}
const MOMENT = format({ dateStyle: "medium", timeStyle: "short" });
const DAY = format({ dateStyle: "full" });
const TIME = format({ timeStyle: "short" });
export const when = (at: number): string => MOMENT.format(at);
export const day = (at: number): string => DAY.format(at);
export const time = (at: number): string => TIME.format(at);

/** "SDSeg: segmentation by …" as a name and what it is. */
export function named(text: string): { name: string; about: string } {
  const at = text.indexOf(": ");
  if (at < 0) return { name: text, about: "" };
  return { name: text.slice(0, at), about: text.charAt(at + 2).toUpperCase() + text.slice(at + 3) };
}

/** Options by their labels: `maxSteps` and `max-steps` become "max steps". */
export const words = (name: string): string =>
  name
    .replaceAll(/([a-z])([A-Z])/g, "$1 $2")
    .replaceAll(/[-_]/g, " ")
    .toLowerCase();

export const title = (name: string): string => {
  const text = words(name);
  return text.charAt(0).toUpperCase() + text.slice(1);
};

export function shown(value: unknown): string {
  if (value === undefined || value === null || value === "") return "–";
  if (typeof value === "number")
    return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}
