/**
 * A strict pull scanner for JSON text (RFC 8259). Unlike `JSON.parse` it shows duplicate keys, never builds
 * objects (so a `__proto__` key is an ordinary key), and bounds the nesting.
 */

/** Deepest nesting that is followed; deeper text is refused before the call stack is in danger. */
export const MAX_DEPTH = 128;

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const INTEGER = /^(?:0|[1-9][0-9]*)$/;
const LITERAL = /true|false|null/y;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** A string as JSON, shortened so that hostile input cannot blow up an error message. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}

/** True when the text holds half of a UTF-16 pair and so has no UTF-8 form. */
export const hasLoneSurrogate = (text: string): boolean => LONE_SURROGATE.test(text);

/** Walks one JSON text from left to right; every method consumes one construct or throws what `fail` throws. */
export class JsonScanner {
  readonly #text: string;
  readonly #fail: (message: string) => never;
  #at = 0;

  /** `fail` gets a message such as `expected "," at character 12, got "x"` and must throw. */
  constructor(text: string, fail: (message: string) => never) {
    this.#text = text;
    this.#fail = fail;
  }

  /** Throws "expected ... at character N, got ...". */
  expected(what: string): never {
    const rest = this.#text.slice(this.#at, this.#at + 20);
    this.#fail(`expected ${what} at character ${this.#at}, got ${rest === "" ? "the end" : quote(rest)}`);
  }

  /** The next character that is not white space, without consuming it; `""` at the end. */
  peek(): string {
    this.#space();
    return this.#text.charAt(this.#at);
  }

  /** An object; `member` is called behind each colon and must consume the value. */
  object(what: string, member: (key: string) => void): void {
    this.#sequence("{", "}", what, () => {
      const key = this.string("a key in double quotes");
      if (this.peek() !== ":") this.expected('":"');
      this.#at++;
      member(key);
    });
  }

  /** An array; `item` is called before each element and must consume it. */
  array(what: string, item: () => void): void {
    this.#sequence("[", "]", what, item);
  }

  /** A string, with its escapes resolved. Lone surrogates are refused: they have no UTF-8 form. */
  string(what: string): string {
    if (this.peek() !== '"') this.expected(what);
    const start = this.#at + 1;
    let end = start;
    let escaped = false;
    for (;;) {
      const code = this.#text.charCodeAt(end);
      if (code === 0x22) break;
      if (!(code >= 0x20)) {
        this.#at = end; // a control character, or NaN at the end of the text
        this.expected("a closing double quote");
      }
      if (code === 0x5c) {
        escaped = true;
        end++;
      }
      end++;
    }
    const value = escaped ? this.#unescape(start, end) : this.#text.slice(start, end);
    this.#at = end + 1;
    return value;
  }

  /** An integer in [0, 2^53): no sign, fraction, exponent or leading zero. */
  unsignedInteger(what: string): number {
    this.#space();
    const token = this.#match(NUMBER);
    const value = token !== undefined && INTEGER.test(token) ? Number(token) : Number.NaN;
    if (!Number.isSafeInteger(value)) this.expected(`${what} (an integer from 0 to 2^53 - 1)`);
    this.#at += token!.length;
    return value;
  }

  /** Consumes `null` when it comes next. */
  takeNull(): boolean {
    if (this.peek() !== "n") return false;
    this.skip();
    return true;
  }

  /** Any value, checked and thrown away. */
  skip(depth = 0): void {
    if (depth > MAX_DEPTH) this.expected(`a value nested at most ${MAX_DEPTH} deep`);
    const next = this.peek();
    if (next === "{") this.object("an object", () => this.skip(depth + 1));
    else if (next === "[") this.array("an array", () => this.skip(depth + 1));
    else if (next === '"') this.string("a string");
    else {
      const token = this.#match(NUMBER) ?? this.#match(LITERAL);
      if (token === undefined) this.expected("a value");
      this.#at += token!.length;
    }
  }

  /** Only white space may follow. */
  end(): void {
    if (this.peek() !== "") this.expected("the end");
  }

  #sequence(open: string, close: string, what: string, element: () => void): void {
    if (this.peek() !== open) this.expected(what);
    this.#at++;
    if (this.peek() !== close) {
      element();
      while (this.peek() === ",") {
        this.#at++;
        element();
      }
    }
    if (this.peek() !== close) this.expected(`"," or "${close}"`);
    this.#at++;
  }

  #space(): void {
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
      this.#at++;
    }
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text)?.[0];
  }

  #unescape(start: number, end: number): string {
    let value: string;
    try {
      value = JSON.parse(this.#text.slice(start - 1, end + 1)) as string;
    } catch {
      this.expected("a string with valid escapes");
    }
    if (hasLoneSurrogate(value)) this.expected("a string without lone surrogates");
    return value;
  }
}
