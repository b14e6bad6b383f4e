import { describe, expect, it } from "vitest";
import type { FormSchema } from "../../src/studio/api-types.ts";
import { fieldsOf, valuesOf } from "../../src/studio/page/lib/fields.ts";

const FORM: FormSchema = {
  type: "object",
  properties: {
    strengths: { type: "array", default: [], description: "how much" },
    names: { type: "array", default: ["a", "b"] },
    steps: { type: "integer", default: 20, minimum: 1, maximum: 100 },
    text: { type: "string" },
  },
};

describe("fields of a form", () => {
  it("show lists as words with commas, and an empty one as nothing", () => {
    const [strengths, names] = fieldsOf(FORM);
    expect(strengths).toMatchObject({ kind: "list", initial: undefined });
    expect(names).toMatchObject({ kind: "list", initial: "a, b" });
  });

  it("send lists as lists, and leave out what is empty", () => {
    const fields = fieldsOf(FORM);
    const given = { strengths: "depth=.8, 1.2 ,", names: "", steps: 5, text: "" };
    expect(valuesOf(fields, given)).toEqual({ strengths: ["depth=.8", "1.2"], steps: 5 });
    expect(valuesOf(fields, { names: ["a", "b"] })).toEqual({ names: ["a", "b"] });
  });
});
