/**
 * Models of the Hugging Face hub, in the cache that its own tools use: `models--owner--name` with `refs`, `snapshots`
 * and `blobs`. What is there is used without the network; anything is downloaded only when the caller asks for it.
 */
import { dirname, homedir, hubClient, join, mkdir, readdir, readFile, writeFile } from "#node";
import { ArgumentError, FormatError } from "../errors.ts";
import { wantedFiles } from "./hub-files.ts";
import { kindOfPath } from "./weights.ts";

/** A model of the hub: `hub:owner/name`, `hub:owner/name@revision`, or with `/path/in/the/repository` behind it. */
export interface HubId {
  /** `owner/name`. */
  readonly repo: string;
  /** Branch, tag or commit. Default `main`. */
  readonly revision: string;
  /** A file or folder in the repository; "" for all of it. */
  readonly path: string;
}

/** Options of `cachedModels` and `resolveModelPath`. */
export interface HubOptions {
  /** Whether to download what is not in the cache. Default false. */
  readonly download?: boolean;
  /** Variant of the weights to download, such as "fp16". */
  readonly variant?: string;
  /** The cache; default: `HF_HUB_CACHE`, `HF_HOME/hub` or `~/.cache/huggingface/hub`. */
  readonly cacheDir?: string;
  /** Access token; default: `HF_TOKEN`, or the file that `hf auth login` writes. */
  readonly token?: string;
  /** Instead of the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Called before each file. */
  readonly onFile?: (path: string, index: number, count: number) => void;
}

const PREFIX = "hub:";
const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/;
const REVISION = /^[A-Za-z0-9][A-Za-z0-9._/-]*$/;
const COMMIT = /^[0-9a-f]{40}$/;

const climbs = (path: string): boolean => path.split("/").some((part) => part === ".." || part === ".");

/** Reads `hub:owner/name[@revision][/path]`; undefined for any other text. @throws {ArgumentError} when it is malformed */
export function parseHubId(text: string): HubId | undefined {
  if (!text.startsWith(PREFIX)) return undefined;
  const [, owner = "", name = "", revision = "main", path = ""] =
    /^hub:([^/@]+)\/([^/@]+)(?:@([^/]+))?(?:\/(.*))?$/.exec(text) ?? [];
  if (!NAME.test(owner) || !NAME.test(name) || !REVISION.test(revision) || climbs(revision) || climbs(path))
    throw new ArgumentError(
      `expected hub:owner/name, hub:owner/name@revision or hub:owner/name/file, got ${JSON.stringify(text)}`,
    );
  return { repo: `${owner}/${name}`, revision, path };
}

/** The cache of the hub's own tools. */
export function hubCacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  const home = env.HF_HOME ?? join(env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "huggingface");
  return env.HF_HUB_CACHE ?? env.HUGGINGFACE_HUB_CACHE ?? join(home, "hub");
}

const repoFolder = (repo: string, cacheDir: string): string =>
  join(cacheDir, `models--${repo.replace("/", "--")}`);

/** Folder of a model's snapshot in the cache, or undefined when it is not there. */
export async function cachedSnapshot(
  { repo, revision }: Pick<HubId, "repo" | "revision">,
  cacheDir = hubCacheFolder(),
): Promise<string | undefined> {
  const folder = repoFolder(repo, cacheDir);
  let commit = revision;
  if (!COMMIT.test(revision)) {
    const ref = join(folder, "refs", revision);
    if ((await kindOfPath(ref)) !== "file") return undefined;
    commit = (await readFile(ref, "utf8")).trim();
    if (!COMMIT.test(commit))
      throw new FormatError(`${ref}: expected a commit, got ${JSON.stringify(commit.slice(0, 60))}`);
  }
  const snapshot = join(folder, "snapshots", commit);
  return (await kindOfPath(snapshot)) === "folder" ? snapshot : undefined;
}

/** A model in the cache. */
export interface CachedModel {
  readonly repo: string;
  readonly snapshots: readonly string[];
}

/** All models in the cache, by name. */
export async function cachedModels(cacheDir = hubCacheFolder()): Promise<CachedModel[]> {
  if ((await kindOfPath(cacheDir)) !== "folder") return [];
  const found: CachedModel[] = [];
  for (const name of (await readdir(cacheDir)).sort()) {
    const [kind, ...repo] = name.split("--");
    const snapshots = join(cacheDir, name, "snapshots");
    if (kind !== "models" || (await kindOfPath(snapshots)) !== "folder") continue;
    const commits = (await readdir(snapshots)).sort();
    found.push({ repo: repo.join("/"), snapshots: commits.map((commit) => join(snapshots, commit)) });
  }
  return found;
}

async function tokenOf({ token }: HubOptions): Promise<string | undefined> {
  const { HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH } = process.env;
  const given = token ?? HF_TOKEN ?? HUGGING_FACE_HUB_TOKEN;
  if (given) return given;
  const file = HF_TOKEN_PATH ?? join(dirname(hubCacheFolder()), "token");
  return (await kindOfPath(file)) === "file" ? (await readFile(file, "utf8")).trim() || undefined : undefined;
}

async function client(): Promise<typeof import("@huggingface/hub")> {
  try {
    return await hubClient();
  } catch (error) {
    throw new ArgumentError(
      `downloading from the Hugging Face hub needs its client: npm install @huggingface/hub (${(error as Error).message.split("\n")[0]})`,
    );
  }
}

/** Downloads what a model needs of a repository into the cache, and returns the folder of its snapshot. */
async function download(id: HubId, options: HubOptions, cacheDir: string): Promise<string> {
  const hub = await client();
  const accessToken = await tokenOf(options);
  const shared = { ...(options.fetch && { fetch: options.fetch }), ...(accessToken && { accessToken }) };
  const failed = (error: unknown): never => {
    const { statusCode, message } = error as { statusCode?: number; message: string };
    const hint =
      statusCode === 401 || statusCode === 403 || statusCode === 404
        ? " (is the name right? A private or gated model needs HF_TOKEN, and its terms accepted on its page)"
        : "";
    const silent = message === "fetch failed" ? "the network or huggingface.co did not answer" : message;
    throw Object.assign(new ArgumentError(`hub:${id.repo}@${id.revision}: ${silent}${hint}`), {
      cause: error,
    });
  };
  const { sha } = await hub
    .modelInfo({ ...shared, name: id.repo, revision: id.revision, additionalFields: ["sha"] })
    .catch(failed);
  if (!COMMIT.test(sha))
    throw new FormatError(`hub:${id.repo}: expected a commit, got ${JSON.stringify(sha)}`);
  const paths: string[] = [];
  try {
    for await (const entry of hub.listFiles({ ...shared, repo: id.repo, revision: sha, recursive: true }))
      if (entry.type === "file") paths.push(entry.path);
  } catch (error) {
    failed(error);
  }
  const wanted = wantedFiles(paths, id.path, options.variant);
  if (wanted.length === 0)
    throw new ArgumentError(
      `hub:${id.repo}: no safetensors weights ${id.path ? `at ${id.path} ` : ""}among its ${paths.length} files`,
    );
  for (const [i, path] of wanted.entries()) {
    options.onFile?.(path, i, wanted.length);
    await hub
      .downloadFileToCacheDir({ ...shared, repo: id.repo, path, revision: sha, cacheDir })
      .catch(failed);
  }
  const folder = repoFolder(id.repo, cacheDir);
  if (id.revision !== sha) {
    const ref = join(folder, "refs", id.revision);
    await mkdir(dirname(ref), { recursive: true });
    await writeFile(ref, sha); // last, so that a name stands for a snapshot that is whole
  }
  return join(folder, "snapshots", sha);
}

/**
 * The local path of a model: the path itself, or for `hub:owner/name` its snapshot in the cache. Downloads only when
 * `download` is set (and `HF_HUB_OFFLINE` is not), and then only what loading needs; a commit as revision pins it.
 *
 * @throws {ArgumentError} when it is not in the cache and may not be downloaded, or the hub refuses
 */
export async function resolveModelPath(path: string, options: HubOptions = {}): Promise<string> {
  const id = parseHubId(path);
  if (!id) return path;
  const cacheDir = options.cacheDir ?? hubCacheFolder();
  const offline = /^(?:1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? "");
  const cached = () => cachedSnapshot(id, cacheDir);
  const snapshot =
    options.download && !offline
      ? await download(id, options, cacheDir).catch(async (error: Error) => {
          // Without a network the cache serves; what the hub itself refuses stays refused.
          const unreachable = error.cause instanceof Error && !("statusCode" in error.cause);
          const there = unreachable ? await cached() : undefined;
          if (there === undefined) throw error;
          return there;
        })
      : await cached();
  if (snapshot === undefined) {
    const how = offline
      ? "HF_HUB_OFFLINE forbids downloading"
      : "allow downloading with `download: true` (--hub on the command line)";
    throw new ArgumentError(`${path}: not in the cache ${cacheDir}; ${how}`);
  }
  return join(snapshot, id.path);
}
