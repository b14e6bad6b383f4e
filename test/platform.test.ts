/** What stands in for Node in browsers has the same names, and does what it can do the same way. */
import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { DeviceError } from "../src/errors.ts";
import * as node from "../src/platform/node.ts";
import sharpOfNode from "../src/platform/sharp.node.ts";
import sharpOfWeb from "../src/platform/sharp.web.ts";
import * as web from "../src/platform/web.ts";

const DONE_ANYWHERE = ["crc32", "deflateSync", "gunzipSync", "inflateSync", "sep"];

describe("in browsers", () => {
  it("everything that is taken of Node has a stand-in, and nothing else", () => {
    expect(Object.keys(web).sort()).toEqual(Object.keys(node).sort());
    expect(typeof sharpOfWeb).toBe(typeof sharpOfNode);
  });

  it("what needs Node says so by its name", () => {
    for (const [name, refuse] of Object.entries({ ...web, sharp: sharpOfWeb })) {
      if (DONE_ANYWHERE.includes(name)) continue;
      expect(refuse as () => never).toThrow(DeviceError);
      expect(refuse as () => never).toThrow(name === "hubClient" ? "hub" : name);
    }
  });

  it("compression and checksums are Node's", () => {
    for (const size of [0, 1, 100_000]) {
      const bytes = new Uint8Array(randomBytes(size)).map((v) => v & 15);
      expect(web.crc32(bytes)).toBe(node.crc32(bytes));
      expect([...web.gunzipSync(gzipSync(bytes))]).toEqual([...bytes]);
      expect([...web.inflateSync(node.deflateSync(bytes))]).toEqual([...bytes]);
      expect([...node.inflateSync(web.deflateSync(bytes))]).toEqual([...bytes]);
    }
  });

  it("what grows beyond its limit is refused, with Node's code", () => {
    const bomb = node.deflateSync(new Uint8Array(1e6));
    for (const { inflateSync } of [node, web]) {
      const call = () => inflateSync(bomb, { maxOutputLength: 1000 });
      expect(call).toThrow(expect.objectContaining({ code: "ERR_BUFFER_TOO_LARGE" }));
    }
  });

  it("what is cut off or damaged is refused", () => {
    const bytes = node.deflateSync(new Uint8Array(randomBytes(1000)));
    expect(() => web.inflateSync(bytes.subarray(0, 500))).toThrow();
    expect(() => web.gunzipSync(gzipSync(bytes).subarray(0, 500))).toThrow();
    expect(() => web.gunzipSync(Uint8Array.of(1, 2, 3))).toThrow();
  });
});
