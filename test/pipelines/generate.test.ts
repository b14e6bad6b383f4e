import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { AbortError, ArgumentError, NonFiniteError } from "../../src/errors.ts";
import type { AutoencoderKL, ControlNetModel } from "../../src/networks/index.ts";
import { mapParameters } from "../../src/nn/index.ts";
import { embeddedGuidance } from "../../src/pipelines/conditions.ts";
import {
  compilePipeline,
  conditionalNetwork,
  encodePrompts,
  generatePictures,
  loadModel,
  loadPipelineComponents,
  PIPELINE_SAMPLERS,
  type PictureEvent,
  type PictureOptions,
  type PipelineComponents,
  planPictures,
} from "../../src/pipelines/index.ts";
import { cachedSessions, fillNormal, full, type Tensor, tensor } from "../../src/tensor/index.ts";
import { runtime } from "../../src/tensor/runtime/devices.ts";
import {
  SCHEDULER,
  writeTinyControlNet,
  writeTinyDdpm,
  writeTinyDit,
  writeTinySdxl,
  writeTinyStableDiffusion,
} from "./tiny-pipelines.ts";

const folder = mkdtempSync(join(tmpdir(), "tweedie-pipelines-"));
let [sd, sdxl, lcm, inpainting, ddpm, dit]: PipelineComponents[] = [];
let control: ControlNetModel;

beforeAll(async () => {
  await writeTinyStableDiffusion(join(folder, "sd"));
  await writeTinyStableDiffusion(join(folder, "inpainting"), { unet: { in_channels: 9 } });
  await writeTinyStableDiffusion(join(folder, "lcm"), {
    unet: { time_cond_proj_dim: 6 },
    scheduler: { ...SCHEDULER, _class_name: "LCMScheduler" },
  });
  await writeTinySdxl(join(folder, "sdxl"));
  await writeTinyControlNet(join(folder, "control"));
  await writeTinyDdpm(join(folder, "ddpm"));
  await writeTinyDit(join(folder, "dit"));
  const names = ["sd", "sdxl", "lcm", "inpainting", "ddpm", "dit"];
  [sd, sdxl, lcm, inpainting, ddpm, dit] = await Promise.all(
    names.map((n) => loadPipelineComponents(join(folder, n))),
  );
  control = (await loadModel(join(folder, "control"))).model as ControlNetModel;
});
afterAll(() => rmSync(folder, { recursive: true }));

type Picture = Extract<PictureEvent, { type: "picture" }>;

/** All events of a request. */
async function run(
  components: PipelineComponents,
  options: PictureOptions,
  more: Parameters<typeof generatePictures>[1] = {},
): Promise<PictureEvent[]> {
  const events: PictureEvent[] = [];
  for await (const event of generatePictures(planPictures(components, options), more)) events.push(event);
  return events;
}

const isPicture = (event: PictureEvent): event is Picture => event.type === "picture";

/** The values of the pictures of a request. */
async function pictures(components: PipelineComponents, options: PictureOptions): Promise<Float32Array[]> {
  const made = (await run(components, options)).filter(isPicture);
  return Promise.all(made.map(async ({ image }) => (await image.data()) as Float32Array));
}

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => Math.max(worst, Math.abs(v - b[i]!)), 0);

const TEXT = { prompt: "a red cat at night", steps: 4 } as const;

describe("a pipeline that stays compiled", () => {
  const imagesOf = async (events: AsyncIterable<PictureEvent>): Promise<Float32Array[]> => {
    const images: Float32Array[] = [];
    for await (const event of events)
      if (isPicture(event)) images.push((await event.image.data()) as Float32Array);
    return images;
  };
  test("makes the same pictures, compiles nothing the second time, and serves several at once", async () => {
    const rt = await runtime();
    const pipeline = compilePipeline(sd!);
    const plan = (seed: number) => planPictures(sd!, { ...TEXT, seeds: [seed] });
    const [alone, other] = [
      await pictures(sd!, { ...TEXT, seeds: [3] }),
      await pictures(sd!, { ...TEXT, seeds: [4] }),
    ];
    expect(await imagesOf(pipeline.generate(plan(3)))).toEqual(alone);
    const compile = vi.spyOn(rt, "createSession");
    const both = await Promise.all([3, 4].map((seed) => imagesOf(pipeline.generate(plan(seed)))));
    expect(both).toEqual([alone, other]);
    expect(compile).not.toHaveBeenCalled();
    await pipeline.close();
    expect(await imagesOf(pipeline.generate(plan(3)))).toEqual(alone);
    expect(compile).toHaveBeenCalled();
    compile.mockRestore();
    await pipeline.close();
  });
  test("takes plans of its own components only", () => {
    const pipeline = compilePipeline(sd!);
    expect(() => pipeline.generate(planPictures(sdxl!, { ...TEXT, seeds: [0] }))).toThrow(
      /plan is for other components/,
    );
  });
});

test("DDIM and TCD add no fresh noise unless asked to, as in diffusers' pipelines", async () => {
  const of = (sampler: "ddim" | "tcd" | "euler", eta?: number) => ({ ...TEXT, seeds: [3], sampler, eta });
  for (const sampler of ["ddim", "tcd"] as const) {
    const picture = async (eta?: number) => (await pictures(sd!, of(sampler, eta)))[0]!;
    const [none, zero, half] = [await picture(), await picture(0), await picture(0.5)];
    expect(none).toEqual(zero);
    expect(largestDifference(none, half)).toBeGreaterThan(0.01);
  }
  expect(() => planPictures(sd!, of("euler", 0.5))).toThrow(/eta: ddim and tcd take it, .* is euler/);
  expect(() => planPictures(sd!, of("ddim", 1.5))).toThrow(/eta: expected 0 to 1, got 1\.5/);
});

/** A picture of 64x64 pixels to start from. */
const picture = (seed: number): Tensor =>
  tensor(fillNormal(new Float32Array(3 * 64 * 64), { seed }).map(Math.tanh), { shape: [1, 3, 64, 64] });

describe("pictures from a text", () => {
  test("depend on prompt, negative prompt, guidance, seed, steps, sampler, schedule and clip skip", async () => {
    const base: PictureOptions = { ...TEXT, seeds: [7] };
    const [plain] = await pictures(sd!, base);
    expect(largestDifference(plain!, (await pictures(sd!, base))[0]!)).toBe(0);
    const changes: Partial<PictureOptions>[] = [
      { prompt: "a blue dog" },
      { prompt: "a (red:1.5) cat at night" },
      { negative: "blurry sky" },
      { guidance: 3 },
      { guidanceRescale: 0.7 },
      { seeds: [8] },
      { steps: 5 },
      { sampler: "euler" },
      { sampler: "dpmpp-2m", schedule: "karras" },
      { clipSkip: 1 },
      { rng: "philox" },
    ];
    for (const change of changes) {
      const [changed] = await pictures(sd!, { ...base, ...change });
      expect(largestDifference(plain!, changed!), JSON.stringify(change)).toBeGreaterThan(1e-3);
    }
  });

  test("of a batch are those made alone, in every noise mode, also by a sampler that draws noise", async () => {
    for (const rng of ["torch-cpu", "torch-cuda", "philox"] as const) {
      const options: PictureOptions = { ...TEXT, rng, sampler: "euler-ancestral", seeds: [7, 8, 9] };
      const together = await pictures(sd!, { ...options, batch: 2 });
      for (const [i, seed] of [7, 8, 9].entries()) {
        const [alone] = await pictures(sd!, { ...options, seeds: [seed] });
        expect(largestDifference(together[i]!, alone!), `${rng} ${seed}`).toBeLessThan(1e-4);
      }
    }
  });

  test("are made by every sampler", async () => {
    for (const sampler of PIPELINE_SAMPLERS) {
      const [event] = (await run(sd!, { ...TEXT, sampler, seeds: [1] })).filter(isPicture);
      expect(event?.image.shape, sampler).toEqual([1, 3, 64, 64]);
    }
  });

  test("are made in one compiled network and few small sessions, however many steps and batches there are", async () => {
    await pictures(sd!, { ...TEXT, seeds: [1] });
    const before = cachedSessions();
    await pictures(sd!, { ...TEXT, steps: 12, seeds: [1, 2], sampler: "plms" });
    expect(cachedSessions()).toBe(before);
    const network = conditionalNetwork(sd!);
    const { positive } = await encodePrompts(sd!, "a cat", undefined);
    const x = full([1, 4, 8, 8], 0.5);
    for (const t of [999, 500, 1]) await network.call(x, t, positive);
    expect(network.signatures).toBe(1);
    await network.close();
  });

  test("can be wider than high", async () => {
    const [event] = (await run(sd!, { ...TEXT, seeds: [1], width: 96, height: 40 })).filter(isPicture);
    expect(event!.image.shape).toEqual([1, 3, 40, 96]);
  });

  test("follow a ControlNet as much as its scale says", async () => {
    const [plain] = await pictures(sd!, { ...TEXT, seeds: [7] });
    const image = await picture(1).add(1).div(2).eval();
    const with_ = (scale: number) =>
      pictures(sd!, { ...TEXT, seeds: [7], controls: [{ model: control, image, scale }] });
    expect(largestDifference(plain!, (await with_(0))[0]!)).toBeLessThan(1e-5);
    expect(largestDifference(plain!, (await with_(1))[0]!)).toBeGreaterThan(1e-2);
  });
});

describe("relatives of Stable Diffusion", () => {
  test("XL is told both texts, the whole text and the size; without a negative prompt it is led away from zeros", async () => {
    const { positive, negative } = await encodePrompts(sdxl!, "a red cat", undefined);
    expect([positive.context.shape, positive.pooled?.shape]).toEqual([
      [1, 77, 20],
      [1, 6],
    ]);
    expect((await negative.context.toArray()).every((v) => v === 0)).toBe(true);
    const [plain] = await pictures(sdxl!, { ...TEXT, seeds: [7] });
    const [empty] = await pictures(sdxl!, { ...TEXT, seeds: [7], negative: "" });
    const [wide] = await pictures(sdxl!, { ...TEXT, seeds: [7], width: 72 });
    expect(largestDifference(plain!, empty!)).toBeGreaterThan(1e-4);
    expect(wide).toHaveLength(3 * 64 * 72);
    expect(planPictures(sdxl!, { ...TEXT, seeds: [7] }).settings.guidance).toBe(5);
  });

  test("latent consistency models are told the guidance, and make a picture in four steps", async () => {
    const plan = planPictures(lcm!, { prompt: "a cat", seeds: [7] });
    expect(plan.settings.steps).toBe(4);
    const [weak] = await pictures(lcm!, { prompt: "a cat", seeds: [7], guidance: 2 });
    const [strong] = await pictures(lcm!, { prompt: "a cat", seeds: [7], guidance: 8 });
    expect(largestDifference(weak!, strong!)).toBeGreaterThan(1e-4);
    const embedded = await embeddedGuidance(8, 7).toArray(); // as the reference library computes it
    const angles = [7000, 7000 / 100, 7000 / 10000];
    expect(embedded).toHaveLength(7);
    for (const [i, a] of angles.entries()) {
      expect(embedded[i]).toBeCloseTo(Math.sin(a), 5);
      expect(embedded[3 + i]).toBeCloseTo(Math.cos(a), 5);
    }
  });
});

describe("prompts", () => {
  test("that are too long are cut with a warning that says where, or split", async () => {
    const prompt = `${"a red cat, ".repeat(24)}and a house`;
    const cut = await encodePrompts(sd!, prompt, "blurry");
    expect(cut.positive.context.shape).toEqual([1, 77, 12]);
    expect(cut.warnings).toHaveLength(1);
    expect(cut.warnings[0]).toMatch(
      /the prompt is longer than 75 tokens: it was cut after "….*"; left out: ", a red cat.*…"/,
    );
    const split = await encodePrompts(sd!, prompt, "blurry", { longPrompts: true });
    expect(split.warnings).toEqual([]);
    expect(split.positive.context.shape).toEqual([1, 154, 12]);
    expect(split.negative.context.shape).toEqual([1, 154, 12]);
  });

  test("have their brackets taken literally when asked", async () => {
    const weighed = await encodePrompts(sd!, "(red:1.5) cat", "");
    const literal = await encodePrompts(sd!, "(red:1.5) cat", "", { emphasis: false });
    const values = async (t: Tensor) => (await t.data()) as Float32Array;
    expect(
      largestDifference(await values(weighed.positive.context), await values(literal.positive.context)),
    ).toBeGreaterThan(0.01);
  });

  test("need a layer to be left", async () => {
    await expect(encodePrompts(sd!, "a", "", { clipSkip: 3 })).rejects.toThrow(
      "has 3 layers, 3 cannot be left out",
    );
  });
});

describe("pictures from a picture", () => {
  test("take the steps that the strength leaves, and resemble it the more the less that is", async () => {
    const init = picture(3);
    const codec = sd!.vae!.model as AutoencoderKL;
    const through = (await codec.decode(codec.encode(init).mean).data()) as Float32Array;
    const errors: number[] = [];
    for (const strength of [0.2, 0.6, 1]) {
      const events = await run(sd!, { ...TEXT, steps: 10, seeds: [7], init, strength, guidance: 1 });
      expect(events.filter((e) => e.type === "step")).toHaveLength(10 * strength);
      const made = (await events.find(isPicture)!.image.data()) as Float32Array;
      errors.push(made.reduce((sum, v, i) => sum + Math.abs(v - through[i]!), 0) / made.length);
    }
    expect(errors[0]).toBeLessThan(errors[1]!);
    expect(errors[1]).toBeLessThan(errors[2]!);
  });

  test("keep what the mask does not cover, bit for bit, with ordinary and with inpainting models", async () => {
    const init = picture(3);
    const covered = (i: number): boolean => i % 64 >= 32; // the right half
    const mask = tensor(
      Float32Array.from({ length: 64 * 64 }, (_, i) => (covered(i) ? 1 : 0)),
      { shape: [1, 1, 64, 64] },
    );
    const original = (await init.data()) as Float32Array;
    for (const components of [sd!, inpainting!]) {
      const [made] = await pictures(components, { ...TEXT, seeds: [7], init, mask });
      const changed = made!.filter((v, i) => v !== original[i] && !covered(i % 4096)).length;
      expect(changed).toBe(0);
      expect(made!.filter((v, i) => v !== original[i] && covered(i % 4096)).length).toBeGreaterThan(6000);
    }
  });

  test("of a batch are those made alone", async () => {
    const options: PictureOptions = { ...TEXT, seeds: [7, 8], init: picture(3), strength: 0.5 };
    const together = await pictures(sd!, { ...options, batch: 2 });
    const [alone] = await pictures(sd!, { ...options, seeds: [8] });
    expect(largestDifference(together[1]!, alone!)).toBeLessThan(1e-4);
  });
});

describe("pictures without a text", () => {
  test("from nothing but noise", async () => {
    const [a, b] = await pictures(ddpm!, { seeds: [1, 2], steps: 5 });
    expect(a).toHaveLength(3 * 16 * 16);
    expect(largestDifference(a!, b!)).toBeGreaterThan(0.1);
    expect(Math.max(...a!.map(Math.abs))).toBeLessThanOrEqual(1.0001); // clip_sample
    expect(planPictures(ddpm!, { seeds: [1] }).settings).toMatchObject({ steps: 1000, samplerName: "ddpm" });
  });

  test("of a class, with guidance", async () => {
    const [a] = await pictures(dit!, { seeds: [1], label: 0, steps: 3 });
    const [b] = await pictures(dit!, { seeds: [1], label: 1, steps: 3 });
    const [c] = await pictures(dit!, { seeds: [1], label: 1, steps: 3, guidance: 1 });
    expect(largestDifference(a!, b!)).toBeGreaterThan(1e-3);
    expect(largestDifference(b!, c!)).toBeGreaterThan(1e-3);
  });

  test("with the variance that the network learned, under guidance too", async () => {
    const withVariance = async (variance_type: string) => {
      const scheduler = { ...dit!.scheduler, _class_name: "DDPMScheduler", variance_type };
      const [picture] = await pictures({ ...dit!, scheduler }, { seeds: [1], label: 0, steps: 3 });
      return picture!;
    };
    const [learned, small] = [await withVariance("learned_range"), await withVariance("fixed_small")];
    expect(learned.every(Number.isFinite)).toBe(true);
    expect(largestDifference(learned, small)).toBeGreaterThan(1e-3);
  });
});

describe("a run", () => {
  test("shows pictures in the making", async () => {
    const events = await run(sd!, { ...TEXT, seeds: [1] }, { previewEvery: 2 });
    const shown = events.flatMap((e) => (e.type === "step" ? [e.preview?.shape] : []));
    expect(shown).toEqual([undefined, [1, 3, 8, 8], undefined, [1, 3, 8, 8]]);
  });

  test("decodes when all batches are sampled, unless there is nothing to decode with", async () => {
    const order = async (components: PipelineComponents, options: Omit<PictureOptions, "seeds">) =>
      (await run(components, { ...options, seeds: [1, 2] })).map(({ type }) => type).join(" ");
    expect(await order(sd!, { ...TEXT, steps: 1, sampler: "ddim" })).toBe("step step picture picture");
    expect(await order(ddpm!, { steps: 1 })).toBe("step picture step picture");
  });

  test("ends between steps when it is told to", async () => {
    const controller = new AbortController();
    const seen: string[] = [];
    const plan = planPictures(sd!, { ...TEXT, seeds: [1] });
    const work = (async () => {
      for await (const event of generatePictures(plan, { signal: controller.signal })) {
        seen.push(event.type);
        if (seen.length === 2) controller.abort();
      }
    })();
    await expect(work).rejects.toThrow(AbortError);
    expect(seen).toEqual(["step", "step"]);
  });

  test("stops at a NaN instead of writing a black picture", async () => {
    const broken = mapParameters(sd!.unet!.model, (t, key) =>
      key === "conv_out.bias" ? full(t.shape, Number.NaN) : t,
    );
    await expect(
      run({ ...sd!, unet: { ...sd!.unet!, model: broken } }, { ...TEXT, seeds: [1] }),
    ).rejects.toThrow(NonFiniteError);
    const vae = mapParameters(sd!.vae!.model, (t, key) =>
      key === "decoder.conv_out.bias" ? full(t.shape, Number.NaN) : t,
    );
    await expect(run({ ...sd!, vae: { ...sd!.vae!, model: vae } }, { ...TEXT, seeds: [1] })).rejects.toThrow(
      /decoded picture has NaN/,
    );
  });
});

describe("what a model cannot do", () => {
  const refused = (
    components: PipelineComponents | undefined,
    options: Partial<PictureOptions>,
    message: RegExp,
  ) => {
    expect(() => planPictures(components!, { seeds: [1], ...options })).toThrow(ArgumentError);
    expect(() => planPictures(components!, { seeds: [1], ...options })).toThrow(message);
  };
  test("is refused before anything is computed", () => {
    refused(sd, {}, /makes pictures from a text: give a prompt/);
    refused(sd, { ...TEXT, label: 3 }, /knows no classes/);
    refused(ddpm, { prompt: "a" }, /takes no prompt/);
    refused(ddpm, { label: 1 }, /knows no classes/);
    refused(dit, {}, /give a class, 0 to 2/);
    refused(dit, { label: 3 }, /expected 0 to 2, got 3/);
    refused(inpainting, TEXT, /repaints pictures: give a picture and a mask/);
    refused(sd, { ...TEXT, width: 100, height: 63 }, /multiples of 8.*got 100x63; the nearest is 104x64/);
    refused(dit, { label: 1, width: 72, height: 64 }, /multiples of 16.*the nearest is 80x64/);
    refused(sd, { ...TEXT, mask: full([1, 1, 64, 64], 1) }, /needs a picture to start from/);
    refused(sd, { ...TEXT, init: picture(1), strength: 0.1 }, /leaves no step to take: at least 0.25/);
    refused(sd, { ...TEXT, init: picture(1), strength: 2 }, /strength: expected 0 to 1, got 2/);
    refused(sd, { ...TEXT, seeds: [] }, /at least one seed/);
    refused(sd, { ...TEXT, batch: 0 }, /batch: expected at least 1/);
  });
});
