/** The protobuf wire format: as much of it as ONNX files need. */
import { FormatError } from "../../errors.ts";

const utf8 = new TextEncoder();

/** Byte strings of this size and more are referred to until the end instead of being copied. */
const LARGE = 4096;

/** Appends protobuf fields. Field numbers come from the .proto file. */
export class ProtoWriter {
  private readonly done: Uint8Array[] = [];
  private doneLength = 0;
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

  private append(part: Uint8Array): void {
    if (part.length < LARGE) {
      this.reserve(part.length);
      this.bytes.set(part, this.length);
      this.length += part.length;
      return;
    }
    const before = this.bytes.slice(0, this.length);
    this.done.push(before, part);
    this.doneLength += before.length + part.length;
    this.length = 0;
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

  /** Bytes, which must not change before `finish`. */
  raw(field: number, value: Uint8Array): this {
    this.varint((field << 3) | 2);
    this.varint(value.length);
    this.append(value);
    return this;
  }

  string(field: number, value: string): this {
    return this.raw(field, utf8.encode(value));
  }

  message(field: number, write: (inner: ProtoWriter) => void): this {
    const inner = new ProtoWriter();
    write(inner);
    this.varint((field << 3) | 2);
    this.varint(inner.doneLength + inner.length);
    for (const part of inner.parts()) this.append(part);
    return this;
  }

  private parts(): Uint8Array[] {
    return [...this.done, this.bytes.subarray(0, this.length)];
  }

  finish(): Uint8Array {
    if (this.done.length === 0) return this.bytes.subarray(0, this.length);
    const whole = new Uint8Array(this.doneLength + this.length);
    let at = 0;
    for (const part of this.parts()) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
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
