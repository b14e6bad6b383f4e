/** Every kind of input and result through the studio's server. */
import { link, readFile, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { unzipSync } from "fflate";
import { afterAll, beforeAll, expect, test } from "vitest";
import { decodePicture, encodePicture } from "../../src/io/index.ts";
import type { GivenFile, JobRequest, UploadInfo } from "../../src/studio/api-types.ts";
import { closeStudio, type Opened, openStudio } from "./server.ts";

let s: Opened;
beforeAll(async () => {
  s = await openStudio();
});
afterAll(() => closeStudio(s));

const upload = (bytes: Uint8Array, kind = "picture"): Promise<UploadInfo> =>
  s.json(s.ask(`/api/uploads?kind=${kind}`, { method: "POST", body: new Uint8Array(bytes) }));

const picture = async (value: number): Promise<string> => {
  const data = new Uint8Array(48).fill(value);
  return (await upload(await encodePicture({ width: 4, height: 4, channels: 3, data }))).hash;
};

/** A header of NIfTI, as far as the server looks at it. */
const scan = (): Uint8Array => {
  const bytes = new Uint8Array(400);
  new DataView(bytes.buffer).setInt32(0, 348, true);
  return bytes;
};

async function request(): Promise<JobRequest & { inputs: Record<string, readonly GivenFile[]> }> {
  const [a, b, c] = [await picture(10), await picture(20), await picture(30)];
  const { hash: volume } = await upload(scan(), "volume");
  const { hash: file } = await upload(new Uint8Array(7), "file");
  return {
    tool: "everything",
    task: "run",
    inputs: {
      image: [{ hash: a, name: "my cat (1).png" }],
      others: [{ hash: b, name: "b.png" }, { hash: c }],
      scan: [{ hash: volume, name: "scan.nii" }],
      notes: [{ hash: file, name: "../../notes.bin" }],
      votes: [
        { hash: a, type: "chosen" },
        { hash: b, type: "rejected" },
      ],
      controls: [
        { hash: c, type: "depth", name: "d.png" },
        { hash: b, type: "edges" },
      ],
    },
    options: { prompt: "two\nlines", camera: "swing", views: 5 },
  };
}

test("all inputs reach the system under their own names, and every result is there", async () => {
  const job = await s.settled((await s.add(await request())).id);
  expect(job.error).toBeUndefined();
  const kinds = job.artifacts.map(({ kind, view, name }) => `${kind} ${view ?? ""} ${name}`);
  expect(kinds).toEqual([
    "picture  picture",
    "album mask mask",
    "album grid grid",
    "album comparison restored",
    "album components parts",
    "album frames film",
    "album scene scene",
    "chart  chart",
    "table  what-was-given",
  ]);
  const at = (name: string): number => job.artifacts.findIndex((a) => a.name === name);
  const grid = job.artifacts[at("grid")]!;
  expect([grid.columns, grid.rows]).toEqual([
    ["left", "right"],
    ["top", "bottom"],
  ]);
  expect(grid.parts!.map(({ label }) => label)).toEqual([
    ...["top, left", "top, right", "bottom, left", "bottom, right"],
  ]);
  expect(job.artifacts[at("parts")]!.parts!.map(({ weight }) => weight)).toEqual([0.5, 1]);
  const part = async (name: string, k: number): Promise<number> => {
    const answer = await s.ask(`/api/jobs/${job.id}/results/${at(name)}?part=${k}`);
    expect(answer.headers.get("content-type")).toBe("image/png");
    return (await decodePicture(Buffer.from(await answer.arrayBuffer()))).data[0]!;
  };
  expect([await part("grid", 2), await part("parts", 1), await part("film", 2)]).toEqual([30, 60, 160]);
  expect((await s.ask(`/api/jobs/${job.id}/results/${at("film")}?part=3`)).status).toBe(404);
  const table = await s.json<{ rows: [string, unknown][] }>(
    s.ask(`/api/jobs/${job.id}/results/${at("what-was-given")}`),
  );
  expect(Object.fromEntries(table.rows)).toMatchObject({
    prompt: "two\nlines",
    "pictures beside it": 2,
    controls: "depth edges",
    choices: 1,
    cameras: 5,
    "bytes of the volume": 400,
    "bytes of the file": 7,
  });
  expect(await readFile(join(s.data, "jobs", job.id, "given/notes/0/notes.bin"))).toHaveLength(7);
  const archive = Buffer.from(await (await s.ask(`/api/jobs/${job.id}/archive`)).arrayBuffer());
  const names = Object.keys(unzipSync(archive));
  expect(names).toEqual(expect.arrayContaining(["05-parts/001.png", "05-parts/002.png", "08-chart.svg"]));
});

test.each<
  [string, (inputs: Record<string, readonly GivenFile[]>) => Record<string, readonly GivenFile[]>, string]
>([
  [
    "two files for one",
    (i) => ({ ...i, image: [...i.image!, ...i.others!] }),
    "image: expected at most 1 file, got 3",
  ],
  [
    "a control without its type",
    (i) => ({ ...i, controls: [{ hash: i.image![0]!.hash }] }),
    "expected a type (edges, depth)",
  ],
  ["half a pair", (i) => ({ ...i, votes: [i.votes![0]!] }), "expected pairs, got 1 pictures"],
  [
    "a pair the wrong way round",
    (i) => ({ ...i, votes: [...i.votes!].reverse() }),
    "each with the chosen picture first",
  ],
  ["no volume", ({ scan: _, ...i }) => i, "Scan: a volume is needed"],
  [
    "an unknown file",
    (i) => ({ ...i, scan: [{ hash: "0".repeat(64) }] }),
    "scan: no uploaded file has this hash",
  ],
])("refuses %s", async (_, change, message) => {
  const asked = await request();
  const answer = await s.post("/api/jobs", { ...asked, inputs: change(asked.inputs) });
  expect([answer.status, (await answer.json()).error]).toEqual([422, expect.stringContaining(message)]);
});

test("what is no volume is refused when it is uploaded", async () => {
  const answer = await s.ask("/api/uploads?kind=volume", { method: "POST", body: new Uint8Array(400) });
  expect([answer.status, await answer.json()]).toEqual([422, { error: "expected NIfTI or TIFF" }]);
});

test("links in a job's folder lead nowhere, in answers and archives", async () => {
  const job = await s.settled((await s.add({ ...(await request()) })).id);
  const result = join(s.data, "jobs", job.id, "result-000.png");
  const secret = join(s.data, "secret");
  await link(result, secret);
  await rm(result);
  await symlink(secret, result);
  expect((await s.ask(`/api/jobs/${job.id}/results/0`)).status).toBe(404);
  const archive = Buffer.from(await (await s.ask(`/api/jobs/${job.id}/archive`)).arrayBuffer());
  expect(Object.keys(unzipSync(archive))).not.toContain("01-picture.png");
});
