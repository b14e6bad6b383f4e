/** Every kind of input and result in the studio's page, as a person fills them in and looks at them. */
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { closeStudio, type Opened, openStudio } from "../../studio/server.ts";
import { accessFaults } from "../axe.ts";
import { findChromium, startChromium } from "../chromium.ts";

const chromium = findChromium();
const required = process.env.TWEEDIE_REQUIRE_BROWSER === "1";
const screenshots = process.env.TWEEDIE_SCREENSHOTS;

const png = (background: string): Promise<Buffer> =>
  sharp({ create: { width: 24, height: 24, channels: 3, background } })
    .png()
    .toBuffer();

const file = async (name: string, colour: string) => ({
  name,
  mimeType: "image/png",
  buffer: await png(colour),
});

describe.skipIf(!chromium && !required).each([
  ["a desktop, light", { viewport: { width: 1280, height: 860 }, colorScheme: "light" }],
  ["a phone, dark", { viewport: { width: 390, height: 844 }, colorScheme: "dark" }],
] as const)("all parts on %s", (where, options) => {
  let s: Opened;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  beforeAll(async () => {
    if (!chromium) throw new Error("TWEEDIE_REQUIRE_BROWSER=1, but no Chromium was found");
    s = await openStudio();
    browser = await startChromium(chromium, { webgpu: false });
    const context = await browser.newContext(options);
    context.setDefaultTimeout(0); // the test's own limit is enough
    page = await context.newPage();
    page.on("pageerror", (error) => complaints.push(String(error)));
    page.on(
      "console",
      (m) => m.type() === "error" && !/status of 422/.test(m.text()) && complaints.push(m.text()),
    );
  });
  afterAll(async () => {
    await browser?.close();
    if (s) await closeStudio(s);
    expect(complaints).toEqual([]);
  });

  const place = (name: string) => page.getByRole("group", { name: new RegExp(`^${name}`) });
  const bring = (name: string, files: Parameters<Page["setInputFiles"]>[1]): Promise<void> =>
    place(name).locator('input[type="file"]').setInputFiles(files);

  async function look(name: string): Promise<void> {
    expect(await accessFaults(page)).toEqual([]);
    expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
    if (!screenshots) return;
    await mkdir(screenshots, { recursive: true });
    await page.screenshot({
      path: join(screenshots, `${name}-${where.replaceAll(/\W+/g, "-")}.png`),
      fullPage: true,
    });
  }

  it("takes every kind of input", async () => {
    await page.goto(`${s.studio.url}#/system/everything/run`);
    await bring("Image", await file("cat.png", "#c03020"));
    await place("Image").getByText("cat.png").waitFor();
    await bring("Others", [await file("one.png", "#20a040"), await file("two.png", "#2040c0")]);
    await place("Others").getByText("two.png").waitFor();
    const scan = Buffer.alloc(400);
    scan.writeInt32LE(348);
    await bring("Scan", { name: "brain.nii", mimeType: "application/octet-stream", buffer: scan });
    await place("Scan").getByText("brain.nii").waitFor();
    await bring("Notes", { name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("seven 7") });
    await place("Notes").getByText("notes.txt").waitFor();
    await bring("Votes", [
      await file("x.png", "#808000"),
      await file("y.png", "#008080"),
      await file("z.png", "#800080"),
    ]);
    await page.getByText("0 of 3 pairs answered").waitFor();
    await page.getByRole("button", { name: "Or this one" }).click();
    await page.getByRole("button", { name: "This one", exact: false }).first().press("Enter");
    await page.getByText("2 of 3 pairs answered").waitFor();
    await page.getByRole("button", { name: "Undo" }).click();
    await page.getByText("1 of 3 pairs answered").waitFor();
    await bring("Controls", [await file("map.png", "#404040")]);
    await page.getByLabel("Type of map.png").selectOption("depth");
    await page.getByLabel("Prompt").fill("a text\nof two lines");
    await page.getByLabel("Camera").selectOption("spiral");
    await look("parts-form");
    const refused = { name: "page.html", mimeType: "image/png", buffer: Buffer.from("<html>") };
    await bring("Others", refused);
    await place("Others").getByRole("alert").waitFor();
    expect(await place("Others").getByRole("listitem").count()).toBe(2);
    await page.getByRole("button", { name: "Run", exact: true }).click();
    await page.locator('article[data-state="done"]').waitFor();
    const shown = await page.getByRole("region", { name: "Results" }).innerText();
    for (const words of ["a text of two lines", "depth"])
      expect(shown.replaceAll(/\s+/g, " ")).toContain(words);
  });

  it("shows every kind of result", async () => {
    const view = (name: string) => page.locator(`section[data-view="${name}"]`);
    expect(await view("grid").getByRole("columnheader").allInnerTexts()).toEqual(["Left", "Right"]);
    expect(await view("grid").getByAltText("bottom, left").isVisible()).toBe(true);
    await view("mask").getByLabel("Strength of the mask").fill("80");
    await view("comparison").getByLabel("Where the result begins").fill("30");
    /** The middle of the sum of components, red. */
    const sum = (): Promise<number> =>
      view("components")
        .locator("canvas")
        .evaluate((c: HTMLCanvasElement) => c.getContext("2d")!.getImageData(1, 1, 1, 1).data[0]!);
    await expect.poll(sum).toBe(110); // half of 100, and 60
    await view("components")
      .getByRole("button", { name: /ground/ })
      .click();
    await expect.poll(sum).toBe(60);
    await view("frames").getByRole("button", { name: "Play" }).click();
    await view("frames").getByText("3 of 3").waitFor();
    await view("frames").getByRole("button", { name: "Stop" }).click();
    await view("scene").getByLabel("Turn").fill("4");
    await view("scene").getByText("5 of 6").waitFor();
    expect(
      await page.getByRole("img", { name: "a chart" }).evaluate((i: HTMLImageElement) => i.naturalWidth),
    ).toBeGreaterThan(100);
    await page.locator(".u-over").first().waitFor(); // a curve
    await look("parts-results");
  });

  it("draws pairs, takes answers by mouse and keys, takes them back, and trains on them", async () => {
    await page.goto(`${s.studio.url}#/system/taste/train`);
    await page.getByLabel("Prompts to draw pairs of").fill("light\ndark\ngray");
    await page.getByRole("button", { name: "Draw pairs to choose from" }).click();
    await page.getByText("0 of 3 pairs answered").waitFor();
    await page.getByText("light", { exact: true }).waitFor();
    await look("parts-choices");
    await page.getByRole("button", { name: "Or this one" }).click();
    await page.getByText("dark", { exact: true }).waitFor();
    await page.keyboard.press("ArrowDown"); // a tie
    await page.keyboard.press("ArrowLeft");
    await page.getByText("3 of 3 pairs answered").waitFor();
    await page.keyboard.press("Backspace");
    await page.getByText("2 of 3 pairs answered").waitFor();
    await page.keyboard.press("ArrowRight");
    const saved = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save" }).click();
    const lines = (await readFile(await (await saved).path(), "utf8")).trim().split("\n");
    expect(lines.map((line) => JSON.parse(line).prompt)).toEqual(["light", "gray"]);
    expect(JSON.parse(lines[0]!).winner).toMatch(/^data:image\/png;base64,/);
    await page.getByRole("button", { name: "Train", exact: true }).click();
    await page.locator('article[data-state="done"]', { hasText: "Learned from 2 choices." }).waitFor();
    const table = await page.getByRole("table").filter({ hasText: "prompt" }).first().innerText();
    expect(table).toMatch(/light[\s\S]*gray/);
    expect(table).not.toContain("dark");
  });
});
