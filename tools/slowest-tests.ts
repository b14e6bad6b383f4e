/** The test files that took longest, from Vitest's JSON report: `tsx tools/slowest-tests.ts REPORT [COUNT]`. */
import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { pathToFileURL } from "node:url";

/** What is read of the report; times in milliseconds. */
export interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly startTime: number;
    readonly endTime: number;
  }[];
}

/** One line for each of the slowest files: seconds, share of all files' time, path from `root`. */
export function slowestFiles({ testResults }: Report, count: number, root: string): string[] {
  const files = testResults
    .map(({ name, startTime, endTime }) => ({ name, seconds: (endTime - startTime) / 1000 }))
    .sort((a, b) => b.seconds - a.seconds);
  const total = files.reduce((sum, { seconds }) => sum + seconds, 0) || 1;
  return files
    .slice(0, count)
    .map(
      ({ name, seconds }) =>
        `${seconds.toFixed(1).padStart(7)} s ${((100 * seconds) / total).toFixed(1).padStart(5)} %  ${relative(root, name)}`,
    );
}

function main([path, count = "20"]: readonly string[]): void {
  if (!path || !(Number(count) > 0)) throw new Error("expected slowest-tests.ts REPORT [COUNT]");
  const report: Report = JSON.parse(readFileSync(path, "utf8"));
  console.log(slowestFiles(report, Number(count), process.cwd()).join("\n"));
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) main(process.argv.slice(2));
