/** Pairs of pictures to choose from, and the answers as a file. */
import type { ArtifactInfo, GivenFile, JobRecord } from "../../api-types.ts";
import { resultUrl, upload, uploadUrl } from "./api.ts";

/** Two pictures of a prompt. */
export interface PicturePair {
  readonly a: GivenFile;
  readonly b: GivenFile;
  readonly prompt?: string;
}

/** Every pair of some pictures once, neighbours first. */
export const pairsOf = (pictures: readonly GivenFile[]): PicturePair[] =>
  pictures
    .flatMap((a, i) => pictures.slice(i + 1).map((b, k) => ({ a, b, far: k })))
    .sort((one, other) => one.far - other.far);

/** The pairs that a job has drawn: rows of a figure, each a prompt with two pictures. They are brought back as uploads. */
export async function drawnPairs(job: JobRecord, figure: string): Promise<PicturePair[]> {
  const index = job.artifacts.findIndex(({ kind, name }) => kind === "album" && name === figure);
  const { rows = [], version }: Partial<ArtifactInfo> & { version: number } = job.artifacts[index] ?? { version: 0 };
  const brought = async (part: number, name: string): Promise<GivenFile> => {
    const picture = await (await fetch(resultUrl(job.id, index, version, part))).blob();
    return { hash: (await upload(picture)).hash, name };
  };
  const pairs: PicturePair[] = [];
  for (const [i, prompt] of rows.entries())
    pairs.push({ a: await brought(2 * i, prompt), b: await brought(2 * i + 1, prompt), prompt });
  return pairs;
}

const dataUrl = (blob: Blob): Promise<string> =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

/** Answers, each with the chosen picture first, as JSON lines that hold the pictures. */
export async function answersFile(files: readonly GivenFile[]): Promise<Blob> {
  const lines: string[] = [];
  const inline = async ({ hash }: GivenFile): Promise<string> => dataUrl(await (await fetch(uploadUrl(hash))).blob());
  for (let i = 0; i < files.length; i += 2) {
    const [winner, loser] = [files[i]!, files[i + 1]!];
    lines.push(JSON.stringify({ prompt: winner.name, winner: await inline(winner), loser: await inline(loser) }));
  }
  return new Blob([`${lines.join("\n")}\n`], { type: "application/jsonl" });
}
