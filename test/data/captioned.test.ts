import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { captionOfName, openCaptioned } from "../../src/data/index.ts";
import { encodePicture } from "../../src/io/index.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "captioned-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const png = (v: number) =>
  encodePicture({ width: 4, height: 2, channels: 3, data: new Uint8Array(24).fill(v) });
async function put(files: Readonly<Record<string, string | number>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(folder, name, ".."), { recursive: true });
    await writeFile(join(folder, name), typeof content === "number" ? await png(content) : content);
  }
}
const captionsOf = async (options = {}) => {
  const { source, captions, warnings } = await openCaptioned(folder, options);
  return { source, captions: captions.map((own) => own.join(" | ")), warnings };
};

describe("captions of pictures", () => {
  it("are the names of files, numbers and separators left out", async () => {
    await put({ "red-fox_01.png": 1, "blueBird.png": 2 });
    expect(await captionsOf()).toEqual({ source: "names", captions: ["blue bird", "red fox"], warnings: [] });
    expect(captionOfName("a/IMG_2041.jpg")).toBe("");
    expect(captionOfName("9f86d081884c7d65.png")).toBe("");
  });

  it("are none for names that cameras give", async () => {
    await put({ "IMG_0001.png": 1, "IMG_0002.png": 2 });
    expect((await captionsOf()).source).toBe("none");
  });

  it("are text files beside the pictures, one caption a line; what is missing is named", async () => {
    await put({
      "1.png": 1,
      "1.txt": "a fox\na red  fox\n",
      "2.png": 2,
      "2.txt": " \n",
      "3.txt": "a stranger",
    });
    const { source, captions, warnings } = await captionsOf();
    expect({ source, captions }).toEqual({ source: "text files", captions: ["a fox | a red fox", ""] });
    expect(warnings).toEqual(["1 picture without caption: 2.png", "1 caption without picture: 3.txt"]);
  });

  it.each([
    ["captions.csv", "file,caption\nx/1.png,a fox\n2,a bird\nmissing.png,nothing\n"],
    [
      "metadata.jsonl",
      '{"file_name":"1.png","text":"a fox"}\n{"file_name":"2.png","text":"a bird"}\n{"file_name":"missing.png","text":"?"}\n',
    ],
    ["captions.json", '{"1.png":"a fox","2.png":["a bird"],"missing.png":"?"}'],
    [
      "captions.json",
      '[{"file":"1.png","name":"a fox"},{"file":"2.png","name":"a bird"},{"file":"missing.png","name":"?"}]',
    ],
  ])("are a table: %s", async (name, text) => {
    await put({ "x/1.png": 1, "x/2.png": 2, [name]: text });
    expect(await captionsOf()).toEqual({
      source: "table",
      captions: ["a fox", "a bird"],
      warnings: ["1 caption without picture: missing.png"],
    });
  });

  it("are the names of folders, one for each class", async () => {
    await put({ "red_fox/1.png": 1, "bird/1.png": 2 });
    expect(await captionsOf()).toEqual({ source: "folders", captions: ["bird", "red fox"], warnings: [] });
    expect((await captionsOf({ captions: "none" })).source).toBe("none");
  });

  it("are decoded at the size that is asked for", async () => {
    await put({ "fox.png": 7, "bird.png": 9 });
    const { image } = await (await openCaptioned(folder, { size: { width: 2, height: 2 } })).get(1);
    expect([image.width, image.height, image.data[0]]).toEqual([2, 2, 7]);
  });
});

describe("a set that cannot be", () => {
  it.each([
    ["an empty table", { "1.png": 1, "captions.csv": "file,caption\n" }, /empty or has other columns/],
    [
      "a table without captions",
      { "1.png": 1, "c.csv": "file,size\n1.png,3\n" },
      /expected a table with a file/,
    ],
    ["captions that are all empty", { "1.png": 1, "c.csv": "file,caption\n1.png,\n" }, /captions are empty/],
    [
      "captions of other pictures",
      { "1.png": 1, "c.csv": "file,caption\n8.png,a\n" },
      /it names 8\.png, the pictures are called 1\.png/,
    ],
    ["empty text files", { "1.png": 1, "1.txt": "" }, /are empty/],
    ["no pictures", { "notes.md": "" }, /no pictures/],
  ])("%s is said", async (_, files, message) => {
    await put(files as Record<string, string | number>);
    await expect(openCaptioned(folder)).rejects.toThrow(message);
  });
});
