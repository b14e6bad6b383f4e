import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { describe, expect, it } from "vitest";
import { ArgumentError, FormatError, LifetimeError, ShapeError } from "../../src/errors.ts";
import { latestCheckpoint, openRunDirectory } from "../../src/io/run-directory.ts";
import { readSafetensors } from "../../src/io/safetensors-file.ts";
import { withFailingCall } from "./failing-disk.ts";
import { valuesOf } from "./safetensors-bytes.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const text = (value: string) => new TextEncoder().encode(value);
const stepFolders = () =>
  readdirSync(at("run"))
    .filter((name) => name.startsWith("step"))
    .sort();

/** Saves steps, each with a file that names it, and closes. */
async function saveSteps(steps: readonly number[], keep = 10): Promise<void> {
  const run = await openRunDirectory(at("run"), { keep });
  for (const step of steps) await run.save(step, { "state.json": text(`state ${step}`) });
  await run.close();
}

describe("run directory", () => {
  it("saves bytes and tensors and loads the newest step", async () => {
    const run = await openRunDirectory(at("run"), { keep: 2 });
    expect(await run.latest()).toBeUndefined();
    const data = new Float32Array([1, 2]);
    for (const step of [5, 123, 1_000_000]) {
      const directory = await run.save(step, {
        "model.safetensors": {
          tensors: { w: { dtype: "f32", shape: [2], data } },
          metadata: { step: `${step}` },
        },
        "state.json": text("{}"),
      });
      expect(directory).toBe(at("run", `step-${String(step).padStart(6, "0")}`));
    }
    const latest = await run.latest();
    expect(latest).toEqual({
      step: 1_000_000,
      directory: at("run", "step-1000000"),
      files: ["model.safetensors", "state.json"],
      skipped: [],
    });
    const { tensors, metadata } = await readSafetensors(at("run", "step-1000000", "model.safetensors"));
    expect(valuesOf(tensors.get("w")!)).toEqual([1, 2]);
    expect(metadata.get("step")).toBe("1000000");
    expect(stepFolders()).toEqual(["step-000123", "step-1000000"]);
    await run.close();
    await run.close();
  });

  it("does concurrent saves one after the other, finishes them before close, and refuses later ones", async () => {
    const run = await openRunDirectory(at("run"), { keep: 10 });
    const saves = [1, 2, 3].map((step) => run.save(step, { a: text(`${step}`) }));
    await run.close();
    await Promise.all(saves);
    expect(stepFolders()).toEqual(["step-000001", "step-000002", "step-000003"]);
    await expect(run.save(4, {})).rejects.toThrow(LifetimeError);
  });

  it("replaces a step that is saved again", async () => {
    await saveSteps([1, 2]);
    const run = await openRunDirectory(at("run"), { keep: 10 });
    await run.save(2, { "state.json": text("again") });
    await run.close();
    expect(readFileSync(at("run", "step-000002", "state.json"), "utf8")).toBe("again");
    expect(stepFolders()).toEqual(["step-000001", "step-000002"]);
  });

  it("never removes what it just saved, even when higher steps are kept from an abandoned branch", async () => {
    await saveSteps([100, 200, 300]);
    await saveSteps([110], 2);
    expect(stepFolders()).toEqual(["step-000110", "step-000300"]);
  });

  it("does not count damaged checkpoints among those to keep", async () => {
    await saveSteps([1, 2, 3]);
    rmSync(at("run", "step-000003", "state.json"));
    await saveSteps([4], 2);
    expect(stepFolders()).toEqual(["step-000002", "step-000003", "step-000004"]);
  });

  it("refuses wrong steps, file names, tensors and options, and stays usable", async () => {
    await expect(openRunDirectory(at("run"), { keep: 0 })).rejects.toThrow(ArgumentError);
    const run = await openRunDirectory(at("run"), { keep: 1 });
    await run.save(1, { a: text("a") });
    for (const step of [-1, 0.5, Number.NaN, 2 ** 53])
      await expect(run.save(step, {})).rejects.toThrow(ArgumentError);
    for (const name of ["../a", "a/b", "", "..", "C:a", "manifest.json"]) {
      await expect(run.save(2, { [name]: text("a") })).rejects.toThrow(ArgumentError);
    }
    const wrong = { tensors: { w: { dtype: "f32", shape: [3], data: new Float32Array(2) } } } as const;
    await expect(run.save(2, { a: text("a"), b: wrong })).rejects.toThrow(ShapeError);
    expect(stepFolders()).toEqual(["step-000001"]);
    await run.save(2, { a: text("a") });
    expect((await run.latest())?.step).toBe(2);
    await run.close();
  });

  it("fails where no folder can be", async () => {
    writeFileSync(at("file"), "x");
    await expect(openRunDirectory(at("file"), { keep: 1 })).rejects.toMatchObject({ code: "EEXIST" });
    await expect(openRunDirectory(at("file", "run"), { keep: 1 })).rejects.toMatchObject({ code: "ENOTDIR" });
  });
});

describe("damaged checkpoints", () => {
  const DAMAGES: Readonly<Record<string, [(folder: string) => void, RegExp]>> = {
    "a changed byte": [
      (folder) => writeFileSync(`${folder}/state.json`, "state X"),
      /SHA-256 of state\.json/,
    ],
    "a longer file": [
      (folder) => appendFileSync(`${folder}/state.json`, "x"),
      /expected 7 bytes in state\.json, got 8/,
    ],
    "a missing file": [(folder) => rmSync(`${folder}/state.json`), /state\.json is missing/],
    "a folder in place of a file": [
      (folder) => {
        rmSync(`${folder}/state.json`);
        mkdirSync(`${folder}/state.json`);
      },
      /not a regular file/,
    ],
    "no manifest": [(folder) => rmSync(`${folder}/manifest.json`), /manifest\.json is missing/],
    "half a manifest": [(folder) => writeFileSync(`${folder}/manifest.json`, '{"version":1'), /no JSON/],
    "a manifest that is null": [(folder) => writeFileSync(`${folder}/manifest.json`, "null"), /version 1/],
    "a manifest of a later version": [
      (folder) => writeFileSync(`${folder}/manifest.json`, '{"version":2,"step":2,"files":{}}'),
      /expected manifest version 1, got "2"/,
    ],
    "a manifest of another step": [
      (folder) => writeFileSync(`${folder}/manifest.json`, '{"version":1,"step":1,"files":{}}'),
      /of step 1/,
    ],
    "a manifest that points outside": [
      (folder) =>
        writeFileSync(
          `${folder}/manifest.json`,
          '{"version":1,"step":2,"files":{"../x":{"bytes":0,"sha256":""}}}',
        ),
      /plain file name/,
    ],
    "a file in place of the folder": [
      (folder) => {
        rmSync(folder, { recursive: true });
        writeFileSync(folder, "");
      },
      /./,
    ],
  };
  for (const [what, [damage, reason]] of Object.entries(DAMAGES)) {
    it(`are skipped and reported: ${what}`, async () => {
      await saveSteps([1, 2]);
      damage(at("run", "step-000002"));
      const latest = await latestCheckpoint(at("run"));
      expect(latest?.step).toBe(1);
      expect(latest?.skipped).toEqual([
        { directory: at("run", "step-000002"), reason: expect.stringMatching(reason) },
      ]);
    });
  }

  it("are an error when none is intact, instead of a fresh start", async () => {
    await saveSteps([1]);
    rmSync(at("run", "step-000001", "state.json"));
    await expect(latestCheckpoint(at("run"))).rejects.toThrow(FormatError);
    await expect(latestCheckpoint(at("run"))).rejects.toThrow(/step-000001: state\.json is missing/);
  });

  it("are replaced by a save of the same step", async () => {
    await saveSteps([1, 2]);
    rmSync(at("run", "step-000002", "manifest.json"));
    await saveSteps([2]);
    expect(await latestCheckpoint(at("run"))).toMatchObject({ step: 2, skipped: [] });
  });

  it("that were left unfinished are reported, then removed by the next save", async () => {
    await saveSteps([1]);
    mkdirSync(at("run", "step-000002.tmp"));
    writeFileSync(at("run", "step-000002.tmp", "state.json"), "half");
    const latest = await latestCheckpoint(at("run"));
    expect(latest).toMatchObject({
      step: 1,
      skipped: [{ reason: expect.stringContaining("never finished") }],
    });
    await saveSteps([3]);
    expect(stepFolders()).toEqual(["step-000001", "step-000003"]);
  });

  it("caught between the two renames of a replacement still load", async () => {
    await saveSteps([1, 2]);
    renameSync(at("run", "step-000002"), at("run", "step-000002.replaced"));
    expect(await latestCheckpoint(at("run"))).toMatchObject({
      step: 2,
      directory: at("run", "step-000002.replaced"),
    });
    await saveSteps([2]);
    expect(stepFolders()).toEqual(["step-000001", "step-000002"]);
  });
});

describe("a full disk", () => {
  it("never costs the newest checkpoint, whichever write or flush of a save fails", async () => {
    const run = await openRunDirectory(at("run"), { keep: 1 });
    await run.save(1, { a: text("1"), b: text("1") });
    let last = 1;
    for (let n = 1; ; n++) {
      const step = last + 1;
      let failure: unknown;
      const came = await withFailingCall(n, async () => {
        await run.save(step, { a: text(`${step}`), b: text(`${step}`) }).catch((error) => (failure = error));
      });
      const latest = (await run.latest())!;
      expect(readFileSync(`${latest.directory}/a`, "utf8")).toBe(`${latest.step}`);
      // A failed last flush may leave the new step in place; any earlier failure leaves the old one.
      expect([last, step]).toContain(latest.step);
      expect(stepFolders().filter((name) => name.endsWith(".tmp"))).toEqual([]);
      last = latest.step;
      if (!came) {
        expect(failure).toBeUndefined();
        expect(latest.step).toBe(step);
        expect(n).toBeGreaterThan(8); // 3 writes, 3 flushes of files and 2 of folders were tried
        break;
      }
      expect(failure).toMatchObject({ code: "ENOSPC" });
    }
    await run.close();
  });
});
