/** Where a studio that runs can be found: its address lies in its folder while it does. */
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFileAtomic } from "../io/index.ts";

const fileOf = (data: string): string => join(data, "address.txt");

/** Notes the address of the studio that holds this folder; without its token, which is nobody else's. */
export const noteAddress = (data: string, url: string): Promise<void> =>
  writeFileAtomic(fileOf(data), Buffer.from(`${url}\n`));

export const forgetAddress = (data: string): Promise<void> => rm(fileOf(data), { force: true });

/** The address of the studio that holds a folder; undefined when none answers there. */
export async function runningStudio(data: string): Promise<string | undefined> {
  const url = (await readFile(fileOf(data), "utf8").catch(() => "")).trim();
  if (url === "") return undefined;
  const signal = AbortSignal.timeout(2000);
  const answer = await fetch(new URL("/api/status", url), { signal }).catch(() => undefined);
  return answer?.headers.has("content-security-policy") ? url : undefined; // also when it asks for a token
}
