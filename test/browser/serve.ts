/** Serves folders cross-origin isolated, so that wasm has threads. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";

const TYPES: Record<string, string> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".wasm": "application/wasm",
};

export interface Site {
  readonly url: string;
  /** Paths that were asked for and are not there. */
  readonly missing: readonly string[];
  close(): Promise<void>;
}

/** Folders by the beginnings of their addresses, such as `/ort/`; the longest that fits is taken. */
export async function serve(folders: Readonly<Record<string, string>>): Promise<Site> {
  const beginnings = Object.keys(folders).sort((a, b) => b.length - a.length);
  const missing: string[] = [];
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://localhost").pathname));
    const beginning = beginnings.find((b) => path.startsWith(b))!;
    const file = join(folders[beginning]!, path.endsWith("/") ? "index.html" : path.slice(beginning.length));
    let body: Buffer;
    try {
      body = readFileSync(file);
    } catch {
      if (path !== "/favicon.ico") missing.push(path);
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "content-type": TYPES[extname(file)] ?? "application/octet-stream",
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-embedder-policy": "require-corp",
    });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    missing,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
