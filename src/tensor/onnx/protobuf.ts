/** The protobuf wire format: as much of it as ONNX files need. */
import { FormatError } from "../../errors.ts";

const utf8 = new TextEncoder();

/** Appends protobuf fields to a growing buffer. Field numbers come from the .proto file. */
export class ProtoWriter {
  private bytes = new Uint8Array(256);
  private view = new DataView(this.bytes.buffer);
  private length = 0;

  private reserve(extra: number): void {
    if (this.length + extra <= this.bytes.length) return;
    const grown = new Uint8Array(Math.max(this.bytes.length * 2, this.length + extra));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
    this.view = new DataView(grown.buffer);
  }

  private varint(value: number | bigint): void {
    this.reserve(10);
    let rest = BigInt.asUintN(64, BigInt(value));
    if (rest < 0x80n) {
      this.bytes[this.length++] = Number(rest);
      return;
    }
    while (rest > 0x7fn) {
      this.bytes[this.length++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.bytes[this.length++] = Number(rest);
  }

  /** int32, int64, enum and bool fields. */
  int(field: number, value: number | bigint): this {
    this.varint(field << 3);
    this.varint(value);
    return this;
  }

  float(field: number, value: number): this {
    this.varint((field << 3) | 5);
    this.reserve(4);
    this.view.setFloat32(this.length, value, true);
    this.length += 4;
    return this;
  }

  raw(field: number, value: Uint8Array): this {
    this.varint((field << 3) | 2);
    this.varint(value.length);
    this.reserve(value.length);
    this.bytes.set(value, this.length);
    this.length += value.length;
    return this;
  }

  string(field: number, value: string): this {
    return this.raw(field, utf8.encode(value));
  }

  message(field: number, write: (inner: ProtoWriter) => void): this {
    const inner = new ProtoWriter();
    write(inner);
    return this.raw(field, inner.finish());
  }

  finish(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

/** One decoded field: a varint or fixed number as bigint, or the bytes of a string, message or packed list. */
export interface ProtoField {
  readonly field: number;
  readonly wire: number;
  readonly int: bigint;
  readonly bytes: Uint8Array;
}

/** Reads the fields of one message in file order. Throws `FormatError` on malformed input. */
export function* readProto(message: Uint8Array): Generator<ProtoField> {
  let at = 0;
  const empty = new Uint8Array(0);
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[at++];
      if (byte === undefined) throw new FormatError("protobuf: truncated varint");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new FormatError("protobuf: varint longer than 10 bytes");
  };
  const take = (count: number): Uint8Array => {
    if (count > message.length - at)
      throw new FormatError("protobuf: field reaches beyond the end of its message");
    at += count;
    return message.subarray(at - count, at);
  };
  while (at < message.length) {
    const tag = Number(varint());
    const [field, wire] = [tag >>> 3, tag & 7];
    if (wire === 0) yield { field, wire, int: varint(), bytes: empty };
    else if (wire === 2) yield { field, wire, int: 0n, bytes: take(Number(varint())) };
    else if (wire === 5 || wire === 1) {
      const bytes = take(wire === 5 ? 4 : 8);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      yield {
        field,
        wire,
        int: wire === 5 ? BigInt(view.getUint32(0, true)) : view.getBigUint64(0, true),
        bytes,
      };
    } else throw new FormatError(`protobuf: unknown wire type ${wire}`);
  }
}
