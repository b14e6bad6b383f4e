import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import { formatParameters, parseParameters } from "../../src/io/index.ts";
import { expectLinearTime } from "../growth.ts";

const TEXT = `a lighthouse at dusk, (masterpiece:1.2),
oil on canvas
Negative prompt: blurry, text
watermark
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 965400086, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Lora hashes: "detail: 7c6bad76eb54, style: 0a1b2c3d4e5f", Version: v1.10.1`;

describe("the parameters text of A1111", () => {
  test("is read field by field", () => {
    const { prompt, negative, fields } = parseParameters(TEXT);
    expect(prompt).toBe("a lighthouse at dusk, (masterpiece:1.2),\noil on canvas");
    expect(negative).toBe("blurry, text\nwatermark");
    expect([...fields]).toEqual([
      ["Steps", "20"],
      ["Sampler", "DPM++ 2M"],
      ["Schedule type", "Karras"],
      ["CFG scale", "7.5"],
      ["Seed", "965400086"],
      ["Size", "512x768"],
      ["Model hash", "6ce0161689"],
      ["Model", "v1-5-pruned-emaonly"],
      ["Lora hashes", "detail: 7c6bad76eb54, style: 0a1b2c3d4e5f"],
      ["Version", "v1.10.1"],
    ]);
  });

  test("is written as it was read", () => {
    expect(formatParameters(parseParameters(TEXT))).toBe(TEXT);
  });

  test("a last line with fewer than three fields belongs to the prompt", () => {
    const { prompt, fields } = parseParameters("a cat\nwide shot, lens: 35mm, iso: 100");
    expect(prompt).toBe("a cat\nwide shot, lens: 35mm, iso: 100");
    expect(fields.size).toBe(0);
  });

  test("without a negative prompt, without a prompt, and without anything", () => {
    const fields = new Map([
      ["Steps", "1"],
      ["Sampler", "Euler"],
      ["Seed", "0"],
    ]);
    const only = "Steps: 1, Sampler: Euler, Seed: 0";
    expect(formatParameters({ prompt: "", negative: "", fields })).toBe(only);
    expect(parseParameters(only)).toEqual({ prompt: "", negative: "", fields });
    expect(parseParameters(`a\n${only}`)).toEqual({ prompt: "a", negative: "", fields });
    expect(parseParameters("")).toEqual({ prompt: "", negative: "", fields: new Map() });
  });

  test("values with commas, colons, quotes and line breaks come back", () => {
    const value = fc.stringMatching(/^[a-z,: "\\\n]{0,20}$/).filter((v) => v.trim() === v && v !== "");
    const inert = value.filter((v) => !v.startsWith('"') || /[,:\n]/.test(v));
    fc.assert(
      fc.property(inert, inert, inert, (a, b, c) => {
        const fields = new Map([
          ["First", a],
          ["Second one", b],
          ["Third/3", c],
        ]);
        expect([...parseParameters(formatParameters({ prompt: "p", negative: "n", fields })).fields]).toEqual(
          [...fields],
        );
      }),
    );
  });

  test("hostile text takes time that grows with its length, and too long a text is refused", () => {
    for (const unit of ["a ", " ", 'aa:"', "a:", '"\\'])
      expectLinearTime((length) => parseParameters(unit.repeat(length)), 250_000);
    expect(() => parseParameters("a".repeat(2 ** 20 + 1))).toThrow(ArgumentError);
  });
});
