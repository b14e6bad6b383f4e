import { readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { unzipSync } from "fflate";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { openGate } from "../../src/studio/server/gate.ts";
import { sweep } from "../../src/studio/server/retention.ts";
import { closeStudio, openStudio, temporaryFolder } from "./server.ts";

const HOUR = 3_600_000;
const picture = (background: string): Promise<Buffer> =>
  sharp({ create: { width: 8, height: 8, channels: 3, background } })
    .png()
    .toBuffer();

describe("uploads", () => {
  test("that no job needs go when they are too old, or the oldest when they are too many", async () => {
    const folder = await temporaryFolder();
    const now = Date.now();
    const write = async (name: string, hours: number): Promise<void> => {
      await writeFile(join(folder, name), new Uint8Array(100));
      await utimes(join(folder, name), (now - hours * HOUR) / 1000, (now - hours * HOUR) / 1000);
    };
    await Promise.all([write("needed", 90), write("old", 30), write("a", 3), write("b", 2), write("c", 1)]);
    const needed = (name: string): boolean => name === "needed";
    expect(sweep(folder, needed, { hours: 24, bytes: 1000 }, now)).toBe(1);
    expect((await readdir(folder)).sort()).toEqual(["a", "b", "c", "needed"]);
    expect(sweep(folder, needed, { hours: 24, bytes: 200 }, now)).toBe(1);
    expect((await readdir(folder)).sort()).toEqual(["b", "c", "needed"]);
    expect(sweep(folder, needed, { hours: 0.5, bytes: 200 }, now)).toBe(2);
    expect(await readdir(folder)).toEqual(["needed"]);
  });

  test("stay as long as a job refers to them, also over a restart; a flood pushes out itself alone", async () => {
    const first = await openStudio();
    const [used, unused] = [
      await first.upload(await picture("red")),
      await first.upload(await picture("blue")),
    ];
    const job = await first.add({ tool: "demo", task: "run", inputs: { image: used.hash } });
    await first.settled(job.id);
    await first.studio.close();
    const uploads = join(first.data, "uploads");
    for (const { hash } of [used, unused]) await utimes(join(uploads, hash), 1e9, 1e9);
    await writeFile(join(uploads, `${unused.hash}.tmp`), "left by a kill");
    await utimes(join(uploads, `${unused.hash}.tmp`), 1e9, 1e9);

    const second = await openStudio({ data: first.data, retention: { bytes: 3000 } });
    expect(await readdir(uploads)).toEqual([used.hash]);
    for (let i = 0; i < 40; i++) await second.upload(await picture(`rgb(0, ${i}, 9)`));
    const left = await readdir(uploads);
    expect(left).toContain(used.hash);
    expect(left.length).toBeLessThan(40);
    await second.ask(`/api/jobs/${job.id}`, { method: "DELETE" });
    await second.studio.close();
    const third = await openStudio({ data: first.data, retention: { hours: 0 } });
    expect(await readdir(uploads)).toEqual([]);
    await closeStudio(third);
  });
});

test("a gate lets so many in at once, and everybody in the end", async () => {
  const gate = openGate(2);
  let inside = 0;
  const seen = await Promise.allSettled(
    Array.from({ length: 9 }, (_, i) =>
      gate(async () => {
        inside++;
        await new Promise((resolve) => setTimeout(resolve, 2));
        expect(inside--).toBeLessThanOrEqual(2);
        if (i === 3) throw new Error("of its own");
        return i;
      }),
    ),
  );
  expect(seen.map(({ status }) => status).filter((status) => status === "rejected")).toHaveLength(1);
});

test("all of a job comes in one file: results, what was given, curves, settings", async () => {
  const s = await openStudio();
  const given = await picture("teal");
  const { hash } = await s.upload(given);
  const run = await s.settled((await s.add({ tool: "demo", task: "run", inputs: { image: hash } })).id);
  const archive = async (id: string) => {
    const answer = await s.ask(`/api/jobs/${id}/archive`);
    expect(answer.headers.get("content-disposition")).toMatch(
      /^attachment; filename="demo-\w+-[\w-]+\.zip"$/,
    );
    return unzipSync(new Uint8Array(await answer.arrayBuffer()));
  };
  const files = await archive(run.id);
  expect(Object.keys(files).sort()).toEqual([
    "01-negative.png",
    "02-measured.json",
    "given-image.png",
    "settings.json",
  ]);
  expect(Buffer.from(files["given-image.png"]!).equals(given)).toBe(true);
  const stored = await readFile(join(s.data, "jobs", run.id, "result-000.png"));
  expect(stored.equals(files["01-negative.png"]!)).toBe(true);
  expect(JSON.parse(new TextDecoder().decode(files["settings.json"]))).toMatchObject({
    tool: "demo",
    task: "run",
    checkpoint: "plain",
    inputs: { image: [{ hash }] },
    options: { passes: 3 },
  });
  const training = await s.settled((await s.add({ tool: "demo", task: "train", options: { steps: 3 } })).id);
  const curves = new TextDecoder().decode((await archive(training.id))["curves.jsonl"]);
  expect(curves.trim().split("\n")).toHaveLength(3);
  expect((await s.ask("/api/jobs/zzzzzzzzz-00000000/archive")).status).toBe(404);
  await closeStudio(s);
});
