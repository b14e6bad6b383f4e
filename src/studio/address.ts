/** Where a studio that runs can be found, and what opens it: both lie in its folder, which only its owner reads. */
import { randomBytes } from "node:crypto";
import { chmod, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../io/index.ts";

const addressFile = (data: string): string => join(data, "address.txt");
const tokenFile = (data: string): string => join(data, "token.txt");
const textOf = async (path: string): Promise<string> => (await readFile(path, "utf8").catch(() => "")).trim();

/** Notes the address of the studio that holds this folder. */
export const noteAddress = (data: string, url: string): Promise<void> =>
  writeFileAtomic(addressFile(data), Buffer.from(`${url}\n`));

export const forgetAddress = (data: string): Promise<void> => rm(addressFile(data), { force: true });

/** The token of a folder, made when there is none: pages that were open stay so when the studio is started again. */
export async function keptToken(data: string): Promise<string> {
  const kept = await textOf(tokenFile(data));
  if (/^[\w-]{24}$/.test(kept)) return kept;
  const token = randomBytes(18).toString("base64url");
  await writeFileAtomic(tokenFile(data), Buffer.from(`${token}\n`));
  await chmod(tokenFile(data), 0o600);
  return token;
}

/** The address of the studio that holds a folder, with the folder's token where that opens it; undefined when none answers there. */
export async function runningStudio(data: string): Promise<string | undefined> {
  const [url, token] = await Promise.all([textOf(addressFile(data)), textOf(tokenFile(data))]);
  if (url === "") return undefined;
  const ask = (headers: Record<string, string>) =>
    fetch(new URL("/api/status", url), { headers, signal: AbortSignal.timeout(2000) }).catch(() => undefined);
  const answer = await ask({});
  if (!answer?.headers.has("content-security-policy")) return undefined;
  const opens =
    answer.status === 401 && token !== "" && (await ask({ authorization: `Bearer ${token}` }))?.ok;
  return opens ? `${url}?token=${token}` : url;
}
