import { readFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { SYSTEMS } from "../../src/systems/index.ts";
import { HOW_TO_GET_SHIPPED, shippedFile } from "../../src/systems/shipped.ts";

const manifest = async (path: string) =>
  JSON.parse(await readFile(new URL(`../../${path}`, import.meta.url), "utf8"));

describe("checkpoints that ship", () => {
  it("are a package of their own with the library's version, and no part of the library's", async () => {
    const [own, library] = [await manifest("checkpoints/package.json"), await manifest("package.json")];
    expect(own.version).toBe(library.version);
    expect(own.license).toBe(library.license);
    expect(library.files.some((name: string) => name.includes("checkpoints"))).toBe(false);
    expect(HOW_TO_GET_SHIPPED).toContain(`npm install ${own.name}@${own.version}`);
  });

  it("are there, all that systems name, and what is not there is said with what brings it", async () => {
    for (const { file } of SYSTEMS.flatMap(({ checkpoints }) => checkpoints))
      expect(await shippedFile(file)).toMatch(/\.safetensors$/);
    await expect(shippedFile("checkpoints/none.safetensors")).rejects.toThrow(HOW_TO_GET_SHIPPED);
  });

  it("are built for pages by their names", async () => {
    const { inPage } = SYSTEMS.find(({ name }) => name === "sdseg")!;
    expect((await inPage!.build({ checkpoint: "lesions", size: 32 })).length).toBeGreaterThan(100_000);
    await expect(inPage!.build({ checkpoint: "unheard of", size: 32 })).rejects.toThrow(
      /no model "unheard of"/,
    );
  });
});
