/** Which pictures of a job are shown, and over what. */
import type { ArtifactInfo, JobRecord } from "../../api-types.ts";
import { resultUrl, uploadUrl } from "./api.ts";

export interface Shown {
  readonly label: string;
  /** Under the picture, when it is not the label. */
  readonly caption?: string;
  readonly url: string;
  readonly width?: number;
  /** What it is shown beside. */
  readonly base?: { readonly label: string; readonly url: string };
  /** Both have one size: one can lie over the other. */
  readonly fits: boolean;
}

type Kept = ArtifactInfo & { readonly index: number };

/** Pictures that say most come first. */
const rank = ({ name }: Kept): number => (/overlay|comparison/.test(name) ? 0 : 1);

const picturesOf = ({ artifacts }: JobRecord): Kept[] =>
  artifacts
    .map((artifact, index) => ({ ...artifact, index }))
    .filter(({ kind }) => kind === "picture")
    .sort((a, b) => rank(a) - rank(b));

const urlOf = ({ id }: JobRecord, { index, version }: Kept): string => resultUrl(id, index, version);

/** Results beside what was given. */
export function shownPictures(job: JobRecord): Shown[] {
  const [first] = Object.values(job.inputs);
  return picturesOf(job).map((picture) => {
    const over = picture.over === undefined ? undefined : job.inputs[picture.over];
    const hash = (over ?? first)?.[0]?.hash;
    return {
      label: picture.label,
      url: urlOf(job, picture),
      width: picture.width,
      fits: over !== undefined,
      ...(hash && { base: { label: "Given", url: uploadUrl(hash) } }),
    };
  });
}

/** Pictures of the second run beside those of the same name of the first. */
export function sharedPictures(a: JobRecord, b: JobRecord): Shown[] {
  const ofFirst = new Map(picturesOf(a).map((picture) => [picture.name, picture]));
  return picturesOf(b).flatMap((picture) => {
    const other = ofFirst.get(picture.name);
    if (!other) return [];
    const fits = other.width === picture.width && other.height === picture.height;
    const base = { label: "First run", url: urlOf(a, other) };
    const { label, width } = picture;
    return [{ label, caption: "Second run", url: urlOf(b, picture), width, fits, base }];
  });
}

/** Small pictures keep their pixels; large ones are smoothed. */
export const isSmall = ({ width = 0 }: Pick<Shown, "width">): boolean => width <= 512;

/** The picture that stands for a job: its first result, else what was given. */
export function thumbnail(job: JobRecord): { url: string; small: boolean } | undefined {
  const [picture] = shownPictures(job);
  const hash = Object.values(job.inputs)[0]?.[0]?.hash;
  if (picture) return { url: picture.url, small: isSmall(picture) };
  return hash === undefined ? undefined : { url: uploadUrl(hash), small: false };
}
