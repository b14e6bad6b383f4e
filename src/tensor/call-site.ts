/** Finds the line of the user's program that led here, for error messages. */

/** Everything below the folder that holds the library (src in the repository, dist in the package). */
// Bundles in CommonJS have no address: then every line may be the user's.
const LIBRARY = (import.meta.url as string | undefined)?.replace(/\/(src|dist)\/.*$/, "/$1/");

/** `file:line:column` of the first stack frame outside the library, or undefined. */
export function callSite(): string | undefined {
  const stack = new Error().stack?.split("\n").slice(1) ?? [];
  for (const line of stack) {
    const frame = line.match(/(?:\(|at |@)((?:file:|https?:|\/|[A-Z]:)[^()]*:\d+:\d+)\)?$/)?.[1];
    if (!frame || line.includes("node:") || line.includes("/node_modules/")) continue;
    const asUrl = frame.startsWith("/") ? `file://${frame}` : frame;
    if (LIBRARY === undefined || !asUrl.startsWith(LIBRARY)) return frame.replace(/^file:\/\//, "");
  }
  return undefined;
}
