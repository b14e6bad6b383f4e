import { rm } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { footprint, loadTrials, type Target, type Trial } from "./load.ts";
import { clientOf, openStudio, spawnStudio, temporaryFolder } from "./server.ts";

test("crowds, slow and rude clients get honest answers, and nothing is kept of them", async () => {
  const data = await temporaryFolder();
  const { child, port } = await spawnStudio(data, {
    limits: { bytes: 32 * 2 ** 20, seconds: 3600 }, // a crowd on a slow machine takes long
  });
  const target: Target = { port, pid: child.pid! };
  const before = process.platform === "linux" ? footprint(target).handles : 0;
  const trials = new Map<string, Trial>();
  for await (const trial of loadTrials(target)) trials.set(trial.name, trial);
  const statuses = Object.fromEntries([...trials].map(([name, trial]) => [name, trial.statuses]));
  const {
    "20 uploads of 40 MiB (32 are allowed)": large,
    "20 endless uploads in chunks": endless,
    ...rest
  } = statuses;
  expect(rest).toEqual({
    "200 at once: the page": { 200: 200 },
    "200 at once: systems and forms": { 200: 200 },
    "200 at once: history": { 200: 200 },
    "200 at once: uploads of different pictures": { 200: 200 },
    "200 at once: new jobs (100 may wait)": { 200: 100, 429: 100 },
    "200 bodies that are no JSON": { 400: 200 },
    "200 uploads that are no picture": { 422: 200 },
    "200 connections that do not speak HTTP": { 400: 200 },
    "50 headers of 64 KiB": { 431: 50 },
    "220 listen to events and read nothing": { 200: 200, 503: 20 },
    "200 ask for onnxruntime's 14 MB and read nothing": { 200: 200 },
    "200 at once, after as many went away in the middle": { 200: 200 },
    "200 at once while 100 others send letter by letter": { 200: 200 },
  });
  // Of a body that is too large the rest is not read, so the answer may be lost with the connection.
  expect((large![413] ?? 0) + (large!.cut ?? 0)).toBe(20);
  expect((endless![413] ?? 0) + (endless![503] ?? 0) + (endless!.cut ?? 0)).toBe(20);
  const { jobs, until } = clientOf({ port });
  const waiting = (await jobs()).findLast(({ task }) => task === "evaluate")!; // the first of them
  await until(waiting.id, ({ state }) => state === "done"); // the queue works on
  // Connections that went away are let go of; the test ends here if they are not.
  while (process.platform === "linux" && footprint(target).handles >= before + 30) await delay(50);
  // Answers that nobody reads are not kept in memory: 200 copies of the runtime would be 2.8 GB.
  if (process.platform === "linux") expect(footprint(target).mebibytes).toBeLessThan(1000);
  child.kill("SIGKILL");
  await new Promise((resolve) => child.once("exit", resolve));
  await rm(data, { recursive: true, force: true, maxRetries: 20 }); // its worker outlives it for a moment
});

test("an upload that takes too long is refused", async () => {
  const s = await openStudio({ limits: { seconds: 1 } });
  const body = new ReadableStream({
    async pull(controller) {
      await delay(100);
      controller.enqueue(new Uint8Array(10));
    },
  });
  const answer = await s
    .ask("/api/uploads", { method: "POST", body, duplex: "half" } as RequestInit)
    .catch(() => undefined);
  if (answer) expect(answer.status).toBe(408);
  expect((await s.ask("/api/status")).status).toBe(200);
  await s.studio.close();
  await rm(s.data, { recursive: true, force: true });
});
