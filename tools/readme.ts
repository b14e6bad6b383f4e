/** The README's table of systems, written from what their studies have measured: `npm run readme`. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { writeFileAtomic } from "../src/io/index.ts";
import { tableMarkdown } from "../src/report/index.ts";
import { betweenMarks, type Provenance, summaryOf, type Verdict } from "../src/study/index.ts";
import { SYSTEMS, type System } from "../src/systems/index.ts";

/** What of a `results.json` the table says. */
interface Results {
  readonly verdicts: readonly Verdict[];
  readonly provenance: readonly Provenance[];
  readonly data: unknown;
}

async function resultsOf(root: string, { name }: System): Promise<Results | undefined> {
  const path = join(root, "results", name, "results.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  return text === undefined ? undefined : JSON.parse(text);
}

async function rowOf(root: string, system: System): Promise<string[]> {
  const { name, title, about, headline } = system;
  const page = `[${title.split(":")[0]}](src/systems/${name}/README.md)`;
  const results = await resultsOf(root, system);
  if (!results) return [page, about, "–", "not measured by its study yet: see its page"];
  const last = results.provenance
    .map(({ date }) => date.slice(0, 10))
    .sort()
    .at(-1);
  return [page, about, await headline(results.data), `${summaryOf(results.verdicts).slice(0, -1)} (${last})`];
}

/** The README of a repository with its table as the committed results have it. @throws ArgumentError for one without marks */
export async function withSystemsTable(root: string, readme: string): Promise<string> {
  const rows = await Promise.all(SYSTEMS.map((system) => rowOf(root, system)));
  const table = tableMarkdown({ columns: ["system", "what it does", "one number", "rules"], rows });
  return betweenMarks(readme, table, "README.md", "npm run readme");
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  const path = join(root, "README.md");
  await writeFileAtomic(path, Buffer.from(await withSystemsTable(root, await readFile(path, "utf8"))));
}
