/** What people do in their first ten minutes, and what used to leave them without a word. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createSDSeg, PRESETS, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { closeStudio, type Opened, openStudio, temporaryFolder } from "../../studio/server.ts";
import { accessFaults } from "../axe.ts";
import { findChromium, startChromium } from "../chromium.ts";

const chromium = findChromium();
const required = process.env.TWEEDIE_REQUIRE_BROWSER === "1";

const png = (width: number, height: number, background = "#2050a0"): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background } })
    .png()
    .toBuffer();

describe.skipIf(!chromium && !required)("the first ten minutes in the studio", () => {
  let s: Opened;
  let folder: string;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  async function open(options: Parameters<Browser["newContext"]>[0] = {}): Promise<Page> {
    const context = await browser.newContext({ viewport: { width: 1280, height: 700 }, ...options });
    context.setDefaultTimeout(0); // the test's own limit is enough
    const tab = await context.newPage();
    tab.on("pageerror", (error) => complaints.push(String(error)));
    return tab;
  }

  beforeAll(async () => {
    if (!chromium) throw new Error("TWEEDIE_REQUIRE_BROWSER=1, but no Chromium was found");
    folder = await temporaryFolder();
    process.env.TWEEDIE_TEST_CHECKPOINT = join(folder, "smoke.safetensors");
    const origin = { name: "smoke", training: "none", seed: "5", date: "2026-01-01", scale: 1 };
    await sdsegFile.save(process.env.TWEEDIE_TEST_CHECKPOINT, createSDSeg(PRESETS.smoke, 5), origin);
    s = await openStudio();
    browser = await startChromium(chromium, { webgpu: false });
    page = await open();
  });
  afterEach(() => expect(complaints.splice(0)).toEqual([]));
  afterAll(async () => {
    delete process.env.TWEEDIE_TEST_CHECKPOINT;
    await browser?.close();
    if (s) await closeStudio(s);
    await rm(folder, { recursive: true, force: true });
  });

  const inView = (selector: string): Promise<boolean> =>
    page.locator(selector).evaluate((element) => {
      const { top } = element.getBoundingClientRect();
      return top >= 0 && top < innerHeight;
    });

  async function runDemo(name: string): Promise<void> {
    await page.goto(`${s.studio.url}#/system/demo/run`);
    await page.reload(); // with no settings of before
    const buffer = await png(40, 30);
    await page.setInputFiles('input[type="file"]', { name, mimeType: "image/png", buffer });
    await page.getByText(`${name}.`).waitFor();
    await page.getByRole("button", { name: "Run", exact: true }).click();
  }

  it("what was started is in view, wherever the button was pressed", async () => {
    await page.setViewportSize({ width: 1280, height: 420 });
    await runDemo("first.png");
    await page.locator("article").waitFor();
    await expect.poll(() => inView("article")).toBe(true);
    expect(await inView("form .start")).toBe(true); // the button too, at the end of what one sees
    await page.locator('article[data-state="done"]').waitFor();
    await page.setViewportSize({ width: 1280, height: 700 });
  });

  it("a mistake that was mended is no longer told", async () => {
    await page.goto(`${s.studio.url}#/system/everything/run`);
    await page.reload();
    await page.getByLabel("Prompt").fill("x");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByRole("alert").getByText("Image: a picture is needed").waitFor();
    await page.getByRole("button", { name: "Shapes" }).click();
    await page.getByRole("alert").waitFor({ state: "detached" });
  });

  it("of several pictures for one place the first is taken, with a word", async () => {
    await page.goto(`${s.studio.url}#/system/demo/run`);
    const files = await page.evaluateHandle(
      (bytes) => {
        const data = new DataTransfer();
        for (const name of ["one.png", "two.png"])
          data.items.add(new File([Uint8Array.from(bytes)], name, { type: "image/png" }));
        return data;
      },
      [...(await png(9, 9))],
    );
    await page.locator("label.drop").dispatchEvent("drop", { dataTransfer: files });
    await page.getByText("one.png was taken").waitFor();
    // Beside the place nothing happens, least of all a page that is gone.
    const prevented = await page.evaluate(() => {
      const drop = new DragEvent("drop", { bubbles: true, cancelable: true });
      document.querySelector("main")!.dispatchEvent(drop);
      return drop.defaultPrevented;
    });
    expect(prevented).toBe(true);
  });

  it("says that it is stopping as soon as it was asked to", async () => {
    await page.goto(`${s.studio.url}#/system/demo/run`);
    await page.getByRole("button", { name: "A room" }).click();
    await page.getByAltText("Image").waitFor();
    await page.getByLabel("Passes", { exact: true }).fill("1000");
    await page.getByLabel("Pause", { exact: true }).fill("3000");
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.getByText(/^\d+ of 1000/).waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("Stopping …").waitFor();
    expect(await page.getByRole("button", { name: "Cancel" }).isDisabled()).toBe(true);
    await page.locator('article[data-state="cancelled"]').waitFor();
  });

  it("the history tells jobs apart by their files, finds them, and takes back what was removed", async () => {
    await runDemo("brain scan.png");
    await page.locator('article[data-state="done"]').getByText("brain scan.png").waitFor();
    await page.goto(`${s.studio.url}#/history`);
    const row = page.getByRole("listitem").filter({ hasText: "brain scan.png" });
    await row.waitFor();
    await page.getByRole("searchbox").fill("scan done");
    expect(await page.locator("main li").count()).toBe(1);
    expect(await accessFaults(page)).toEqual([]);
    await row.getByLabel("Choose").check();
    await page.getByRole("button", { name: "Remove 1" }).click();
    await page.getByText("The job was removed.").waitFor();
    await row.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Take back" }).click();
    await row.waitFor();
    await row.getByRole("link").click();
    expect(await page.getByAltText("negative").evaluate((i: HTMLImageElement) => i.naturalWidth)).toBe(40);
  });

  it("in the page, a picture of any size is computed at its own scale by the model that the form names", async () => {
    await page.goto(`${s.studio.url}#/system/sdseg/in-page`);
    await page.getByRole("button", { name: "Load the model into the page" }).click();
    await page.locator('[data-in-page="ready"]').waitFor();
    const take = async (width: number, height: number): Promise<void> => {
      const buffer = await png(width, height);
      await page.setInputFiles('input[type="file"]', { name: "wide.png", mimeType: "image/png", buffer });
    };
    await take(150, 70);
    await page.getByText("Found by smoke, 64 × 64").waitFor();
    const sizes = await page
      .locator("canvas")
      .evaluateAll((all) =>
        all.map((c) => [(c as HTMLCanvasElement).width, (c as HTMLCanvasElement).height]),
      );
    expect(sizes).toEqual([
      [150, 70],
      [150, 70],
    ]);
    const [mask] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("link", { name: "Mask (PNG)" }).click(),
    ]);
    expect(mask.suggestedFilename()).toBe("wide-mask.png");
    expect(await sharp(await mask.path()).metadata()).toMatchObject({ width: 150, height: 70 });
    await page.setInputFiles('input[type="file"]', {
      ...{ name: "no.tif", mimeType: "image/tiff", buffer: Buffer.from("II*\0") },
    });
    await page.getByText("Run takes TIFF as well").waitFor();
    expect(await page.getByRole("link", { name: "Mask (PNG)" }).count()).toBe(0); // not the earlier one
    await page.getByLabel("Size of a tile").selectOption({ index: 1 });
    await page.locator('[data-in-page="idle"]').waitFor();
    expect(await page.locator('input[type="file"]').isDisabled()).toBe(true);
  });

  it("refuses a browser that changes the pixels which a page reads", async () => {
    const tab = await open();
    await tab.addInitScript(() => {
      const read = OffscreenCanvasRenderingContext2D.prototype.getImageData;
      OffscreenCanvasRenderingContext2D.prototype.getImageData = function (...args) {
        const data = read.apply(this, args);
        data.data.fill(7);
        return data;
      };
    });
    await tab.goto(`${s.studio.url}#/system/sdseg/in-page`);
    await tab.getByRole("button", { name: "Load the model into the page" }).click();
    await tab.locator('[data-in-page="ready"]').waitFor();
    const buffer = await png(64, 64);
    await tab.setInputFiles('input[type="file"]', { name: "a.png", mimeType: "image/png", buffer });
    await tab.getByRole("alert").getByText("changes the pixels").waitFor();
    await tab.context().close();
  });

  it("works where the browser keeps nothing for pages", async () => {
    const tab = await open();
    await tab.addInitScript(() => {
      Object.defineProperty(window, "localStorage", {
        get: () => {
          throw new DOMException("no", "SecurityError");
        },
      });
    });
    await tab.goto(s.studio.url);
    await tab.getByRole("link", { name: /Negatives and roots/ }).waitFor();
    await tab.getByRole("button", { name: "Colours: auto" }).click();
    await tab.getByRole("button", { name: "Colours: light" }).waitFor();
    await tab.context().close();
  });
});
