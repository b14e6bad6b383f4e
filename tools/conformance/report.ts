/** What the runner says: a table per case, and a line at the end. */
import { formatSeconds } from "../../src/cli/progress.ts";
import type { Kind } from "./cases.ts";
import type { Check } from "./compare.ts";

export interface CaseResult {
  readonly name: string;
  readonly path: string;
  readonly kind?: Kind;
  readonly seconds: number;
  readonly checks: readonly Check[];
  /** Why the case could not be run. */
  readonly error?: string;
}

export const passed = ({ checks, error }: CaseResult): boolean =>
  error === undefined && checks.length > 0 && checks.every((c) => c.ok);

/** How near to its limit, or beyond it; what is not a number comes first. */
const severity = ({ relative, limit, ok }: Check): number => {
  if (Number.isNaN(relative)) return Number.POSITIVE_INFINITY;
  return limit > 0 ? relative / limit : ok ? 0 : Number.POSITIVE_INFINITY;
};

/** Kinds that come in hundreds: of these the worst are shown. */
const MANY: Partial<Record<Check["kind"], string>> = {
  "gradient norm": "gradient norms of parameters",
  draw: "draws",
};
const scientific = (value: number): string => (value === 0 ? "0" : value.toExponential(1));

function line(check: Check, width: number): string {
  const { name, maxAbsolute, relative, limit, ok, note } = check;
  const numbers = [maxAbsolute, relative, limit].map((v) => scientific(v).padStart(9)).join(" ");
  return `  ${ok ? " " : "!"} ${name.padEnd(width)} ${numbers}${note ? `  ${note}` : ""}`;
}

/** How many are shown then. */
const WORST = 3;

/** The lines of one case. What comes in hundreds is summed up by the worst few, unless all are wanted. */
export function caseReport(result: CaseResult, verbose: boolean): string {
  const { name, kind, seconds, checks, error } = result;
  const head = `${passed(result) ? "ok  " : "FAIL"} ${name}${kind ? ` (${kind})` : ""}, ${formatSeconds(seconds)}`;
  const tensors = checks.filter((c) => !(c.kind in MANY));
  const many = checks.filter((c) => c.kind in MANY).sort((a, b) => severity(b) - severity(a));
  const shown = verbose ? many : many.filter((c, i) => i < WORST || !c.ok);
  const width = Math.max(0, ...[...tensors, ...shown].map((c) => c.name.length));
  const lines = [head];
  if (error !== undefined) lines.push(`    ${error.replaceAll("\n", "\n    ")}`);
  if (checks.length > 0) lines.push(`    ${"".padEnd(width)}  max abs   max rel     limit`);
  lines.push(...tensors.map((c) => line(c, width)));
  if (many.length > 0)
    lines.push(`    ${many.length} ${MANY[many[0]!.kind]}${verbose ? "" : ", the worst"}:`);
  lines.push(...shown.map((c) => line(c, width)));
  return lines.join("\n");
}

/** How many passed, and the largest errors of each kind. */
export function summaryReport(results: readonly CaseResult[]): string {
  const failed = results.filter((r) => !passed(r));
  const checks = results.flatMap((r) => r.checks);
  const kinds = [...new Set(checks.map((c) => c.kind))].filter((kind) => kind !== "count");
  const worst = kinds.map((kind) => {
    const relative = checks.filter((c) => c.kind === kind).map((c) => c.relative);
    return `${kind} ${scientific(Math.max(...relative))}`;
  });
  const names = failed.length > 0 ? `: ${failed.map((r) => r.name).join(", ")}` : "";
  return [
    `largest relative errors: ${worst.join(", ") || "nothing was compared"}`,
    `${results.length - failed.length} of ${results.length} cases passed, ${checks.length} comparisons` +
      `${failed.length > 0 ? `; failed${names}` : ""}`,
  ].join("\n");
}

/** NaN and infinity as text, which JSON cannot hold as numbers. */
export const toJson = (results: readonly CaseResult[]): string =>
  `${JSON.stringify(
    results.map((r) => ({ ...r, passed: passed(r) })),
    (_, value: unknown) => (typeof value === "number" && !Number.isFinite(value) ? String(value) : value),
    1,
  )}\n`;
