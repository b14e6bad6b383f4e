import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Surroundings, start } from "../../src/cli/start/index.ts";
import { studioInTime } from "../../src/cli/start/studio.ts";
import { AbortError, DeviceError } from "../../src/errors.ts";
import type { Studio, StudioOptions } from "../../src/studio/index.ts";
import type { TourContext, TourResult } from "../../src/systems/tour.ts";
import { type Stop, tourSummary } from "../../src/tour/index.ts";
import type { WorkEvent } from "../../src/work.ts";

let folder: string;
let out: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "start-"));
  out = join(folder, "tour");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const stop = (name: string, run: Stop["tour"]["run"]): Stop => ({
  name,
  title: name,
  about: "A system.",
  tour: { about: "shows itself", files: [], next: [], run },
});

async function* works(): AsyncGenerator<WorkEvent, TourResult> {
  yield { type: "progress", stage: "at it", done: 1, total: 1 };
  return { did: "did it", quality: [{ name: "Dice", value: 0.875, better: "higher" }] };
}

// biome-ignore lint/correctness/useYield: it fails at once
async function* fails(): AsyncGenerator<WorkEvent, TourResult> {
  throw new DeviceError("no such device");
}

async function run(args: readonly string[], around: Partial<Surroundings> = {}) {
  const [said, errors]: [string[], string[]] = [[], []];
  const code = await start(args, {
    out: (text) => said.push(text),
    error: (text) => errors.push(text),
    columns: 100,
    terminal: false,
    stops: () => [stop("sdseg", works), stop("umd", works)],
    ...around,
  });
  return { code, out: said.join("\n"), errors: errors.join("\n") };
}

describe("npm start", () => {
  it("takes the tour, prints what was measured and writes the page", async () => {
    const result = await run(["--out", out, "--seed", "5"]);
    expect(result.code).toBe(0);
    expect(result.out).toMatch(/sdseg +Did it\. +Dice 0\.875 +\d+\.\d/);
    expect(result.out).toMatch(/s in all, \d+ MiB of memory at most/);
    const summary = tourSummary.parse(JSON.parse(await readFile(join(out, "summary.json"), "utf8")));
    expect(summary.seed).toBe(5);
    expect(summary.systems.map(({ name }) => name)).toEqual(["sdseg", "umd"]);
    expect(existsSync(join(out, "index.html"))).toBe(true);
  });

  it("says of a system that fails, shows the others, and ends with 1", async () => {
    const result = await run(["--out", out], { stops: () => [stop("bad", fails), stop("good", works)] });
    expect(result.code).toBe(1);
    expect(result.errors).toContain("no such device");
    expect(result.out).toMatch(/bad +Failed: no such device/);
    expect(result.out).toMatch(/good +Did it\./);
  });

  it("takes a part of the tour, and suggests the name that was meant", async () => {
    const result = await run(["--only", "umd", "--out", out]);
    expect(result.out).not.toContain("sdseg");
    const unknown = await run(["--only", "sdsge", "--out", out]);
    expect(unknown.code).toBe(2);
    expect(unknown.errors).toBe('npm start: --only does not know "sdsge"; did you mean "sdseg"?');
    expect((await run(["--only", "xyzzy"])).errors).toMatch(/the tour has sdseg, umd$/);
  });

  it("refuses bad input in one line, before anything runs", async () => {
    const file = join(folder, "file");
    await writeFile(file, "");
    const bad = [
      ["--seed", "-1"],
      ["--seed", "1.5"],
      ["--threads", "0"],
      ["--steps", "many"],
      ["--sed", "1"],
      ["--out", file],
      ["--out", join(file, "below")],
      ["--out", " "],
      ["tour"],
    ];
    for (const args of bad) {
      const result = await run(args, { stops: () => [stop("never", fails)] });
      expect([args, result.code]).toEqual([args, 2]);
      expect(result.errors).toMatch(/^npm start: .+$/);
      expect(result.out).toBe("");
    }
    expect((await run(["--sed", "1"])).errors).toContain('did you mean "--seed"?');
  });

  it("gives the steps of the training to the tour", async () => {
    const given: number[] = [];
    const stops = (steps: number): Stop[] => {
      given.push(steps);
      return [stop("one", works)];
    };
    await run(["--out", out, "--steps", "7"], { stops });
    expect(given).toEqual([7]);
  });

  it("explains itself", async () => {
    const { code, out: text } = await run(["--help"]);
    expect(code).toBe(0);
    for (const word of [
      "--only",
      "--out",
      "--seed",
      "--threads",
      "--steps",
      "--no-studio",
      "npm start -- ",
      "130",
    ])
      expect(text).toContain(word);
  });

  it("serves the studio on a terminal alone, unless told not to", async () => {
    const served: string[] = [];
    const serve = async (): Promise<void> => {
      served.push("studio");
    };
    await run(["--out", out], { serve });
    await run(["--out", out, "--no-studio"], { serve, terminal: true });
    expect(served).toEqual([]);
    expect((await run(["--out", out], { serve, terminal: true })).code).toBe(0);
    expect(served).toEqual(["studio"]);
  });

  it("ends after Ctrl-C with 130 and writes nothing", async () => {
    async function* waits({ signal }: TourContext): AsyncGenerator<WorkEvent, TourResult> {
      yield { type: "progress", stage: "at it", done: 1, total: 2 };
      process.emit("SIGINT");
      if (signal?.aborted) throw new AbortError();
      throw new Error("was not stopped");
    }
    const result = await run(["--out", out], { stops: () => [stop("slow", waits), stop("next", fails)] });
    expect(result.code).toBe(130);
    expect(await readdir(out)).toEqual([]);
    expect(process.listenerCount("SIGINT")).toBe(0);
  });
});

describe("the studio after the tour", () => {
  const studio = (port: number): Studio => ({
    url: `http://127.0.0.1:${port}/`,
    port,
    warnings: [],
    close: async () => undefined,
  });

  it("takes a free port when its own is in use", async () => {
    const asked: StudioOptions[] = [];
    const opened = await studioInTime(async (options) => {
      asked.push(options);
      if (options.port !== 0) throw new DeviceError("port 7860 is in use");
      return studio(5000);
    });
    expect(opened.port).toBe(5000);
    expect(asked).toEqual([
      { data: "out/studio", token: true },
      { data: "out/studio", token: true, port: 0 },
    ]);
  });

  it("is not waited for without end", async () => {
    const never = (): Promise<Studio> => new Promise(() => undefined);
    await expect(studioInTime(never, 20)).rejects.toThrow(/not built within 0\.02 s/);
  });
});

describe("npm start as a process", () => {
  it("ends by itself with 0 where there is no terminal", async () => {
    const root = fileURLToPath(new URL("../../", import.meta.url));
    const args = [
      "tsx",
      "src/cli/start.ts",
      "--only",
      "training",
      "--steps",
      "2",
      "--threads",
      "1",
      "--out",
      out,
    ];
    const child = spawn(process.execPath, ["--import", ...args], {
      cwd: root,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(code).toBe(0);
    expect(text).toMatch(/training +Trained a denoising network/);
    expect((await readdir(out)).sort()).toEqual([
      "index.html",
      "summary.json",
      "training-denoised.png",
      "training-loss.svg",
      "training-samples.png",
    ]);
  });
});
