import { describe, expect, test } from "vitest";
import {
  choiceValue,
  integerValue,
  numberValue,
  pathAndNumber,
  seedAfter,
  seedValue,
  sizeValue,
  twoPathsAndNumber,
} from "../../src/cli/values.ts";

describe("values of options", () => {
  test("numbers", () => {
    expect([numberValue("g", "7.5"), numberValue("g", "-1e1"), numberValue("g", ".5")]).toEqual([
      7.5, -10, 0.5,
    ]);
    expect(() => numberValue("g", "abc")).toThrow('--g needs a number, got "abc"');
    expect(() => numberValue("g", "2", { min: 0, max: 1 })).toThrow(
      '--g needs a number from 0 to 1, got "2"',
    );
    for (const text of ["", "Infinity", "NaN", "0x10", "1e999", "1,5"])
      expect(() => numberValue("g", text), text).toThrow("--g needs a number");
  });
  test("whole numbers", () => {
    expect(integerValue("n", "12", { min: 1 })).toBe(12);
    for (const text of ["0", "1.5", "", "1e3", "9007199254740993"])
      expect(() => integerValue("n", text, { min: 1 }), text).toThrow("--n needs a whole number from 1 up");
  });
  test("words", () => {
    expect(choiceValue("rng", "Philox", ["philox", "torch-cpu"])).toBe("philox");
    expect(choiceValue("preset", "l/2", ["L/16", "L/2"])).toBe("L/2");
    expect(choiceValue("preset", "L/2", ["L/16", "L/2"])).toBe("L/2");
    expect(() => choiceValue("rng", "filox", ["philox", "torch-cpu"])).toThrow(
      '--rng does not know "filox"; did you mean "philox"?',
    );
    expect(() => choiceValue("rng", "x", ["philox", "torch-cpu"])).toThrow("it takes philox, torch-cpu");
  });
  test("seeds up to 64 bits, and those after them", () => {
    expect(seedValue("seed", "7")).toBe(7);
    expect(seedValue("seed", "18446744073709551615")).toBe(2n ** 64n - 1n);
    expect(seedAfter(7, 3)).toBe(10);
    expect(seedAfter(Number.MAX_SAFE_INTEGER, 1)).toBe(2n ** 53n);
    expect(seedAfter(2n ** 64n - 1n, 1)).toBe(0);
    for (const text of ["-1", "18446744073709551616", "1.5", "x"])
      expect(() => seedValue("seed", text), text).toThrow("--seed needs");
  });
  test("sizes", () => {
    expect(sizeValue("size", "512x768")).toEqual({ width: 512, height: 768 });
    for (const text of ["512", "0x8", "8x", "-8x8", "512x768x3", "100000x8"])
      expect(() => sizeValue("size", text), text).toThrow("--size needs WIDTHxHEIGHT");
  });
  test("paths with numbers, also on Windows", () => {
    expect(pathAndNumber("a.safetensors")).toEqual({ path: "a.safetensors", number: 1 });
    expect(pathAndNumber("a.safetensors:-0.5")).toEqual({ path: "a.safetensors", number: -0.5 });
    expect(pathAndNumber("C:\\loras\\a.safetensors:.8")).toEqual({
      path: "C:\\loras\\a.safetensors",
      number: 0.8,
    });
    expect(pathAndNumber("C:\\a")).toEqual({ path: "C:\\a", number: 1 });
  });
  test("two paths and a number", () => {
    expect(twoPathsAndNumber("control", "net:a.png:0.5")).toEqual({
      first: "net",
      second: "a.png",
      number: 0.5,
    });
    expect(twoPathsAndNumber("control", "C:\\net:D:/a.png")).toEqual({
      first: "C:\\net",
      second: "D:/a.png",
      number: 1,
    });
    for (const text of ["net", ":a.png", "a:b:c"])
      expect(() => twoPathsAndNumber("control", text), text).toThrow("--control needs PATH:IMAGE");
  });
});
