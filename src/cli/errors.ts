/** Turns errors into one line for people and an exit code. */
import { AbortError, TweedieError } from "../errors.ts";

/** A mistake on the command line. */
export class UsageError extends TweedieError {
  constructor(message: string) {
    super("USAGE", message);
  }
}

/** Exit codes. */
export const EXIT = { ok: 0, defect: 1, badInput: 2, incomplete: 3, stopped: 130 } as const;

/** What they mean, for help texts. */
export const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  [String(EXIT.ok), "all was done"],
  [String(EXIT.defect), "a check of doctor failed, or tweedie has a defect"],
  [
    String(EXIT.badInput),
    "something is wrong with the command line, a file or the data; the message says what",
  ],
  [String(EXIT.incomplete), "some pictures of a folder could not be used, all others are done"],
  [String(EXIT.stopped), "stopped by Ctrl-C or SIGTERM; what can go on later is saved"],
];

/** The command finished, but with problems, which standard output has listed; `message` is for people, if any. */
export class Unsuccessful extends Error {
  readonly code: number;
  constructor(code: number, message = "") {
    super(message);
    this.code = code;
  }
}

/** The file system's codes, in words. */
const FILE_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  EACCES: "access is denied",
  EPERM: "this is not permitted",
  EISDIR: "this is a folder, a file was expected",
  ENOTDIR: "a part of this path is a file, a folder was expected",
  EEXIST: "this exists already",
  ENOSPC: "the disk is full",
  EROFS: "the file system is read-only",
  EMFILE: "too many files are open",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "the name is too long",
};

/** Message and exit code for whatever was thrown. */
export function explain(error: unknown): { message: string; code: number } {
  if (error instanceof AbortError) {
    const plain = error.message === new AbortError().message;
    return { message: plain ? "stopped" : error.message, code: EXIT.stopped };
  }
  if (error instanceof TweedieError) return { message: error.message, code: EXIT.badInput };
  const { code, path, message } = error as NodeJS.ErrnoException;
  const words = code === undefined ? undefined : FILE_ERRORS[code];
  if (words) return { message: path ? `${path}: ${words}` : `${words} (${message})`, code: EXIT.badInput };
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return {
    message: `${text.split("\n")[0]}\nThis is a defect of tweedie. TWEEDIE_DEBUG=1 shows where it happened.`,
    code: EXIT.defect,
  };
}
