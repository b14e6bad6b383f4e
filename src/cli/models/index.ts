/** `tweedie models`: lists, inspects, converts and checks. */
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import {
  type CheckReport,
  type ComponentReport,
  cachedModels,
  checkModel,
  inspectModel,
  type ModelReport,
  type WeightSummary,
} from "../../pipelines/index.ts";
import { SYSTEMS } from "../../systems/index.ts";
import { shippedFolder } from "../../systems/shipped.ts";
import { formatBytes } from "../../tensor/index.ts";
import { SHIPPED_PIPELINES } from "../../trainings/index.ts";
import { EXIT, Unsuccessful } from "../errors.ts";
import { parseArguments, printJson } from "../positionals.ts";
import { openOptions } from "./open-options.ts";
import { CHECK_OPTIONS, INSPECT_OPTIONS, LIST_OPTIONS } from "./options.ts";

export { convert } from "./convert.ts";

/** Columns of equal width, the last one free. */
function columns(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (w, row) => row.map((cell, i) => Math.max(w[i] ?? 0, cell.length)),
    [],
  );
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

interface Shipped {
  /** As `run --model` takes it, or the file's. */
  readonly name: string;
  readonly system?: string;
  readonly about?: string;
  readonly path: string;
}

async function shippedModels(): Promise<Shipped[]> {
  const folder = await shippedFolder();
  const files = folder === undefined ? [] : await readdir(folder);
  const declared = SYSTEMS.flatMap(({ name: system, checkpoints }) =>
    checkpoints.map(({ name, file, about }) => ({ name, system, about, file: basename(file) })),
  );
  const pipelines = SHIPPED_PIPELINES.map(({ name, about }) => ({
    name,
    about,
    system: "generate",
    file: name,
  }));
  return files
    .filter((file) => file.endsWith(".safetensors") || pipelines.some(({ name }) => name === file))
    .sort()
    .map((file) => {
      const { file: _, ...known } = [...declared, ...pipelines].find((one) => one.file === file) ?? {
        name: file,
        file,
      };
      return { ...known, path: join(folder!, file) };
    });
}

/** `tweedie models list`. */
export async function list(args: readonly string[]): Promise<void> {
  const { text, flag } = parseArguments(args, LIST_OPTIONS);
  const cached = await cachedModels(text("cache"));
  const shipped = await shippedModels();
  if (flag("json")) return printJson({ shipped, cached });
  const rows = [
    ...shipped.map(({ name, system, about, path }) => [name, system ?? "shipped", about ?? "", path]),
    ...cached.flatMap(({ repo, snapshots }) => snapshots.map((path) => [`hub:${repo}`, "cached", "", path])),
  ];
  console.log(
    rows.length > 0 ? columns(rows) : "no models: none ship with this version, and the cache is empty",
  );
}

const count = (n: number): string => n.toLocaleString("en-US");

const dtypesText = ({ dtypes, values }: WeightSummary): string =>
  Object.entries(dtypes)
    .sort(([, a], [, b]) => b - a)
    .map(([dtype, n]) => (n === values ? dtype : `${dtype} ${((100 * n) / values).toFixed(1)}%`))
    .join(", ");

/** Values of metadata that is JSON, by their paths; other texts as they are. */
function facts(name: string, text: string): string[] {
  const told = (path: string, value: unknown): string[] =>
    Array.isArray(value)
      ? [`${path}: ${value.join(", ")}`]
      : typeof value === "object" && value !== null
        ? Object.entries(value).flatMap(([key, inner]) => told(`${path}.${key}`, inner))
        : [`${path}: ${value}`];
  try {
    return told(name, JSON.parse(text));
  } catch {
    return [`${name}: ${text}`];
  }
}

/** What a checkpoint of one of the systems says of itself; undefined for other files. */
function systemText({ path, total, metadata }: ModelReport): string | undefined {
  const own = /^tweedie\.(.+)$/.exec(metadata.format ?? "")?.[1];
  if (own === undefined) return undefined;
  const system = SYSTEMS.find(
    ({ name, checkpoints }) =>
      name === own || checkpoints.some(({ file }) => basename(file) === basename(path)),
  );
  const size = `${count(total.values)} values, ${formatBytes(total.bytes)}, ${dtypesText(total)}`;
  const notes = Object.entries(metadata).filter(([key]) => !["format", "quantization_config"].includes(key));
  return [
    `${path}: a checkpoint of ${system ? `${system.title} (${system.name})` : own}`,
    size,
    ...notes.flatMap(([key, text]) => facts(key, text)),
  ].join("\n");
}

function inspectText(report: ModelReport): string {
  const { path, what, className, layout, components, total, metadata, note } = report;
  const row = (name: string, kind: string, part: WeightSummary): string[] => [
    name,
    kind,
    `${count(part.values)} values`,
    `${count(part.tensors)} tensors`,
    formatBytes(part.bytes),
    dtypesText(part),
  ];
  const problems = components.flatMap(({ name, problem }: ComponentReport) =>
    problem ? [`${name}: ${problem}`] : [],
  );
  const title =
    what === "weights"
      ? "weights of no known architecture"
      : `${className ?? components[0]!.className} (${layout})`;
  const lines = [
    `${path}: ${title}`,
    columns([...components.map((c) => row(c.name, c.className, c)), row("total", "", total)]),
  ];
  if (report.scheduler) lines.push(`scheduler: ${report.scheduler}, predicts ${report.prediction}`);
  if (report.tokenizers !== undefined) lines.push(`tokenizers: ${report.tokenizers}`);
  for (const [key, value] of Object.entries(metadata).slice(0, 20))
    lines.push(`metadata: ${key} = ${value.length > 100 ? `${value.slice(0, 100)}…` : value}`);
  if (note) lines.push(note);
  return [...lines, ...problems].join("\n");
}

/** `tweedie models inspect`. */
export async function inspect(args: readonly string[]): Promise<void> {
  const options = parseArguments(args, INSPECT_OPTIONS);
  const given = options.positional(0);
  const shipped = (await shippedModels()).find(({ name }) => name === given);
  const report = await inspectModel(shipped?.path ?? given, await openOptions(options));
  if (options.flag("json")) printJson(report);
  else console.log(systemText(report) ?? inspectText(report));
}

function checkText({ path, files, findings, safe }: CheckReport): string {
  const lines = findings.map(({ file, level, message }) => `${level}: ${file}: ${message}`);
  return [
    ...lines,
    `${path}: ${count(files)} files, ${safe ? "nothing dangerous or broken" : "NOT safe"}`,
  ].join("\n");
}

/** `tweedie models check`. Throws, so that the exit code tells, when there is danger or breakage. */
export async function check(args: readonly string[]): Promise<void> {
  const { flag, positional } = parseArguments(args, CHECK_OPTIONS);
  const report = await checkModel(positional(0), { values: flag("values") });
  if (flag("json")) printJson(report);
  else console.log(checkText(report));
  const bad = report.findings.filter(({ level }) => level !== "note").length;
  if (bad > 0) throw new Unsuccessful(EXIT.badInput, `${report.path}: ${bad} finding${bad > 1 ? "s" : ""}`);
}
