/** Names of files: checked where they come from untrusted text, such as a shard index, and made of any text. */

// A name with a colon can be a drive letter, a URL or an NTFS stream; the rest would leave the folder.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
const FORBIDDEN = /[/\\:\x00-\x1f\x7f]/;

/** True for a name of a file in the same folder: no path, drive letter, URL, control character, `.` or `..`. */
export function isPlainFileName(name: string): boolean {
  return name !== "" && name !== "." && name !== ".." && name.length <= 255 && !FORBIDDEN.test(name);
}

/** A text as a word for the name of a file: lower case letters of English, digits, `-` and `.`. */
export const slug = (text: string): string =>
  text
    .toLowerCase()
    .replaceAll(/[^a-z0-9.]+/g, "-")
    .replaceAll(/^[-.]+|[-.]+$/g, "")
    .slice(0, 60) || "result";
