import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { pictureFiles } from "../../src/cli/generate/files.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const path = useTemporaryFolder();
const PNG = Uint8Array.of(1, 2, 3);

describe("files of pictures", () => {
  test("are numbered in a folder, after those that are there", async () => {
    const files = pictureFiles(path("out"), 2);
    expect(await files.write(7, PNG)).toBe(path("out", "00000-7.png"));
    expect(await files.write(8, PNG)).toBe(path("out", "00001-8.png"));
    writeFileSync(path("out", "00041-3.png"), "");
    expect(await files.write(2n ** 60n, PNG)).toBe(path("out", `00042-${2n ** 60n}.png`));
    expect(readFileSync(path("out", "00000-7.png"))).toEqual(Buffer.from(PNG));
  });

  test("have the name that was given, with the seed when there are several", async () => {
    expect(await pictureFiles(path("a", "cat.png"), 1).write(7, PNG)).toBe(path("a", "cat.png"));
    expect(await pictureFiles(path("a", "cat.PNG"), 2).write(7, PNG)).toBe(path("a", "cat-7.png"));
  });

  test("leave nothing when nothing was made: no preview, no new folder", async () => {
    const files = pictureFiles(path("new", "deep"), 1);
    await files.preview(PNG);
    expect(existsSync(path("new", "deep", "preview.png"))).toBe(true);
    files.tidy();
    expect(existsSync(path("new"))).toBe(false);
  });

  test("keep pictures, and folders that were there before", async () => {
    mkdirSync(path("old"));
    const first = pictureFiles(path("old", "x.png"), 1);
    await first.preview(PNG);
    expect(readdirSync(path("old"))).toEqual(["x.preview.png"]);
    first.tidy();
    expect(readdirSync(path("old"))).toEqual([]);
    const second = pictureFiles(path("made"), 1);
    await second.write(1, PNG);
    await second.preview(PNG);
    second.tidy();
    expect(readdirSync(path("made"))).toEqual(["00000-1.png"]);
  });
});
