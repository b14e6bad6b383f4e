import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { hostname } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { LifetimeError } from "../../src/errors.ts";
import { lockDirectory } from "../../src/io/directory-lock.ts";
import { latestCheckpoint, openRunDirectory } from "../../src/io/run-directory.ts";
import { readSafetensors } from "../../src/io/safetensors-file.ts";
import { type Child, startChild } from "./child-process.ts";
import { useTemporaryFolder } from "./temporary-folder.ts";

const at = useTemporaryFolder();
const KILLS = 10;
const locks = () => readdirSync(at()).filter((name) => name.startsWith(".lock-"));
const lockFile = (owner: unknown) => writeFileSync(at(".lock-0123456789abcdef"), JSON.stringify(owner));

describe("a process killed while it saves", () => {
  it("never loses an acknowledged checkpoint, and the next process takes over", async () => {
    let acknowledged = 0;
    for (let round = 0; round < KILLS; round++) {
      const child = startChild(at("run"), "loop");
      await child.printed("open");
      if (round % 2 === 1) await child.printed("saved");
      await delay(Math.random() * 150); // the kill may come at any moment
      await child.kill();
      for (const match of child.output().matchAll(/saved (\d+)\n/g)) acknowledged = Number(match[1]);
      const latest = await latestCheckpoint(at("run"));
      if (latest === undefined) {
        expect(acknowledged).toBe(0);
        continue;
      }
      expect(latest.step).toBeGreaterThanOrEqual(acknowledged);
      const { tensors } = await readSafetensors(`${latest.directory}/model.safetensors`);
      const weights = tensors.get("weights") as { data: Float32Array };
      expect(weights.data.every((value) => value === latest.step)).toBe(true);
      expect(JSON.parse(readFileSync(`${latest.directory}/state.json`, "utf8"))).toEqual({
        step: latest.step,
      });
      // Only unfinished folders may be skipped: a folder under its final name is whole.
      for (const { directory } of latest.skipped) expect(directory).toMatch(/\.tmp$/);
    }
    expect(acknowledged).toBeGreaterThan(0);
  });
});

describe("two processes on one run directory", () => {
  it("exclude each other by an error with the process id, until one dies", async () => {
    let child: Child | undefined;
    try {
      child = startChild(at("run"), "hold");
      await child.printed("open");
      await expect(openRunDirectory(at("run"), { keep: 1 })).rejects.toThrow(LifetimeError);
      await expect(openRunDirectory(at("run"), { keep: 1 })).rejects.toThrow(
        `process ${child.pid} on this machine`,
      );
      expect(await latestCheckpoint(at("run"))).toBeUndefined(); // reading needs no lock
    } finally {
      await child?.kill();
    }
    const run = await openRunDirectory(at("run"), { keep: 1 });
    await run.close();
    expect(readdirSync(at("run"))).toEqual([]);
  });

  it("cannot both be in this process", async () => {
    const run = await openRunDirectory(at("run"), { keep: 1 });
    await expect(openRunDirectory(at("run"), { keep: 1 })).rejects.toThrow(`process ${process.pid}`);
    await run.close();
    await (await openRunDirectory(at("run"), { keep: 1 })).close();
  });
});

describe("directory lock", () => {
  it("is given to at most one of many that race", async () => {
    const results = await Promise.allSettled(Array.from({ length: 6 }, () => lockDirectory(at())));
    const holders = results.filter((result) => result.status === "fulfilled");
    expect(holders.length).toBeLessThanOrEqual(1);
    expect(locks()).toHaveLength(holders.length);
  });

  it("of a process id that now belongs to another process is stale", async () => {
    // Such as a container in which the same program restarts under the same id.
    for (const pid of [process.pid, process.ppid]) {
      lockFile({ pid, host: hostname(), started: process.platform === "linux" ? "an-earlier-boot/1" : "" });
      if (process.platform !== "linux" && pid !== process.pid) continue;
      await (await lockDirectory(at()))();
      expect(locks()).toEqual([]);
    }
  });

  it("of another machine is respected unless taken over on purpose", async () => {
    lockFile({ pid: 1, host: "another-machine", started: "" });
    await expect(lockDirectory(at())).rejects.toThrow(/process 1 on machine another-machine/);
    await (await lockDirectory(at(), { takeOver: true }))();
    expect(locks()).toEqual([]);
  });

  it("that is unreadable is never broken, but named", async () => {
    for (const owner of [
      null,
      {},
      { pid: -1, host: "x", started: "" },
      { pid: "1", host: "x", started: "" },
    ]) {
      lockFile(owner);
      await expect(lockDirectory(at())).rejects.toThrow(/\.lock-0123456789abcdef is unreadable/);
    }
    mkdirSync(at("empty"));
    await (await lockDirectory(at("empty")))();
  });
});
