/** The studio's main path in Firefox and WebKit: a picture in, a mask out, on the server and in the page. */
import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import puppeteer, { type Browser, type ElementHandle } from "puppeteer-core";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createSDSeg, PRESETS, sdsegFile } from "../../../src/systems/sdseg/model.ts";
import { closeStudio, type Opened, openStudio, temporaryFolder } from "../../studio/server.ts";
import { findWebKit, startWebKit, type WebDriver } from "../webdriver.ts";

const required = process.env.TWEEDIE_REQUIRE_ALL_BROWSERS === "1";

const firefox = ["firefox-esr", "firefox"]
  .flatMap((name) => (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name)))
  .find(existsSync);

async function startFirefox(): Promise<WebDriver> {
  const browser: Browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: firefox!,
    headless: true,
    timeout: 0, // the tests have one limit, see vitest.config.ts
    protocolTimeout: 0,
  });
  const page = await browser.newPage();
  return {
    goto: async (url) => void (await page.goto(url, { timeout: 0 })),
    evaluate: <T>(body: string) => page.evaluate(`(() => { ${body} })()`) as Promise<T>,
    async setFile(selector, path) {
      const input = (await page.$(selector)) as ElementHandle<HTMLInputElement>;
      await input.uploadFile(path);
    },
    click: async (selector) => void (await page.click(selector)),
    close: () => browser.close(),
  };
}

const BROWSERS = [
  ["Firefox", firefox !== undefined, startFirefox],
  ["WebKit", findWebKit() !== undefined, () => startWebKit("en_US.UTF-8")],
  // The language of containers, which is none to a browser.
  ["WebKit in the language C", findWebKit() !== undefined, () => startWebKit("C.UTF-8")],
] as const;

for (const [name, there, start] of BROWSERS)
  describe.skipIf(!there && !required)(`the studio in ${name}`, () => {
    let s: Opened;
    let folder: string;
    let page: WebDriver;

    beforeAll(async () => {
      if (!there) throw new Error(`TWEEDIE_REQUIRE_ALL_BROWSERS=1, but ${name} was not found`);
      folder = await temporaryFolder();
      process.env.TWEEDIE_TEST_CHECKPOINT = join(folder, "smoke.safetensors");
      const origin = { name: "smoke", training: "none", seed: "5", date: "2026-01-01", scale: 1 };
      await sdsegFile.save(process.env.TWEEDIE_TEST_CHECKPOINT, createSDSeg(PRESETS.smoke, 5), origin);
      const create = { width: 96, height: 80, channels: 3, background: "#404080" } as const;
      await writeFile(join(folder, "blue.png"), await sharp({ create }).png().toBuffer());
      s = await openStudio();
      page = await start();
    });
    afterAll(async () => {
      delete process.env.TWEEDIE_TEST_CHECKPOINT;
      await page?.close();
      if (s) await closeStudio(s);
      await rm(folder, { recursive: true, force: true });
    });

    /** Waits until an expression holds in the page. */
    async function until(expression: string): Promise<void> {
      while (!(await page.evaluate<boolean>(`return Boolean(${expression});`)))
        await new Promise((resolve) => setTimeout(resolve, 100));
    }

    const hash = (to: string): Promise<void> =>
      page.evaluate(`location.hash = ${JSON.stringify(to)}; return null;`);

    it("segments a picture on the server and shows the mask over it", async () => {
      await page.goto(s.studio.url);
      await until('document.querySelector("a.card")');
      await hash("#/system/sdseg/run");
      await until("document.querySelector('form input[type=\"file\"]')");
      await page.setFile('form input[type="file"]', join(folder, "blue.png"));
      await until('document.querySelector("label.drop img")?.naturalWidth === 96');
      await page.click("form .start button");
      await until("document.querySelector('article[data-state=\"done\"]')");
      await until("[...document.querySelectorAll('article img')].some((i) => i.naturalWidth === 96)");
      const wide = await page.evaluate<boolean>("return document.documentElement.scrollWidth > innerWidth;");
      expect(wide).toBe(false);
    });

    it("draws the curves of a training, or says that it cannot", async () => {
      await hash("#/system/demo/train");
      await until('document.querySelector("form .start button")?.textContent.includes("Train")');
      await page.click("form .start button");
      await until("document.querySelector('article[data-state=\"done\"]')");
      await until(
        'document.querySelector(".u-over") || document.body.innerText.includes("cannot draw the curves")',
      );
    });

    it("segments a picture of any size in the page", async () => {
      await hash("#/system/sdseg/in-page");
      await until("document.querySelector('[data-in-page]')");
      await page.evaluate(
        "[...document.querySelectorAll('button')].find((b) => /Load the model/.test(b.textContent)).click(); return null;",
      );
      await until("document.querySelector('[data-in-page=\"ready\"]')");
      await page.setFile('input[type="file"]', join(folder, "blue.png"));
      await until("/Found by smoke/.test(document.body.innerText)");
      const size = await page.evaluate<number[]>(
        "const [, found] = document.querySelectorAll('canvas'); return [found.width, found.height];",
      );
      expect(size).toEqual([96, 80]);
    });
  });
