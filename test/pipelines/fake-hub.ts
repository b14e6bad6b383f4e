/** A hub of one repository, behind a `fetch`: what the official client asks for, answered from memory. */
import { createHash } from "node:crypto";

export interface FakeHub {
  readonly fetch: typeof fetch;
  readonly commit: string;
  /** Method and path of every request, and the tokens that came with them. */
  readonly requests: string[];
  readonly tokens: Set<string | null>;
}

const json = (value: unknown): Response =>
  new Response(JSON.stringify(value), { headers: { "content-type": "application/json" } });

const sha1 = (data: string | Uint8Array): string => createHash("sha1").update(data).digest("hex");

export function fakeHub(repo: string, files: ReadonlyMap<string, Uint8Array>): FakeHub {
  const commit = sha1(repo);
  const requests: string[] = [];
  const tokens = new Set<string | null>();
  const entry = (path: string, data: Uint8Array) => ({
    type: "file",
    path,
    size: data.length,
    oid: sha1(data),
    lastCommit: { id: commit, title: "", date: "2024-01-01T00:00:00Z" },
  });

  /** A file, or the range of it that is asked for. */
  const resolve = (path: string, range: string | null): Response => {
    const data = files.get(path);
    if (!data)
      return new Response("not there", { status: 404, headers: { "X-Error-Code": "EntryNotFound" } });
    const headers = { ETag: `"${sha1(data)}"` };
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(range ?? "") ?? [];
    if (from === undefined) return new Response(data.slice(), { headers });
    const part = data.slice(Number(from), Number(to) + 1);
    const contentRange = `bytes ${from}-${to}/${data.length}`;
    return new Response(part, { status: 206, headers: { ...headers, "content-range": contentRange } });
  };

  const answer = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url);
    requests.push(`${request.method} ${decodeURIComponent(pathname)}`);
    tokens.add(request.headers.get("authorization"));
    if (pathname.startsWith(`/api/models/${repo}/revision/`))
      return json({ _id: "1", id: repo, sha: commit, lastModified: "2024-01-01T00:00:00Z" });
    if (pathname.startsWith(`/api/models/${repo}/tree/${commit}`))
      return json([...files].map(([path, data]) => entry(path, data)));
    if (pathname === `/api/models/${repo}/paths-info/${commit}`) {
      const { paths } = (await request.json()) as { paths: string[] };
      return json(paths.map((path) => entry(path, files.get(path)!)));
    }
    const head = `/${repo}/resolve/${commit}/`;
    if (pathname.startsWith(head)) return resolve(pathname.slice(head.length), request.headers.get("range"));
    return new Response(JSON.stringify({ error: "Repository not found" }), {
      status: 404,
      headers: { "content-type": "application/json" },
    });
  };
  const fake = (input: string | URL | Request, init?: RequestInit) => answer(new Request(input, init));
  return { fetch: fake as typeof fetch, commit, requests, tokens };
}
