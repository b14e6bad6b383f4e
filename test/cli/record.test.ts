import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { UsageError } from "../../src/cli/errors.ts";
import { checkFiles, type PictureRecord, readRecord, recordTexts } from "../../src/cli/generate/record.ts";
import { requestOf } from "../../src/cli/generate/request.ts";
import { FormatError } from "../../src/errors.ts";
import { encodePng, hashFile, type NewPngText, withPngText } from "../../src/io/index.ts";
import { useTemporaryFolder } from "../io/temporary-folder.ts";

const path = useTemporaryFolder();

const RECORD: PictureRecord = {
  version: "0.1.0",
  options: {
    model: ["models/sd15/"],
    prompt: ["a cat,\n(sitting:1.2)"],
    negative: ["blurry"],
    steps: ["20"],
    sampler: ["dpmpp-2m"],
    schedule: ["karras"],
    guidance: ["7.5"],
    seed: ["18446744073709551615"],
    size: ["512x768"],
    "clip-skip": ["1"],
    rng: ["torch-cpu"],
    lora: ["a.safetensors:0.5", "b.safetensors"],
    emphasis: true,
  },
  sampler: "dpmpp-2m",
  modelHash: "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
  files: { "a.safetensors": "00ff" },
  batch: { rows: 4, row: 2 },
};

async function picture(name: string, texts: readonly NewPngText[]): Promise<string> {
  const png = await encodePng(new Uint8Array(12), { width: 2, height: 2 });
  writeFileSync(path(name), withPngText(png, texts));
  return path(name);
}

const webUiPicture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/files/30-webui-text/${name}.png`, import.meta.url));

describe("settings in pictures", () => {
  test("say the fresh noise of DDIM in the web UI's words, and read it", async () => {
    const options = { ...RECORD.options, sampler: ["ddim"], eta: ["0.5"] };
    const [text] = recordTexts({ ...RECORD, sampler: "ddim", options });
    expect(text!.text).toContain("Sampler: DDIM, Schedule type: Karras, Eta DDIM: 0.5, CFG scale");
    const read = await readRecord(await picture("eta.png", [text!]));
    expect(read.options.eta).toEqual(["0.5"]);
    expect(read.webUi!.warnings).toEqual([]);
    expect(requestOf({ ...read.options, model: ["m"] }).eta).toBe(0.5);
  });

  test("come back as they were", async () => {
    expect(await readRecord(await picture("a.png", recordTexts(RECORD)))).toEqual(RECORD);
  });

  test("are written for other programs too", () => {
    expect(recordTexts(RECORD)[0]).toEqual({
      keyword: "parameters",
      text:
        "a cat,\n(sitting:1.2)\nNegative prompt: blurry\nSteps: 20, Sampler: DPM++ 2M, Schedule type: Karras, " +
        "CFG scale: 7.5, Seed: 18446744073709551615, Size: 512x768, Model hash: 6ce0161689, Model: sd15, " +
        "Clip skip: 2, RNG: CPU, Version: tweedie 0.1.0",
    });
  });

  test("of the web UI are understood, in its new and old spelling", async () => {
    const text = (sampling: string) =>
      `a cat\nNegative prompt: blurry\nSteps: 20, ${sampling}, CFG scale: 7, Seed: 5, Size: 512x512, Clip skip: 2`;
    const made = await picture("b.png", [
      { keyword: "parameters", text: text("Sampler: DPM++ 2M SDE, Schedule type: Karras") },
    ]);
    const { options } = await readRecord(made);
    expect(requestOf({ ...options, model: ["m"] })).toMatchObject({
      prompt: "a cat",
      negative: "blurry",
      steps: 20,
      sampler: "dpmpp-2m-sde",
      schedule: "karras",
      guidance: 7,
      seed: 5,
      size: { width: 512, height: 512 },
      clipSkip: 1,
      rng: "torch-cuda",
      longPrompt: true,
    });
    const old = await picture("c.png", [{ keyword: "parameters", text: text("Sampler: DPM++ 2M Karras") }]);
    expect((await readRecord(old)).options).toMatchObject({ sampler: ["dpmpp-2m"], schedule: ["karras"] });
    const ancestral = await picture("d.png", [
      { keyword: "parameters", text: text("Sampler: Euler a, RNG: CPU") },
    ]);
    expect((await readRecord(ancestral)).options).toMatchObject({
      sampler: ["euler-ancestral"],
      rng: ["torch-cpu"],
    });
  });

  // From the web UI's sd_samplers_kdiffusion: "Automatic" is what a sampler prefers.
  test.each([
    ["automatic-dpmpp-2m", "karras"],
    ["automatic-dpmpp-sde", "karras"],
  ])("of the web UI: %s is %s", async (name, expected) => {
    const { options, webUi } = await readRecord(webUiPicture(name));
    expect(options.schedule).toEqual([expected]);
    expect(webUi?.warnings).toEqual([]);
  });

  test.each([
    ["ensd", [/ENSD: 31337/]],
    ["hires", [/Denoising strength: 0\.7/, /Hires upscale: 2/, /Hires steps: 10/, /Hires upscaler: Latent/]],
    ["lora-tag", [/adapters in angle brackets \(give them with --lora\)/]],
    ["sgm-uniform", [/Schedule type: SGM Uniform/]],
    ["variation", [/Variation seed: 99/, /Variation seed strength: 0\.3/]],
  ])("of the web UI that have no counterpart are named: %s", async (name, words) => {
    const { webUi } = await readRecord(webUiPicture(name));
    expect(webUi?.warnings).toHaveLength(words.length);
    for (const [i, pattern] of words.entries()) expect(webUi!.warnings[i]).toMatch(pattern);
  });

  test.each(["a [cat:dog:0.5] sits", "a [cat:0.5] sits", "a [cat|dog] sits", "a cat AND a dog"])(
    "of the web UI with a prompt that is more than text are named: %s",
    async (prompt) => {
      const text = `${prompt}\nSteps: 4, Sampler: Euler, CFG scale: 7, Seed: 5, Size: 16x16`;
      const { webUi } = await readRecord(await picture("p.png", [{ keyword: "parameters", text }]));
      expect(webUi?.warnings).toHaveLength(1);
    },
  );

  test("say our own levels as the web UI calls them", () => {
    const written = (schedule: string): string => {
      const options = { ...RECORD.options, schedule: [schedule] };
      return recordTexts({ ...RECORD, options })[0]!.text;
    };
    expect(written("model")).toMatch(/Schedule type: Uniform/);
    expect(written("karras")).toMatch(/Schedule type: Karras/);
  });

  test("that are malformed are refused, and options that pictures do not carry are not taken", async () => {
    const own = (text: string) => picture("x.png", [{ keyword: "tweedie", text }]);
    await expect(readRecord(await picture("n.png", []))).rejects.toThrow(UsageError);
    for (const text of [
      "{",
      "[]",
      "{}",
      '{"options":[]}',
      '{"options":{"prompt":3}}',
      '{"options":{"emphasis":["a"]}}',
    ])
      await expect(readRecord(await own(text)), text).rejects.toThrow(FormatError);
    const { options } = await readRecord(
      await own('{"options":{"out":["/etc"],"hub":true,"__proto__":{"a":1}}}'),
    );
    expect(options).toEqual({});
    const { batch } = await readRecord(await own('{"options":{},"batch":{"rows":1e9,"row":3}}'));
    expect(batch).toEqual({ rows: 1, row: 0 });
  });

  test("name files by their content", async () => {
    writeFileSync(path("init.png"), "one");
    const hash = await hashFile(path("init.png"));
    expect(hash).toBe("7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed");
    const record = { ...RECORD, files: { [path("init.png")]: hash } };
    const named = { "init-image": [path("init.png")], mask: [path("unknown.png")] };
    await checkFiles(record, named, {}, "x.png");
    writeFileSync(path("init.png"), "two");
    await expect(checkFiles(record, named, {}, "x.png")).rejects.toThrow(
      /init\.png has changed since.*--init-image/,
    );
    await checkFiles(record, named, { "init-image": ["other.png"] }, "x.png");
  });
});
