import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it, vi } from "vitest";
import { exportOnnx, importOnnx, jit, sessionThreads, type Tensor, tensor } from "../../src/tensor/index.ts";
import node from "../../src/tensor/runtime/node.ts";
import {
  chooseThreads,
  cpuQuota,
  decideThreads,
  usableProcessors,
} from "../../src/tensor/runtime/threads.node.ts";
import { webThreads } from "../../src/tensor/runtime/web-threads.ts";

/** A file system of a few files. */
const files =
  (texts: Readonly<Record<string, string>>) =>
  (path: string): string => {
    const text = texts[path];
    if (text === undefined) throw new Error("no such file");
    return text;
  };

describe("the quota of a container", () => {
  it("is read where control groups of version 2 lie, in every group above the process", () => {
    const read = files({
      "/proc/self/cgroup": "0::/user/job\n",
      "/sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
      "/sys/fs/cgroup/user/cpu.max": "150000 100000\n",
      "/sys/fs/cgroup/cpu.max": "400000 100000\n",
    });
    expect(cpuQuota(read)).toBe(1.5);
  });

  it("is read where those of version 1 lie", () => {
    const version1 = (quota: string) =>
      files({
        "/proc/self/cgroup": "3:cpu,cpuacct:/\n",
        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota,
        "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
      });
    expect(cpuQuota(version1("300000\n"))).toBe(3);
    expect(cpuQuota(version1("-1\n"))).toBe(Number.POSITIVE_INFINITY);
  });

  it("is none where there are no control groups", () => {
    expect(cpuQuota(files({}))).toBe(Number.POSITIVE_INFINITY);
  });

  it("bounds the processors, of which at least one is left", () => {
    expect(usableProcessors(0.5)).toBe(1);
    expect(usableProcessors(Number.POSITIVE_INFINITY)).toBe(availableParallelism());
  });
});

describe("the choice of a number of threads", () => {
  const choose = (...times: [number, number][]) => chooseThreads(new Map(times));

  it("takes all when they are faster, and when they are about as fast", () => {
    expect(choose([1, 8], [2, 4.1])).toBe(2);
    expect(choose([1, 8], [2, 8.8])).toBe(2);
  });

  it("takes fewer when they are clearly faster: threads that share a core", () => {
    expect(choose([1, 8], [4, 2.1], [8, 3.2])).toBe(4);
    expect(choose([1, 8], [2, 16])).toBe(1);
  });
});

describe("TWEEDIE_THREADS", () => {
  afterEach(() => vi.unstubAllEnvs());

  it("decides for the whole process", async () => {
    vi.stubEnv("TWEEDIE_THREADS", "3");
    expect(await decideThreads(node)).toMatchObject({ threads: 3 });
  });

  it.each(["0", "two", "1.5", "1000"])("refuses %s", async (text) => {
    vi.stubEnv("TWEEDIE_THREADS", text);
    await expect(decideThreads(node)).rejects.toThrow(`from 1 to 256, got "${text}"`);
  });
});

describe("a session", () => {
  it("has the number that was decided, or the one that was asked for", async () => {
    const decided = await sessionThreads();
    expect(decided.threads).toBeGreaterThanOrEqual(1);
    expect(decided.threads).toBeLessThanOrEqual(decided.usable);
    const model = await exportOnnx((x: Tensor) => x.add(1), [tensor([1])]);
    for (const [settings, expected] of [
      [{}, decided.threads],
      [{ threads: 3 }, 3],
    ] as const) {
      const session = await node.createSession(model, "cpu", settings);
      expect(session.threads).toBe(expected);
      await session.close();
    }
  });

  /** Threads of this process that a call leaves behind: a session of n threads starts n - 1. */
  async function started(open: () => Promise<unknown>): Promise<number> {
    const before = readdirSync("/proc/self/task").length;
    await open();
    return readdirSync("/proc/self/task").length - before;
  }

  it.skipIf(process.platform !== "linux")("of every path starts as many threads as that", async () => {
    const { threads } = await sessionThreads();
    const x = tensor([[1, 2]]);
    await x.add(1).eval(); // whatever is loaded once is loaded
    const model = await exportOnnx((a: Tensor) => a.mul(2), [x]);
    const open: Record<string, () => Promise<{ close(): Promise<void> } | undefined>> = {
      eager: async () => void (await x.mul(7).sub(3.25).eval()),
      jit: async () => {
        const f = jit((a: Tensor) => a.mul(3));
        await f(x);
        return f;
      },
      "a foreign model": () => importOnnx(model),
    };
    for (const [path, make] of Object.entries(open)) {
      let made: { close(): Promise<void> } | undefined;
      expect(await started(async () => (made = await make())), path).toBe(threads - 1);
      await made?.close();
    }
    let five: Awaited<ReturnType<typeof importOnnx>> | undefined;
    expect(await started(async () => (five = await importOnnx(model, { threads: 5 })))).toBe(4);
    await five?.close();
  });

  it("of a subprocess has the number that its environment says", () => {
    const index = fileURLToPath(new URL("../../src/tensor/index.ts", import.meta.url));
    const code = `import(${JSON.stringify(index)}).then(async (t) => console.log((await t.sessionThreads()).threads))`;
    const env = { ...process.env, TWEEDIE_THREADS: "7" };
    const out = execFileSync(process.execPath, ["--import", "tsx", "-e", code], { env, encoding: "utf8" });
    expect(out.trim()).toBe("7");
  });
});

describe("in a page", () => {
  const page = (hardwareConcurrency: number, crossOriginIsolated = true) => ({
    crossOriginIsolated,
    SharedArrayBuffer,
    navigator: { hardwareConcurrency },
  });

  it("all processors are taken up to four, half of more", () => {
    expect([1, 2, 4, 6, 16].map((n) => webThreads(undefined, page(n)))).toEqual([1, 2, 4, 4, 8]);
  });

  it("the number asked for is taken", () => expect(webThreads(3, page(8))).toBe(3));

  it("one is all there is without isolation", () => {
    expect(webThreads(undefined, page(8, false))).toBe(1);
    expect(webThreads(4, page(8, false))).toBe(1);
  });

  it("one is all there is where isolation brings no shared memory", () => {
    expect(webThreads(undefined, { ...page(8), SharedArrayBuffer: undefined })).toBe(1);
  });
});
