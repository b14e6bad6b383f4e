/** Latin-1: a byte for each character. TextDecoder's "latin1" is windows-1252, which differs between 0x80 and 0x9f. */

/** Most characters that are made at once: arguments of a call lie on the stack. */
const PIECE = 2 ** 13;

/** Characters beyond 0xff lose their upper bits. */
export const latin1Bytes = (text: string): Uint8Array =>
  Uint8Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));

export function latin1Text(bytes: Uint8Array): string {
  const parts: string[] = [];
  for (let at = 0; at < bytes.length; at += PIECE)
    parts.push(String.fromCharCode(...bytes.subarray(at, at + PIECE)));
  return parts.join("");
}
