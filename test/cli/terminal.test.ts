import { execFileSync, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { tweedie } from "../../src/cli/commands/index.ts";
import { Unsuccessful } from "../../src/cli/errors.ts";
import { runCli } from "../../src/cli/run.ts";
import { show } from "../../src/cli/systems/show.ts";
import { hasColours, printable, styled } from "../../src/cli/terminal.ts";
import { shellLine } from "../../src/io/shell-line.ts";
import type { ActionResult } from "../../src/systems/index.ts";
import type { WorkEvent } from "../../src/work.ts";

describe("colours", () => {
  it("are for terminals, unless they are not wanted", () => {
    expect(hasColours({ isTTY: true }, {})).toBe(true);
    expect(hasColours({ isTTY: true }, { NO_COLOR: "1" })).toBe(false);
    expect(hasColours({ isTTY: true }, { TERM: "dumb" })).toBe(false);
    expect(hasColours({}, {})).toBe(false);
    expect(styled("a", "bold", true)).toBe("\x1b[1ma\x1b[22m");
    expect(styled("a", "bold", false)).toBe("a");
  });
});

describe("a reader who leaves early, as head does", () => {
  it.each(["main.ts", "start.ts"])("ends %s without an error", async (file) => {
    const root = fileURLToPath(new URL("../../", import.meta.url));
    const args = ["--import", "tsx", `src/cli/${file}`, "--help"];
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    child.stdout.destroy();
    let errors = "";
    child.stderr.on("data", (chunk) => {
      errors += chunk;
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(errors).toBe("");
    expect(code).toBe(0);
  });

  it("does not end the work when only messages have lost theirs", async () => {
    const work = `
      import { endWithReader } from "./src/cli/terminal.ts";
      endWithReader();
      const closed = new Promise((resolve) => process.stderr.once("error", resolve));
      const progress = setInterval(() => console.error("progress"), 1);
      await closed;
      clearInterval(progress);
      console.log("result");`;
    const args = ["--import", "tsx", "--input-type=module", "--eval", work];
    const root = fileURLToPath(new URL("../../", import.meta.url));
    const child = spawn(process.execPath, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    child.stderr.destroy();
    let results = "";
    child.stdout.on("data", (chunk) => {
      results += chunk;
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(results).toBe("result\n");
    expect(code).toBe(0);
  });
});

describe("a command line that can be typed again", () => {
  it("means the same to a shell", () => {
    const words = ["tweedie", "run", "--image", "my slices/it's.png", "--eta=0.5", "$HOME", "", "a\nb"];
    const printed = execFileSync("sh", ["-c", `printf '%s\\0' ${shellLine(words)}`], { encoding: "utf8" });
    expect(printed.split("\0").slice(0, -1)).toEqual(words);
    expect(shellLine(["tweedie", "run", "--out", "out/a"])).toBe("tweedie run --out out/a");
  });
});

describe("lines of JSON", () => {
  async function* run(): AsyncGenerator<WorkEvent, ActionResult> {
    yield { type: "progress", stage: "train", done: 1, total: 2, note: "loss 1" };
    yield { type: "warning", text: "careful" };
    yield { type: "table", title: "T", table: { columns: ["a"], rows: [[1]] } };
    yield {
      type: "picture",
      name: "p",
      picture: { width: 1, height: 2, channels: 1, data: new Uint8Array(2) },
    };
    return { summary: "done", metrics: { dice: 1 }, incomplete: true };
  }

  it("say everything that an action reports, one object each, and nothing on standard error", async () => {
    const [out, error]: [string[], string[]] = [[], []];
    const output = { out: (t: string) => out.push(t), error: (t: string) => error.push(t), json: true };
    await show(run(), output);
    expect(out.map((line) => JSON.parse(line))).toEqual([
      { type: "progress", stage: "train", done: 1, total: 2, note: "loss 1" },
      { type: "warning", text: "careful" },
      { type: "table", title: "T", columns: ["a"], rows: [[1]] },
      { type: "picture", name: "p", width: 1, height: 2 },
      { type: "result", summary: "done", metrics: { dice: 1 }, incomplete: true },
    ]);
    expect(error).toEqual([]);
  });

  it("hold errors too, and the exit code says the same", async () => {
    const out: string[] = [];
    const terminal = { out: (text: string) => out.push(text), error: () => undefined };
    expect(await runCli(tweedie, ["run", "sdseg", "--image", "nowhere.png", "--json"], terminal)).toBe(2);
    expect(out.map((line) => JSON.parse(line))).toEqual([
      { type: "error", message: "nowhere.png: there is no such file or folder", exitCode: 2 },
    ]);
  });
});

describe("exit codes and help", () => {
  const call = async (...args: string[]): Promise<{ code: number; out: string; error: string }> => {
    const [out, error]: [string[], string[]] = [[], []];
    const terminal = { out: (t: string) => out.push(t), error: (t: string) => error.push(t) };
    return { code: await runCli(tweedie, args, terminal), out: out.join("\n"), error: error.join("\n") };
  };

  it("an unsuccessful end has its own code and says no more than it was given", async () => {
    const root = (message?: string) => ({ run: () => Promise.reject(new Unsuccessful(3, message)) });
    const errors: string[] = [];
    const terminal = { out: () => undefined, error: (text: string) => errors.push(text) };
    expect(await runCli(root(), [], terminal)).toBe(3);
    expect(errors).toEqual([]);
    expect(await runCli(root("two are missing"), [], terminal)).toBe(3);
    expect(errors).toEqual(["tweedie: two are missing"]);
  });

  it("every code is explained, every command has help with examples", async () => {
    const { out } = await call("--help");
    for (const line of [
      /^ {2}0 +all/m,
      /^ {2}1 +/m,
      /^ {2}2 +/m,
      /^ {2}3 +some pictures/m,
      /^ {2}130 +stopped/m,
    ])
      expect(out).toMatch(line);
    const names = Object.keys(tweedie.subCommands as object);
    for (const name of names.filter((n) => n !== "models")) {
      const help = await call("help", name);
      expect(help.code).toBe(0);
      expect(help.out, name).toContain("Examples\n");
      expect(help.out).not.toContain("\x1b");
    }
    expect((await call("help", "models", "convert")).out).toContain("Examples\n");
  });

  it("benchmarks that there are not are named", async () => {
    expect((await call("bench", "cor")).error).toContain('did you mean "core"?');
    expect(await call("bench", "systems", "--filter", "abacus")).toMatchObject({ code: 2 });
    expect((await call("bench", "--case", "abacus")).error).toMatch(/there are: sdseg run, membranes;/);
  });
});

describe("what goes to the terminal", () => {
  it("holds nothing that steers it, but line breaks, tabs and our own colours", () => {
    const foreign = "a\x1b]0;pwned\x07b\x9b31mc\r\x1b[2Jd";
    expect(printable(foreign)).toBe("a\ufffd]0;pwned\ufffdb\ufffd31mc\ufffd\ufffd[2Jd");
    const own = `${styled("red", "red", true)}\tand\nmore: Größe 東京`;
    expect(printable(own)).toBe(own);
  });
});
