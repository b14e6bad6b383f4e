import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { FormatError } from "../../src/errors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../src/io/safetensors.ts";
import { expectLinearTime } from "../growth.ts";
import { describedBy, fileOf, valuesOf } from "./safetensors-bytes.ts";

const ascii = (text: string) => new TextEncoder().encode(text);
const ONE = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
const valid = fileOf(`{"a":${ONE}}`, new Uint8Array(4));

function errorOf(bytes: Uint8Array): FormatError {
  try {
    decodeSafetensors(bytes, { source: "evil.safetensors" });
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError);
    return error as FormatError;
  }
  throw new Error("the bytes were accepted");
}

const deep = (n: number) =>
  `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":${"[".repeat(n)}${"]".repeat(n)}}}`;

const HOSTILE: Readonly<Record<string, Uint8Array>> = {
  "no byte": new Uint8Array(0),
  "7 bytes": new Uint8Array(7),
  "a header length of 0": fileOf("", new Uint8Array(0), 0n),
  "a header length of 0 before a header": fileOf("{}", new Uint8Array(0), 0n),
  "a header length of 1": fileOf("{", new Uint8Array(0), 1n),
  "a header length past the end": fileOf("{}", new Uint8Array(0), 3n),
  "a header length above the limit": fileOf("{}", new Uint8Array(0), 100_000_001n),
  "a header length of 2^53 + 1": fileOf("{}", new Uint8Array(0), 2n ** 53n + 1n),
  "a header length of 2^64 - 1": fileOf("{}", new Uint8Array(0), 2n ** 64n - 1n),
  "bytes that are not UTF-8": fileOf(new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])),
  "an overlong UTF-8 form": fileOf(new Uint8Array([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d])),
  "a byte order mark": fileOf("\ufeff{}"),
  "a cut JSON text": fileOf('{"a":'),
  "an array": fileOf("[]"),
  "a number": fileOf("1"),
  null: fileOf("null"),
  "a leading space": fileOf(" {}"),
  "a header padded with NUL": fileOf("{}\0\0\0\0\0\0"),
  "two roots": fileOf("{}{}"),
  "a trailing comma": fileOf(`{"a":${ONE},}`, new Uint8Array(4)),
  "a missing comma": fileOf(`{"a":${ONE} "b":${ONE}}`, new Uint8Array(4)),
  "a single-quoted key": fileOf(`{'a':${ONE}}`, new Uint8Array(4)),
  "a raw control character in a key": fileOf(`{"a\n":${ONE}}`, new Uint8Array(4)),
  "a bad escape": fileOf(`{"\\x":${ONE}}`, new Uint8Array(4)),
  "a lone surrogate": fileOf(`{"\\ud800":${ONE}}`, new Uint8Array(4)),
  "nesting of 100,000": fileOf(deep(100_000), new Uint8Array(4)),
  "objects nested 100,000 deep": fileOf('{"a":'.repeat(100_000)),
  "an array as metadata": fileOf('{"__metadata__":[]}'),
  "a number in the metadata": fileOf('{"__metadata__":{"a":1}}'),
  "an object in the metadata": fileOf('{"__metadata__":{"a":{}}}'),
  "two metadata objects": fileOf('{"__metadata__":{},"__metadata__":{}}'),
  "a tensor that is a number": describedBy("1"),
  "a tensor that is an array": describedBy('["F32",[1],[0,4]]'),
  "no dtype": describedBy('{"shape":[1],"data_offsets":[0,4]}'),
  "no shape": describedBy('{"dtype":"F32","data_offsets":[0,4]}'),
  "no offsets": describedBy('{"dtype":"F32","shape":[1]}'),
  "a dtype given twice": describedBy('{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}'),
  "an unknown dtype": describedBy('{"dtype":"F33","shape":[1],"data_offsets":[0,4]}'),
  "a dtype named like a method": describedBy('{"dtype":"constructor","shape":[1],"data_offsets":[0,4]}'),
  "a dtype that is a number": describedBy('{"dtype":32,"shape":[1],"data_offsets":[0,4]}'),
  "one offset": describedBy('{"dtype":"F32","shape":[1],"data_offsets":[0]}'),
  "three offsets": describedBy('{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}'),
  "an offset in an array": describedBy('{"dtype":"F32","shape":[1],"data_offsets":[0,[4]]}'),
  "shape overflow": describedBy('{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}'),
  "shape overflow to zero": describedBy(
    '{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}',
    0,
  ),
  "byte overflow": describedBy('{"dtype":"F64","shape":[9007199254740991],"data_offsets":[0,8]}', 8),
  "begin after end": describedBy('{"dtype":"F32","shape":[1],"data_offsets":[4,0]}'),
  "a size mismatch": describedBy('{"dtype":"F32","shape":[2],"data_offsets":[0,4]}'),
  "a gap at the start": describedBy('{"dtype":"F32","shape":[1],"data_offsets":[4,8]}', 8),
  "a trailing byte": describedBy(ONE, 5),
  "a missing byte": describedBy(ONE, 3),
  "an end past the file": describedBy(
    '{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}',
  ),
  overlap: fileOf(`{"a":${ONE},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, new Uint8Array(6)),
  "one span for two names": fileOf(`{"a":${ONE},"b":${ONE}}`, new Uint8Array(4)),
  "a gap": fileOf(`{"a":${ONE},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, new Uint8Array(12)),
  "an empty tensor off the seam": fileOf(
    `{"a":${ONE},"b":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}}`,
    new Uint8Array(4),
  ),
  "an odd number of 4-bit elements": describedBy('{"dtype":"F4","shape":[3],"data_offsets":[0,2]}', 2),
  "6-bit elements that fill no bytes": describedBy('{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2]}', 2),
  "a duplicate that leaves a hole": fileOf(
    `{"a":${ONE},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`,
    new Uint8Array(8),
  ),
};

describe("hostile safetensors headers", () => {
  for (const [what, bytes] of Object.entries(HOSTILE)) {
    it(`rejects ${what}, naming the file`, () => {
      const { message } = errorOf(bytes);
      expect(message).toMatch(/^evil\.safetensors: /);
      expect(message.length).toBeLessThan(600);
    });
  }

  for (const value of [
    "-1",
    "1.0",
    "1e0",
    '"1"',
    "1e400",
    "-0",
    "9007199254740992",
    "01",
    "0x1",
    "+1",
    "true",
    "null",
    "NaN",
  ]) {
    it(`rejects ${value} as an extent and as an offset`, () => {
      errorOf(describedBy(`{"dtype":"U8","shape":[${value}],"data_offsets":[0,1]}`, 1));
      errorOf(describedBy(`{"dtype":"U8","shape":[1],"data_offsets":[0,${value}]}`, 1));
    });
  }

  it("says what was expected and what came", () => {
    expect(errorOf(HOSTILE["a size mismatch"]!).message).toMatch(/expected 8 bytes for F32 .* got 4 bytes/);
    expect(errorOf(HOSTILE["an unknown dtype"]!).message).toContain('unknown dtype "F33" of tensor "a"');
    expect(errorOf(HOSTILE["a trailing byte"]!).message).toContain("expected 4 bytes of data, got 5");
    expect(errorOf(HOSTILE["a number in the metadata"]!).message).toMatch(
      /expected a string as metadata "a"/,
    );
  });

  it("reads a quarter of a million tiny tensors in time that grows with their number", () => {
    const entries = Array.from({ length: 250_000 }, (_, i) => {
      return `"t${i}":{"dtype":"U8","shape":[1],"data_offsets":[${i},${i + 1}]}`;
    });
    expectLinearTime((length) => {
      const bytes = fileOf(`{${entries.slice(0, length)}}`, new Uint8Array(length));
      expect(decodeSafetensors(bytes).tensors.size).toBe(length);
    }, entries.length);
  });
});

describe("unusual but valid safetensors files", () => {
  it("keeps names that are dangerous elsewhere as plain map keys", () => {
    for (const name of ["__proto__", "constructor", "", "\u0000", "../x", "toString"]) {
      const { tensors } = decodeSafetensors(fileOf(`{${JSON.stringify(name)}:${ONE}}`, new Uint8Array(4)));
      expect([...tensors.keys()]).toEqual([name]);
    }
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  it("reads unaligned f64, NaN, infinities, and ignores unknown fields", () => {
    const data = new Uint8Array(25);
    new Float64Array([Number.NaN, Number.NEGATIVE_INFINITY, 0.1]).forEach((value, i) => {
      new DataView(data.buffer).setFloat64(1 + 8 * i, value, true);
    });
    const header =
      '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":[{"y":null}]},' +
      '"b":{"dtype":"F64","shape":[3],"data_offsets":[1,25]}}';
    for (const share of [false, true]) {
      const { tensors } = decodeSafetensors(fileOf(header, data), { share });
      expect(valuesOf(tensors.get("b")!)).toEqual([Number.NaN, Number.NEGATIVE_INFINITY, 0.1]);
    }
  });

  it("reads null metadata as none, and packed 4-bit tensors as raw bytes", () => {
    const header = '{"__metadata__":null,"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}';
    const { metadata, tensors } = decodeSafetensors(fileOf(header, new Uint8Array([1, 2])));
    expect(metadata.size).toBe(0);
    expect(tensors.get("a")).toEqual({ dtype: "F4", shape: [4], bytes: new Uint8Array([1, 2]) });
  });

  it("reads BOOL bytes other than 0 as true without touching the input", () => {
    const bytes = fileOf(
      '{"a":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}',
      new Uint8Array([0, 1, 7]),
    );
    const { tensors } = decodeSafetensors(bytes, { share: true });
    expect(valuesOf(tensors.get("a")!)).toEqual([0, 1, 1]);
    expect(bytes.at(-1)).toBe(7);
  });
});

describe("files of another format named .safetensors", () => {
  const DISGUISES: readonly [string, Uint8Array, RegExp][] = [
    ["zip", ascii(`PK\x03\x04${"\0".repeat(60)}`), /zip archive.*\.pt.*'ema'.*'state_dict'.*save_file/],
    [
      "pickle protocol 2",
      new Uint8Array([0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20]),
      /pickle.*save_file/,
    ],
    ["pickle protocol 4", new Uint8Array([0x80, 4, 0x95, 1, 0, 0, 0, 0, 0, 0, 0, 0x7d]), /pickle/],
    [
      "git-LFS pointer",
      ascii("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
      /git-LFS.*git lfs pull/,
    ],
    ["HTML", ascii("<!DOCTYPE html><html><body>404</body></html>"), /web page/],
    ["HTML after white space", ascii("\n\n  <html><body>Sign in</body></html>"), /web page/],
    ["gzip of a valid file", new Uint8Array(gzipSync(valid)), /gzip/],
    ["PNG", new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13]), /PNG/],
    [
      "PNG before a valid file",
      new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, ...valid]),
      /PNG/,
    ],
    ["GGUF", ascii(`GGUF\x03${"\0".repeat(20)}`), /GGUF/],
    ["JSON", ascii('{"weight_map": {"a": "b"}}'), /JSON text.*openSharded/],
    ["nothing", new Uint8Array(0), /empty/],
  ];
  for (const [what, bytes, hint] of DISGUISES) {
    it(`hints at ${what}`, () => expect(errorOf(bytes).message).toMatch(hint));
  }

  it("rejects a valid file with another one appended", () => {
    errorOf(new Uint8Array([...valid, ...ascii("PK\x05\x06")]));
    errorOf(new Uint8Array([...valid, ...valid]));
  });

  it("reads a header of 640 bytes, which starts like a pickle", () => {
    const bytes = encodeSafetensors(
      { a: { dtype: "f32", shape: [], data: new Float32Array(1) } },
      { pad: "x".repeat(550) },
    );
    const pad = 550 + 640 - (bytes.length - 12);
    const exact = encodeSafetensors(
      { a: { dtype: "f32", shape: [], data: new Float32Array(1) } },
      { pad: "x".repeat(pad) },
    );
    expect([exact[0], exact[1]]).toEqual([0x80, 2]);
    expect(decodeSafetensors(exact).tensors.size).toBe(1);
  });
});
