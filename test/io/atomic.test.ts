import { mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { writeFileAtomic } from "../../src/io/atomic.ts";
import { withFailingCall } from "./failing-disk.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const text = (value: string) => new TextEncoder().encode(value);

describe("writeFileAtomic", () => {
  it("writes bytes, chunks and asynchronous chunks, replacing what was there", async () => {
    async function* slowly() {
      yield text("c");
      yield text("d");
    }
    for (const [content, expected] of [
      [text("ab"), "ab"],
      [[text("b"), text(""), text("c")], "bc"],
      [slowly(), "cd"],
      [[], ""],
    ] as const) {
      await writeFileAtomic(at("file"), content);
      expect(readFileSync(at("file"), "utf8")).toBe(expected);
    }
    expect(readdirSync(at())).toEqual(["file"]);
  });

  it("keeps the old file and leaves no temporary file when the content fails midway", async () => {
    writeFileSync(at("file"), "old");
    function* failing() {
      yield text("new");
      throw new Error("the source broke");
    }
    await expect(writeFileAtomic(at("file"), failing())).rejects.toThrow("the source broke");
    expect(readFileSync(at("file"), "utf8")).toBe("old");
    expect(readdirSync(at())).toEqual(["file"]);
  });

  it("shows the old or the new file, never a part, whichever call fails as on a full disk", async () => {
    const chunks = ["n", "e", "w"].map(text);
    for (let n = 1; ; n++) {
      writeFileSync(at("file"), "old");
      let failure: unknown;
      const came = await withFailingCall(n, async () => {
        await writeFileAtomic(at("file"), chunks).catch((error) => (failure = error));
      });
      expect(readdirSync(at())).toEqual(["file"]);
      if (!came) {
        expect(failure).toBeUndefined();
        expect(n).toBeGreaterThan(4); // three writes and two flushes were tried
        break;
      }
      expect(failure).toMatchObject({ code: "ENOSPC" });
      expect(["old", "new"]).toContain(readFileSync(at("file"), "utf8"));
    }
  });

  it("fails with the system's error where no file can be: below a file, in no folder, over a folder", async () => {
    writeFileSync(at("file"), "x");
    mkdirSync(at("folder", "inner"), { recursive: true });
    await expect(writeFileAtomic(at("file", "below"), text("y"))).rejects.toMatchObject({ code: "ENOTDIR" });
    await expect(writeFileAtomic(at("none", "below"), text("y"))).rejects.toMatchObject({ code: "ENOENT" });
    await expect(writeFileAtomic(at("folder"), text("y"))).rejects.toMatchObject({ code: "EISDIR" });
    expect(readdirSync(at()).sort()).toEqual(["file", "folder"]);
  });

  it("removes what killed processes left a day ago, and nothing else", async () => {
    const names = [".tweedie-1-0123456789ab.tmp", ".tweedie-2-0123456789ab.tmp", ".tweedie-notes.tmp"];
    for (const name of names) writeFileSync(at(name), "part");
    const dayAgo = new Date(Date.now() - 25 * 60 * 60 * 1000);
    for (const name of [names[0]!, names[2]!]) utimesSync(at(name), dayAgo, dayAgo);
    await writeFileAtomic(at("file"), text("whole"));
    expect(readdirSync(at()).sort()).toEqual([names[1], names[2], "file"].sort());
  });

  it("replaces a link instead of writing through it", async () => {
    writeFileSync(at("target"), "kept");
    symlinkSync("target", at("link"));
    await writeFileAtomic(at("link"), text("new"));
    expect(readFileSync(at("target"), "utf8")).toBe("kept");
    expect(readFileSync(at("link"), "utf8")).toBe("new");
  });
});
