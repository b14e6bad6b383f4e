/** How many threads onnxruntime-web gets. It counts half of the cores itself, which is one of two. */

interface Page {
  readonly crossOriginIsolated?: boolean;
  readonly SharedArrayBuffer?: unknown;
  readonly navigator?: { readonly hardwareConcurrency?: number };
}

/**
 * The threads asked for, else all processors up to four and half of more, since two may share a core. Always one where
 * the page is not cross-origin isolated: there is no shared memory.
 */
export function webThreads(asked?: number, page: Page = globalThis): number {
  if (!page.crossOriginIsolated || page.SharedArrayBuffer === undefined) return 1; // WebKitGTK has only the former
  const processors = page.navigator?.hardwareConcurrency ?? 1;
  return asked ?? (processors <= 4 ? processors : Math.max(4, Math.ceil(processors / 2)));
}
