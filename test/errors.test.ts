import { describe, expect, it } from "vitest";
import * as errors from "../src/errors.ts";

describe("errors", () => {
  it("have the names of their classes, also where bundles shorten those", () => {
    const { TweedieError, ...kinds } = errors;
    expect(Object.keys(kinds).length).toBeGreaterThan(10);
    for (const [name, Kind] of Object.entries(kinds)) {
      const { code } = new Kind("what came");
      class s extends TweedieError {}
      expect(new s(code, "what came").name).toBe(name);
    }
  });
});
