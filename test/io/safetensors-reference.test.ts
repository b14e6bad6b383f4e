import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { decodeSafetensors } from "../../src/io/safetensors.ts";
import { valuesOf } from "./safetensors-bytes.ts";

interface Fixture {
  name: string;
  base64: string;
  expect: {
    ok: boolean;
    tensors?: Record<string, { dtype: string; shape: number[]; values: (number | string)[] }>;
  };
}

const fixtures = JSON.parse(
  readFileSync(new URL("../fixtures/safetensors.json", import.meta.url), "utf8"),
) as Fixture[];

const DTYPE_NAMES: Readonly<Record<string, string>> = {
  float32: "f32",
  float64: "f64",
  float16: "f16",
  bfloat16: "bf16",
  int64: "i64",
  uint8: "u8",
  bool: "bool",
  float8_e4m3fn: "F8_E4M3",
  float8_e5m2: "F8_E5M2",
};

/** The format's text demands "{" as the first byte; the reference implementation alone lets white space pass. */
const STRICTER_THAN_REFERENCE = new Set(["bad_start_not_brace"]);

const toNumber = (value: number | string): number =>
  typeof value === "number" ? value : Number(value.replace("inf", "Infinity").replace("nan", "NaN"));

describe("safetensors decisions of the reference implementation", () => {
  it("covers all 30 fixtures", () => expect(fixtures).toHaveLength(30));

  for (const { name, base64, expect: verdict } of fixtures) {
    const bytes = new Uint8Array(Buffer.from(base64, "base64"));
    if (!verdict.ok || STRICTER_THAN_REFERENCE.has(name)) {
      it(`rejects ${name}`, () => {
        expect(() => decodeSafetensors(bytes, { source: "some.safetensors" })).toThrow(FormatError);
        expect(() => decodeSafetensors(bytes, { source: "some.safetensors" })).toThrow(
          /^some\.safetensors: /,
        );
      });
      continue;
    }
    it(`reads ${name}`, () => {
      const { tensors } = decodeSafetensors(bytes);
      // Object.entries of the fixture would miss nothing: JSON.parse makes __proto__ an own key.
      const expected = Object.entries(verdict.tensors ?? {});
      expect([...tensors.keys()].sort()).toEqual(expected.map(([key]) => key).sort());
      for (const [key, { dtype, shape, values }] of expected) {
        const tensor = tensors.get(key)!;
        expect(tensor.dtype).toBe(DTYPE_NAMES[dtype]);
        expect(tensor.shape).toEqual(shape);
        expect(valuesOf(tensor)).toEqual(values.map(toNumber));
      }
    });
  }
});
