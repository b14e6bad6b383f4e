/**
 * The studio in a real browser: what people do with it, from the first picture to a killed server. Pictures of the page
 * go to the folder that TWEEDIE_SCREENSHOTS names, when it does.
 */
import { mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { unzipSync } from "fflate";
import type { Browser, BrowserContext, Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { readNpy } from "../../../src/data/index.ts";
import { encodePicture } from "../../../src/io/index.ts";
import { toInput } from "../../../src/systems/sdseg/data.ts";
import { lesionPicture } from "../../../src/systems/sdseg/in-page.ts";
import { createSDSeg, PRESETS, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { openSegmenter } from "../../../src/systems/sdseg/use.ts";
import {
  clientOf,
  closeStudio,
  type Opened,
  openStudio,
  spawnStudio,
  temporaryFolder,
} from "../../studio/server.ts";
import { findChromium, startChromium } from "../chromium.ts";

const chromium = findChromium();
const required = process.env.TWEEDIE_REQUIRE_BROWSER === "1";
const screenshots = process.env.TWEEDIE_SCREENSHOTS;

async function shoot(page: Page, name: string): Promise<void> {
  if (!screenshots) return;
  await mkdir(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/** What the browser itself logs when a picture is refused, or a server has stopped. */
const EXPECTED =
  /status of 4(?:22|04)|ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET/;

/** A tiny segmentation model with fresh weights. */
const MODEL = createSDSeg(PRESETS.smoke, 5);

describe.skipIf(!chromium && !required)("the studio in Chromium", () => {
  let s: Opened;
  let folder: string;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const complaints: string[] = [];
  const foreign: string[] = [];

  const open = async (options: Parameters<Browser["newContext"]>[0] = {}, own = browser): Promise<Page> => {
    context = await own.newContext({ viewport: { width: 1280, height: 860 }, ...options });
    context.setDefaultTimeout(0); // the test's own limit is enough
    const tab = await context.newPage();
    tab.on("pageerror", (error) => complaints.push(String(error)));
    tab.on("console", (m) => m.type() === "error" && !EXPECTED.test(m.text()) && complaints.push(m.text()));
    tab.on("request", (r) => {
      if (!/^(?:http:\/\/127\.0\.0\.1:|blob:|data:)/.test(r.url())) foreign.push(r.url());
    });
    return tab;
  };

  beforeAll(async () => {
    if (!chromium) throw new Error("TWEEDIE_REQUIRE_BROWSER=1, but no Chromium was found");
    folder = await temporaryFolder();
    const checkpoint = join(folder, "smoke.safetensors");
    const origin = { name: "smoke", training: "none", seed: "5", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(checkpoint, MODEL, origin, "f32");
    process.env.TWEEDIE_TEST_CHECKPOINT = checkpoint;
    s = await openStudio();
    browser = await startChromium(chromium, { webgpu: false });
    page = await open();
  });
  afterEach(() => {
    expect(complaints.splice(0)).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
    if (s) await closeStudio(s);
    await rm(folder, { recursive: true, force: true });
  });

  const panel = (state: string) => page.locator(`article[data-state="${state}"]`);

  it("runs a system on a picture that was uploaded, and shows the results", async () => {
    await page.goto(s.studio.url);
    await page.getByRole("heading", { name: "Systems" }).waitFor();
    await shoot(page, "gallery");
    await page.getByRole("link", { name: /Negatives and roots/ }).click();
    const png = await sharp({ create: { width: 40, height: 30, channels: 3, background: "#2050a0" } })
      .png()
      .toBuffer();
    await page.setInputFiles('input[type="file"]', { name: "blue.png", mimeType: "image/png", buffer: png });
    await page.getByAltText("Image").waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await panel("done").waitFor();
    await page.getByRole("button", { name: "Slider" }).click();
    await page.getByLabel("Where the result begins").fill("30");
    const result = page.getByAltText("negative");
    expect(await result.evaluate((img: HTMLImageElement) => img.naturalWidth)).toBe(40);
    await page.getByRole("button", { name: "Blend" }).click();
    await page.getByRole("button", { name: "Zoom in" }).click();
    expect(await page.getByRole("button", { name: /whole picture/ }).textContent()).toBe("125 %");
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("link", { name: "Download" }).click(),
    ]);
    expect(download.suggestedFilename()).toMatch(/^demo-.*negative\.png$/);
    const [archive] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("link", { name: "All as ZIP" }).click(),
    ]);
    const files = unzipSync(new Uint8Array(await readFile(await archive.path())));
    expect(Object.keys(files)).toEqual(expect.arrayContaining(["01-negative.png", "settings.json"]));
    expect(await page.title()).toBe("Negatives and roots · Tweedie studio");
  });

  it("segments a sample and lays the result over it", async () => {
    await page.goto(`${s.studio.url}#/system/sdseg/run`);
    await page.getByRole("button", { name: "Lesions 2" }).click();
    await page.getByAltText("Image").waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await panel("done").waitFor();
    await page.getByRole("button", { name: "overlay", exact: true }).click();
    await page.getByRole("button", { name: "Slider" }).click();
    await shoot(page, "result");
    await page.getByRole("button", { name: "Side by side" }).click();
    await shoot(page, "result-beside");
    await page.goto(`${s.studio.url}#/`);
    await page.getByRole("heading", { name: "Systems" }).waitFor();
    await shoot(page, "gallery-used");
  });

  it("shows progress, and cancels", async () => {
    await page.goto(`${s.studio.url}#/system/demo/run`);
    await page.getByRole("button", { name: "A room" }).click();
    await page.getByAltText("Image").waitFor();
    await page.getByLabel("Passes", { exact: true }).fill("1000");
    await page.getByLabel("Pause", { exact: true }).fill("1000");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByText(/^\d+ of 1000/).waitFor();
    await shoot(page, "running");
    await page.getByRole("button", { name: "Cancel" }).click();
    await panel("cancelled").waitFor();
  });

  it("shows a running training after a reload, pauses and resumes it", async () => {
    await page.goto(`${s.studio.url}#/system/demo/train`);
    await page.getByLabel("Steps", { exact: true }).fill("10000"); // it runs until it is paused
    await page.getByLabel("Pause", { exact: true }).fill("40");
    await page.getByRole("button", { name: "Train", exact: true }).click();
    await page.getByText(/^\d+ of 10000/).waitFor();
    await page.reload();
    await page.getByText(/^\d+ of 10000/).waitFor();
    await page.locator(".u-over").first().waitFor(); // a curve
    await shoot(page, "training");
    await page.getByRole("button", { name: "Pause", exact: true }).click();
    await panel("paused").waitFor();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByText(/^\d+ of 10000/).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await panel("cancelled").waitFor();
  });

  it("shows what a training found", async () => {
    await page.goto(`${s.studio.url}#/system/demo/train`);
    await page.reload();
    await page.getByRole("button", { name: "Train", exact: true }).click();
    await panel("done").waitFor();
    await page.getByText("The root is 1.4142.").waitFor();
  });

  it("takes the settings of an earlier job, and a picture that is dropped", async () => {
    const { hash } = await s.sample("shapes");
    const options = { strength: 0.25, passes: 7 };
    const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options });
    await s.settled(job.id);
    await page.goto(`${s.studio.url}#/job/${job.id}`);
    await page.getByRole("link", { name: "Use these settings" }).click();
    await page.getByLabel("Passes", { exact: true }).waitFor();
    expect(await page.getByLabel("Passes", { exact: true }).inputValue()).toBe("7");
    expect(await page.getByLabel("Strength", { exact: true }).inputValue()).toBe("0.25");
    const shown = () => page.getByAltText("Image").getAttribute("src");
    expect(await shown()).toContain(hash);
    const png = await sharp({ create: { width: 9, height: 9, channels: 3, background: "red" } })
      .png()
      .toBuffer();
    const transfer = await page.evaluateHandle(
      (bytes) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(bytes)], "red.png", { type: "image/png" }));
        return data;
      },
      [...png],
    );
    await page.locator("label.drop").dispatchEvent("drop", { dataTransfer: transfer });
    await page.waitForFunction(
      (old) => !document.querySelector("label.drop img")?.getAttribute("src")?.includes(old),
      hash,
    );
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await panel("done").locator("h2 a").first().waitFor();
  });

  it("says what is wrong with what was asked", async () => {
    await page.goto(`${s.studio.url}#/system/demo/run`);
    await page.reload();
    await page.setInputFiles('input[type="file"]', {
      name: "no.png",
      mimeType: "image/png",
      buffer: Buffer.from("no picture"),
    });
    await page.getByRole("alert").getByText("picture that can be read").waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("alert").getByText("a picture is needed").waitFor();
    for (const [hash, words] of [
      ["#/system/nothing", "There is no such system"],
      ["#/job/nothing", "This job is not there any more"],
    ]) {
      await page.goto(`${s.studio.url}${hash}`);
      await page.getByRole("heading", { name: words }).waitFor();
    }
  });

  it("compares two runs from the history", async () => {
    await s.settled((await s.add({ tool: "demo", task: "train", options: { steps: 60, rate: 0.02 } })).id);
    await page.goto(`${s.studio.url}#/history`);
    const boxes = page.getByLabel("Choose");
    await boxes.nth(0).check();
    await page.locator("li", { hasText: "Train" }).nth(1).getByLabel("Choose").check();
    await shoot(page, "history");
    await page.getByRole("link", { name: "Compare", exact: true }).click();
    await page.getByRole("heading", { name: "Two runs" }).waitFor();
    await page.locator(".u-over").first().waitFor();
    expect(await page.locator("tr.differs", { hasText: "Rate" }).count()).toBe(1);
    expect(await page.locator("tr", { hasText: "System" }).count()).toBe(0); // the same in both
    await page.getByLabel("also those that are the same").check();
    expect(await page.locator("tr", { hasText: "System" }).count()).toBe(1);
    await shoot(page, "compare");

    const { hash } = await s.sample("shapes");
    const ids: string[] = [];
    for (const strength of [0.2, 1]) {
      const job = await s.add({ tool: "demo", task: "run", inputs: { image: hash }, options: { strength } });
      ids.push((await s.settled(job.id)).id);
    }
    await page.goto(`${s.studio.url}#/compare/${ids.join("/")}`);
    await page.getByRole("button", { name: "Slider" }).click();
    const sources = await page
      .locator(".frame img")
      .evaluateAll((all) => all.map((img) => (img as HTMLImageElement).src));
    expect(sources.map((src) => ids.findIndex((id) => src.includes(id)))).toEqual([0, 1]);
    await page.getByRole("button", { name: "Zoom in" }).click();
    await page.getByRole("application").press("Escape");
    expect(await page.getByRole("button", { name: /whole picture/ }).textContent()).toBe("100 %");
  });

  it("is reached and used with the keyboard alone", async () => {
    await page.goto(`${s.studio.url}#/`);
    await page.reload();
    await page.getByRole("heading", { name: "Systems" }).waitFor();
    const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() ?? "");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("To the content");
    for (let i = 0; i < 12 && !(await focused()).startsWith("Negatives"); i++)
      await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Negatives and roots", exact: true }).waitFor();
    await page.waitForFunction(() => document.activeElement?.id === "content"); // one goes on in the new view
    await page.keyboard.press("Tab");
    expect(await page.evaluate(() => document.activeElement?.closest("main") !== null)).toBe(true);
    const outline = await page.evaluate(() => {
      (document.querySelector("nav[aria-label=Tasks] a") as HTMLElement).focus();
      return getComputedStyle(document.activeElement!).outlineStyle;
    });
    expect(outline).toBe("solid");
    // Everything that can be pressed can be reached, in the order in which it is read.
    const order = await page.evaluate(
      () =>
        [
          ...document.querySelectorAll<HTMLElement>(
            "a[href], button, input, select, textarea, summary, [tabindex]",
          ),
        ].filter((e) => e.tabIndex > 0 || (e.tabIndex < 0 && e.id !== "content")).length,
    );
    expect(order).toBe(0);
  });

  it("keeps still for those who want no motion", async () => {
    const wide = page;
    page = await open({ reducedMotion: "reduce" });
    await page.goto(s.studio.url);
    await page.getByRole("heading", { name: "Systems" }).waitFor();
    const moving = await page.evaluate(
      () =>
        [...document.querySelectorAll("*")].filter((element) => {
          const { transitionDuration, animationName } = getComputedStyle(element);
          return Number.parseFloat(transitionDuration) > 0 || animationName !== "none";
        }).length,
    );
    expect(moving).toBe(0);
    await context.close();
    page = wide;
  });

  it("fits a phone, in light and dark", async () => {
    const wide = page;
    for (const colorScheme of ["light", "dark"] as const) {
      page = await open({ viewport: { width: 375, height: 740 }, colorScheme });
      for (const [name, hash, content] of [
        ["gallery", "#/", page.getByRole("link", { name: /Negatives and roots/ })],
        ["system", "#/system/demo/train", page.getByLabel("Steps", { exact: true })],
        ["history", "#/history", page.locator("main li").last()],
      ] as const) {
        await page.goto(`${s.studio.url}${hash}`);
        await content.waitFor();
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(375);
        await shoot(page, `phone-${name}-${colorScheme}`);
      }
      await context.close();
    }
    page = await open({ colorScheme: "dark" });
    await page.goto(`${s.studio.url}#/system/demo/train`);
    await page.locator(".u-over").first().waitFor();
    await shoot(page, "training-dark");
    const ground = (): Promise<string> =>
      page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const dark = await ground();
    await page.getByRole("button", { name: "Colours: auto" }).click(); // now light
    expect(await ground()).not.toBe(dark);
    await context.close();
    page = wide;
  });

  it.for(["wasm", "webgpu"] as const)(
    "segments in the page on %s as Node does, also when the server has stopped",
    async (device, context) => {
      const other = await openStudio();
      const own = device === "webgpu" ? await startChromium(chromium!, { webgpu: true }) : browser;
      const tab = await open({}, own);
      await tab.goto(`${other.studio.url}#/system/sdseg/in-page`);
      await tab.getByRole("button", { name: "Load the model into the page" }).click();
      await tab.locator('[data-in-page="ready"]').waitFor();
      await closeStudio(other);
      const ready = await tab.locator("[data-in-page]").textContent();
      const used = ready?.includes("WebGPU") ? "webgpu" : "wasm";

      const picture = lesionPicture(7);
      await tab.setInputFiles('input[type="file"]', {
        name: "lesion.png",
        mimeType: "image/png",
        buffer: Buffer.from(await encodePicture(picture)),
      });
      await tab.getByText(/The last picture took/).waitFor();
      await shoot(tab, `in-page-${device}`);
      const [download] = await Promise.all([
        tab.waitForEvent("download"),
        tab.getByRole("link", { name: "Probabilities (.npy)" }).click(),
      ]);
      const inPage = (await readNpy(await download.path())).data as Float32Array;
      await tab.context().close();
      if (own !== browser) await own.close();

      const segmenter = openSegmenter(MODEL);
      const { probability } = await segmenter.segment(toInput(picture, MODEL.config), { pad: true });
      await segmenter.close();
      const worst = Math.max(...inPage.map((p, i) => Math.abs(p - probability[i]!)));
      console.log(`in the page on ${used} and in Node: ${worst.toExponential(1)} apart at most`);
      expect(new Set(probability).size).toBeGreaterThan(100); // there is something to compare
      expect(worst).toBeLessThan(1e-3);
      if (device === "wasm") expect(used).toBe("wasm");
      else if (used !== device) context.skip("this Chromium offers no WebGPU adapter");
    },
  );

  it("has its history again after the server was killed", async () => {
    const data = await temporaryFolder();
    const first = await spawnStudio(data);
    const client = clientOf(first);
    await client.settled((await client.add({ tool: "demo", task: "evaluate" })).id);
    const training = await client.add({ tool: "demo", task: "train", options: { steps: 10_000, pause: 20 } });
    const tab = await open();
    await tab.goto(`${client.origin}/#/job/${training.id}`);
    await tab.getByText(/^\d+ of 10000/).waitFor();
    first.child.kill("SIGKILL");
    await tab.getByText("does not answer at the moment").waitFor();
    const second = await spawnStudio(data, { port: first.port });
    await tab.getByText("interrupted").waitFor(); // by itself, without a reload
    await tab.getByRole("button", { name: "Resume" }).click();
    await tab.getByText(/^\d+ of 10000/).waitFor();
    await tab.goto(`${client.origin}/#/history`);
    expect(await tab.locator("main li").count()).toBe(2);
    second.child.kill("SIGTERM");
    await new Promise((resolve) => second.child.once("exit", resolve));
    await tab.context().close();
    await rm(data, { recursive: true, force: true });
  });

  it("asked no other server for anything", () => {
    expect(foreign).toEqual([]);
  });
});
