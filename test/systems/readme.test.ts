import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { withSystemsTable } from "../../tools/readme.ts";
import { temporaryFolder } from "../study/folder.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const readme = () => readFile(join(root, "README.md"), "utf8");

describe("the README's table of systems", () => {
  it("is what the committed results say: npm run readme writes it", async () => {
    expect(await withSystemsTable(root, await readme())).toBe(await readme());
  });

  it("counts the rules that hold in results.json, and says which systems have none", async () => {
    const folder = await temporaryFolder();
    await mkdir(join(folder, "results", "sdseg"), { recursive: true });
    const kept = JSON.parse(await readFile(join(root, "results", "sdseg", "results.json"), "utf8"));
    kept.verdicts[0].judged.holds = false;
    delete kept.verdicts[1].judged;
    kept.data.lesions.reached["lambda-1, one step"].dice = 0.1234;
    await writeFile(join(folder, "results", "sdseg", "results.json"), JSON.stringify(kept));
    const text = await withSystemsTable(folder, await readme());
    const row = (name: string): string => text.split("\n").find((line) => line.startsWith(`| [${name}]`))!;
    expect(row("SDSeg")).toContain(
      `${kept.verdicts.length - 2} of ${kept.verdicts.length} rules hold, 1 not`,
    );
    expect(row("SDSeg")).toContain("one step on lesions 0.123;");
    for (const name of ["UMD", "Q-DiT"]) expect(row(name)).toContain("not measured by its study yet");
  });
});
