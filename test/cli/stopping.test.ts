/** Ctrl-C and kill -9 as they happen: in processes of their own. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodePicture } from "../../src/io/index.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));
const TSX = import.meta.resolve("tsx");
const folder = mkdtempSync(join(tmpdir(), "tweedie-stopping-"));
const PICTURES = 8;

beforeAll(async () => {
  mkdirSync(join(folder, "in", "sub"), { recursive: true });
  for (let i = 0; i < PICTURES; i++) {
    const data = Uint8Array.from({ length: 48 * 40 }, (_, k) => (k * 37 + i * 91) % 251);
    const png = await encodePicture({ width: 48, height: 40, channels: 1, data });
    writeFileSync(join(folder, "in", i % 2 ? "sub" : "", `p${i}.png`), png);
  }
});
afterAll(() => rmSync(folder, { recursive: true }));

const start = (...args: string[]): ChildProcess =>
  spawn(process.execPath, ["--import", TSX, MAIN, ...args], { cwd: folder });

async function ended(child: ChildProcess): Promise<{ code: number | null; out: string; error: string }> {
  let [out, error] = ["", ""];
  child.stdout!.on("data", (data) => {
    out += data;
  });
  child.stderr!.on("data", (data) => {
    error += data;
  });
  const [code] = await once(child, "close");
  return { code, out, error };
}

/** Waits for something, as long as a process runs. */
async function until(child: ChildProcess, happened: () => boolean): Promise<void> {
  while (!happened()) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    expect(child.exitCode).toBeNull();
  }
}

const results = (name: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(join(folder, name), { recursive: true })
      .map(String)
      .filter((file) => file.endsWith(".png"))
      .sort()
      .map((file) => [file, readFileSync(join(folder, name, file)).toString("base64")]),
  );

const SLOW = ["--model", "lesions", "--mode", "ddim", "--steps", "25"];
const batch = (out: string): string[] => ["run", "sdseg", "--image", "in", "--out", out, ...SLOW];

test("a batch that was killed, and one that was stopped, go on and end as if nothing had been", async () => {
  const killed = start(...batch("killed"));
  await until(killed, () => existsSync(join(folder, "killed", "p2-overlay.png")));
  killed.kill("SIGKILL");
  await once(killed, "close");
  expect(Object.keys(results("killed")).length).toBeLessThan(3 * PICTURES);

  const stopped = start(...batch("my results"));
  const end = ended(stopped);
  await until(stopped, () => existsSync(join(folder, "my results", "p0-overlay.png")));
  stopped.kill("SIGINT");
  stopped.kill("SIGINT"); // npx passes on what the terminal has sent already
  const { code, error } = await end;
  expect(code).toBe(130);
  const [, done] = /stopped: (\d) of 8 pictures are done\. To go on, run the same again/.exec(error)!;
  expect(error).toContain(`tweedie run sdseg --image in --out 'my results' ${SLOW.join(" ")}`);
  expect(Object.keys(results("my results"))).toHaveLength(3 * Number(done));

  for (const out of ["killed", "my results", "whole"]) {
    const { code, out: text } = await ended(start(...batch(out), "--json"));
    expect(code).toBe(0);
    const last = JSON.parse(text.trim().split("\n").at(-1)!);
    expect(last).toMatchObject({ type: "result" });
    expect(last.metrics.pictures + last.metrics.kept).toBe(PICTURES);
    if (out === "my results") expect(last.metrics.kept).toBe(Number(done));
  }
  expect(results("killed")).toEqual(results("whole"));
  expect(results("my results")).toEqual(results("whole"));
});

test("a training that was stopped says how to go on, and does", async () => {
  const args = [
    "train",
    "umd",
    "--preset",
    "smoke",
    "--limit",
    "64",
    "--batch",
    "8",
    "--threads",
    "1",
    "--out",
    "umd",
  ];
  const child = start(...args, "--steps", "100000", "--json");
  let printed = "";
  child.stdout!.on("data", (data) => {
    printed += data;
  });
  const end = ended(child);
  await until(child, () => printed.includes('"done":3,'));
  child.kill("SIGINT");
  const { code, error, out } = await end;
  expect(code).toBe(130);
  const [, step] =
    /training stopped after step (\d+)\. To go on, run the same again:\n {2}tweedie train umd/.exec(error)!;
  expect(JSON.parse(out.trim().split("\n").at(-1)!)).toMatchObject({ type: "error", exitCode: 130 });
  const again = start(...args, "--steps", "100000");
  const next = ended(again);
  let said = "";
  again.stdout!.on("data", (data) => {
    said += data;
  });
  await until(again, () => said.includes(`goes on after step ${step}`));
  again.kill("SIGINT");
  expect((await next).code).toBe(130);
});
