/**
 * Repair of text before tokenizing. The reference tokenizer calls ftfy (Speer 2019) where it is installed; these are
 * its steps, in its order, without the guessing of wrongly decoded bytes ("mojibake").
 */
import { HTML_ENTITIES } from "./html-entities.ts";

const LIGATURES: Readonly<Record<string, string>> = {
  ...{ Ĳ: "IJ", ĳ: "ij", ŉ: "ʼn", Ǆ: "DŽ", ǅ: "Dž", ǆ: "dž", Ǉ: "LJ", ǈ: "Lj", ǉ: "lj", Ǌ: "NJ" },
  ...{ ǋ: "Nj", ǌ: "nj", Ǳ: "DZ", ǲ: "Dz", ǳ: "dz" },
  ...{ "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl" },
  ...{ "\ufb05": "ſt", "\ufb06": "st" },
};
const LIGATURE = new RegExp(`[${Object.keys(LIGATURES).join("")}]`, "g");

/** Bytes 80 to 9f in Windows-1252; five are not assigned. A table, because Node's own decoder reads Latin-1. */
const WINDOWS_1252 = "€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ";

/** What is meant by a C1 control. */
const fromWindows1252 = (control: string): string => WINDOWS_1252[control.charCodeAt(0) - 0x80]!;

/** Half- and full-width forms, and the ideographic space, in their usual width. */
const usualWidth = (char: string): string => char.normalize("NFKC");

function unescapeEntity(entity: string, name: string): string {
  const numeric = /^#(?:x([0-9a-f]+)|([0-9]+))$/i.exec(name);
  if (numeric) {
    const code = numeric[1] ? Number.parseInt(numeric[1], 16) : Number.parseInt(numeric[2]!, 10);
    if (code === 0 || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return "\ufffd";
    return code >= 0x80 && code <= 0x9f
      ? fromWindows1252(String.fromCharCode(code))
      : String.fromCodePoint(code);
  }
  const known = HTML_ENTITIES.get(name);
  if (known !== undefined) return known;
  // "&EACUTE;" is no entity, but plainly an upper-case "&eacute;".
  const lower = name === name.toUpperCase() ? HTML_ENTITIES.get(name.toLowerCase()) : undefined;
  return lower?.toUpperCase() ?? entity;
}

const unescapeHtml = (text: string): string => text.replace(/&(#?[0-9A-Za-z]{1,24});/g, unescapeEntity);

// biome-ignore-start lint/suspicious/noControlCharactersInRegex: removing control characters is the point
const C1_CONTROL = /[\x80-\x9f]/g;
const TERMINAL_ESCAPE = /\x1b\[[\d;]*[A-Za-z]/g;
const CONTROL = /[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]/g;
/** As Python's `re`, which counts four separators in. */
const SPACES = /[\p{White_Space}\x1c-\x1f]+/gu;
// biome-ignore-end lint/suspicious/noControlCharactersInRegex: until here
const LONE_SURROGATE = /\p{Surrogate}/gu;

/** One round of all steps. */
function fixOnce(text: string, html: boolean): string {
  return (html ? unescapeHtml(text) : text)
    .replace(C1_CONTROL, fromWindows1252)
    .replace(LIGATURE, (ligature) => LIGATURES[ligature]!)
    .replace(/[\uff01-\uffef\u3000]/g, usualWidth)
    .replace(/[\u02bc\u2018-\u201b]/g, "'")
    .replace(/[\u201c-\u201f]/g, '"')
    .replace(/\r\n|[\r\u2028\u2029\x85]/g, "\n")
    .replace(LONE_SURROGATE, "\ufffd")
    .replace(TERMINAL_ESCAPE, "")
    .replace(CONTROL, "")
    .normalize("NFC");
}

/** Rounds after which text is taken as it is; each but the last undoes one level of "&amp;amp;". */
const MAX_ROUNDS = 16;

/**
 * Text as it was meant: HTML entities, curly quotes, ligatures, widths, line breaks and control characters made plain,
 * until nothing changes. As in ftfy, entities are left alone from the first line on that holds a "<".
 */
export function fixText(text: string): string {
  let html = true;
  const lines = text.split(/(?<=\n)/).map((line) => {
    html &&= !line.includes("<");
    let fixed = line;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const next = fixOnce(fixed, html);
      if (next === fixed) break;
      fixed = next;
    }
    return fixed;
  });
  return lines.join("");
}

/** Every run of white space (Unicode's) as one space, none at the ends. */
export const collapseSpaces = (text: string): string => text.replace(SPACES, " ").replace(/^ | $/g, "");
