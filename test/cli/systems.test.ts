import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { tweedie } from "../../src/cli/commands/index.ts";
import { runCli } from "../../src/cli/run.ts";
import { actionOptions, flagsOf } from "../../src/cli/systems/options.ts";
import { show, tableText } from "../../src/cli/systems/show.ts";
import { decodePicture, encodePicture } from "../../src/io/index.ts";
import {
  type ActionName,
  type ActionResult,
  action,
  flagOf,
  hinted,
  optionSchemas,
  SYSTEMS,
} from "../../src/systems/index.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../src/systems/sdseg/model.ts";
import { drained, type WorkEvent } from "../../src/work.ts";

const example = action({
  about: "an example",
  options: z.object({
    image: hinted(z.string().describe("a picture"), { group: "Data", path: "file" }),
    learningRate: z.number().min(0).max(1).default(0.5).describe("how fast"),
    steps: z.int().min(1).max(1000).optional().describe("how long"),
    mode: z.enum(["fast", "slow"]).default("fast").describe("how"),
    loud: z.boolean().default(false).describe("whether to say so"),
    names: z.array(z.string()).default([]).describe("who"),
  }),
  async *run() {
    yield { type: "message", text: "at it" };
    return { summary: "done" };
  },
});

describe("flags made of a declaration", () => {
  it("know names, types, defaults, ranges, choices, headings", () => {
    const found = Object.fromEntries(optionSchemas(example).map((o) => [o.name, o]));
    expect(found.image).toMatchObject({ type: "string", required: true, group: "Data", path: "file" });
    expect(found.learningRate).toMatchObject({
      type: "number",
      default: 0.5,
      minimum: 0,
      maximum: 1,
      required: false,
    });
    expect(found.steps).toMatchObject({ type: "integer", minimum: 1, maximum: 1000 });
    expect(found.mode).toMatchObject({ choices: ["fast", "slow"], default: "fast" });
    expect(found.names).toMatchObject({ list: true, type: "string" });
    const flags = flagsOf(example);
    expect(Object.keys(flags)).toEqual(["image", "learning-rate", "steps", "mode", "loud", "names"]);
    expect(flags["learning-rate"]!.description).toMatch(/how fast, 0 to 1 \(default 0\.5\)/);
  });

  it("become typed options with their defaults", () => {
    const args = [
      "--image",
      "a.png",
      "--learning-rate",
      "0.25",
      "--steps=7",
      "--loud",
      "--names",
      "a",
      "--names",
      "b",
    ];
    expect(actionOptions(example, args)).toEqual({
      image: "a.png",
      learningRate: 0.25,
      steps: 7,
      mode: "fast",
      loud: true,
      names: ["a", "b"],
    });
  });

  it.each([
    [[], /--image is needed: a picture/],
    [["--image", "a", "--steps", "0"], /--steps needs a whole number from 1 to 1000, got "0"/],
    [["--image", "a", "--steps", "2.5"], /--steps/],
    [["--image", "a", "--learning-rate", "x"], /--learning-rate needs a number/],
    [["--image", "a", "--mode", "fats"], /did you mean "fast"/],
    [["--image", "a", "--lound"], /--loud/],
  ] as const)("refuse %j", (args, message) => {
    expect(() => actionOptions(example, args)).toThrow(message);
  });
});

describe("showing an action", () => {
  it("prints messages, tables, warnings and the summary", async () => {
    async function* run(): AsyncGenerator<WorkEvent, ActionResult> {
      yield { type: "message", text: "hello" };
      yield { type: "warning", text: "careful" };
      yield {
        type: "table",
        title: "T",
        table: {
          columns: ["name", "value"],
          rows: [
            ["a", 1.23456],
            ["bb", null],
          ],
        },
      };
      yield { type: "file", path: "x.json", about: "numbers" };
      return { summary: "finished" };
    }
    const [out, error]: [string[], string[]] = [[], []];
    await show(run(), { out: (text) => out.push(text), error: (text) => error.push(text) });
    expect(out.join("\n")).toMatch(
      /hello\n\nT\nname {2}value\na {5}1\.235\nbb {8}–\n\nx\.json: numbers\nfinished/,
    );
    expect(error).toEqual(["warning: careful"]);
  });

  it("aligns numbers to the right", () => {
    expect(tableText({ columns: ["a", "b"], rows: [["long name", 10]] })).toBe(
      "a           b\nlong name  10",
    );
  });
});

describe("declared systems", () => {
  it.each(SYSTEMS.map((s) => [s.name, s] as const))("%s can be explained by its options", (_, system) => {
    for (const one of Object.values(system.actions)) {
      expect(one.about).not.toBe("");
      for (const option of optionSchemas(one)) expect(option.description, option.name).not.toBe("");
      const required = optionSchemas(one)
        .filter((o) => o.required)
        .flatMap((o) => [`--${o.name}`, "x"]);
      expect(() => actionOptions(one, required)).not.toThrow();
    }
  });
});

describe("an option without effect", () => {
  const needs = (names: string, what: string, is = "not given") =>
    names.split(" ").map((name) => [name, `it needs ${what}, which is ${is}`] as const);
  const modes = "--mode ddim or plms or ddpm or dpm-solver";
  const beside = (names: string, other: string) =>
    names.split(" ").map((name) => [name, `has no effect with ${other}`] as const);
  it.each([
    ["run sdseg", [...needs("steps spacing", modes, "direct"), ...needs("eta", "--mode ddim", "direct")]],
    ["run sdseg --mode plms", needs("eta", "--mode ddim", "plms")],
    ["evaluate sdseg", needs("range mask-colours foreground invert-masks", "--data")],
    [
      "evaluate sdseg",
      [...needs("steps spacing", modes, "direct"), ...needs("eta", "--mode ddim", "direct")],
    ],
    ["train sdseg", needs("range mask-colours foreground invert-masks", "--data")],
    [
      "train sdseg --from a",
      beside("colour head init-autoencoder init-denoiser autoencoder-steps decoder-steps", "--from"),
    ],
    ["train sdseg --init-autoencoder a", beside("autoencoder-steps decoder-steps", "--init-autoencoder")],
    ["train sdseg --head image-only", needs("lambda", "--head raw or vskip", "image-only")],
    ["reproduce sdseg", needs("real-steps", "--data")],
    ["run umd", needs("data limit", "--mode reconstruct or features", "sample")],
    [
      "run umd",
      [...needs("ratio", "--mode reconstruct", "sample"), ...needs("index", "--mode features", "sample")],
    ],
    [
      "run umd --mode features",
      needs("count steps eta guidance label predict-x0", "--mode sample", "features"),
    ],
    ["evaluate umd", needs("linear-rate", "--linear")],
    [
      "train umd --from a",
      beside("preset colour patch conditioning zero-class-tokens init-encoder", "--from"),
    ],
    ["train umd --autoencoder a", beside("colour", "--autoencoder")],
    ["reproduce umd", needs("colour", "--data")],
    ["reproduce umd --ablation", beside("variants", "--ablation")],
    ["reproduce q-dit", needs("step-pictures", "--further")],
    [
      "train decomp --from a",
      beside("size components latent norm linear weighted schedule prediction", "--from"),
    ],
    [
      "run decomp",
      [
        ...needs("mask with-model", "--with"),
        ...needs("component", "--mode vary", "decompose"),
        ...needs("compose", "--mode add", "decompose"),
      ],
    ],
    [
      "run decomp --mode add --method ddpm",
      [...needs("weights", "--mode decompose", "add"), ...needs("eta", "--method ddim", "ddpm")],
    ],
    ["evaluate decomp --method ddpm", needs("eta", "--method ddim", "ddpm")],
    ["train diffloss", needs("size", "--part prior", "network")],
    [
      "train diffloss",
      needs("prior strength published t-min t-max detach-prior recompute", "--diffloss", "not given"),
    ],
    [
      "train diffloss --part prior",
      needs("task pairs network from pixel diffloss", "--part network", "prior"),
    ],
    ["evaluate diffloss --pairs a", beside("data task sigma", "--pairs")],
    ["train ncp-dpo", [...needs("losers", "--winners"), ...needs("scorer noisy", "--prompts")]],
    [
      "train ncp-dpo --space latent",
      needs("tap encoder course pooled balanced", "--space ncp or both", "latent"),
    ],
    ["train ncp-dpo --loss sft", needs("beta", "--loss dpo or cpo or ipo or hinge", "sft")],
    [
      "train ncp-dpo",
      [...needs("lambda", "--loss cpo or orpo", "dpo"), ...needs("kappa", "--space both", "ncp")],
    ],
    ["run ncp-dpo --mode pairs", needs("scale", "--mode compare or scales", "pairs")],
    [
      "train noise-da --mode 0",
      needs(
        "diffusion alpha ramp t-min t-max shuffle swap conditions margin diffusion-rate",
        "--mode 1 or 2",
        "0",
      ),
    ],
  ])("of %s is refused by name, and why", (words, expected) => {
    const [name, system, ...given] = words.split(" ");
    const found = SYSTEMS.find((one) => one.name === system)!.actions[name as ActionName]!;
    const schemas = optionSchemas(found);
    const valueFor = ({ type, choices, default: standard }: (typeof schemas)[number]): string[] =>
      type === "boolean" ? [] : [choices?.[0] ?? (standard === undefined ? "7" : String(standard))];
    const needed = schemas.filter((one) => one.required).flatMap((one) => [`--${one.name}`, "x"]);
    expect(() => actionOptions(found, [...needed, ...given])).not.toThrow();
    for (const [flag, reason] of expected) {
      const option = schemas.find((one) => flagOf(one.name) === flag)!;
      const args = [...needed, ...given, `--${flag}`, ...valueFor(option)];
      expect(() => actionOptions(found, args), flag).toThrow(
        new RegExp(`--${flag} has no effect.*${reason.replace("has no effect ", "")}`),
      );
    }
  });

  it("is refused by the action itself where its value is not the default, however it is called", async () => {
    const { run, options } = SYSTEMS[0]!.actions.run!;
    const given = { image: "nowhere.png", mode: "direct" };
    const called = (more: object) => drained(run(options.parse({ ...given, ...more }) as never, {}));
    await expect(called({ steps: 7 })).rejects.toThrow("--steps has no effect here");
    await expect(called({ steps: 50 })).rejects.toThrow("nowhere.png");
  });
});

describe("tweedie run sdseg", () => {
  let folder: string;
  const run = async (...args: string[]) => {
    const errors: string[] = [];
    const code = await runCli(tweedie, args, { out: () => undefined, error: (text) => errors.push(text) });
    return { code, error: errors.join("\n") };
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "sdseg-cli-"));
    const origin = { name: "t", training: "none", seed: "0", date: "2026-01-01", scale: 0.5 };
    await sdsegFile.save(join(folder, "model.safetensors"), createSDSeg(PRESETS.smoke, 0), origin);
    const gray = (width: number, height: number) => ({
      width,
      height,
      channels: 1,
      data: Uint8Array.from({ length: width * height }, (_, i) => (i * 37) % 256),
    });
    const sixteen = {
      width: 20,
      height: 12,
      channels: 1,
      data: Uint16Array.from({ length: 240 }, (_, i) => 200 + i),
    };
    const rgba = {
      width: 9,
      height: 33,
      channels: 4,
      data: Uint8Array.from({ length: 9 * 33 * 4 }, (_, i) => i % 256),
    };
    const files = {
      "gray.png": gray(30, 17),
      "one.png": gray(1, 1),
      "sixteen.png": sixteen,
      "rgba.png": rgba,
    };
    const { mkdir } = await import("node:fs/promises");
    await mkdir(join(folder, "in"));
    for (const [name, picture] of Object.entries(files))
      await writeFile(join(folder, "in", name), await encodePicture(picture));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("writes mask, probability map and overlay of each picture at its own size, whatever its kind", async () => {
    await writeFile(join(folder, "in", "broken.png"), "no picture");
    const out = join(folder, "out");
    const model = join(folder, "model.safetensors");
    const args = ["run", "sdseg", "--image", join(folder, "in"), "--model", model, "--out", out];
    expect((await run(...args)).code, "one file is broken, the others are done").toBe(3);
    const names = (await readdir(out)).sort();
    expect(names).toHaveLength(12);
    const { readFile } = await import("node:fs/promises");
    for (const [name, width, height] of [
      ["gray", 30, 17],
      ["one", 1, 1],
      ["sixteen", 20, 12],
      ["rgba", 9, 33],
    ] as const) {
      for (const kind of ["mask", "probability", "overlay"]) {
        const picture = await decodePicture(await readFile(join(out, `${name}-${kind}.png`)), {
          colour: "as-is",
        });
        expect([picture.width, picture.height], `${name} ${kind}`).toEqual([width, height]);
        if (kind === "mask") expect([...picture.data].every((v) => v === 0 || v === 255)).toBe(true);
      }
    }
  });

  it("ends with an error that says what is wrong", async () => {
    const model = ["--model", join(folder, "model.safetensors")];
    const broken = await run("run", "sdseg", "--image", join(folder, "in", "broken.png"), ...model);
    expect(broken.code).toBe(2);
    expect(broken.error).toContain("broken.png");
    const huge = await run(
      "run",
      "sdseg",
      "--image",
      join(folder, "in", "gray.png"),
      "--max-pixels",
      "100",
      ...model,
    );
    expect(huge).toMatchObject({ code: 2 });
    expect(huge.error).toMatch(/30x17.*limit of 100/);
    expect((await run("run", "sdseg", "--image", join(folder, "nowhere.png"), ...model)).code).toBe(2);
    const unknown = await run("run", "sdseg", "--image", join(folder, "in"), "--model", "livers");
    expect(unknown.error).toMatch(/no model "livers".*membranes/);
    expect((await run("run", "sdsge")).error).toMatch(/did you mean/);
  });
});
