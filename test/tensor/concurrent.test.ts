/** Many callers at once, as in a server: nobody's session is closed, and nobody gets another one's error. */
import { describe, expect, it, vi } from "vitest";
import { ArgumentError, ShapeError } from "../../src/errors.ts";
import { cachedSessions, conv, evaluate, jit, ones, type Tensor } from "../../src/tensor/index.ts";
import { SharedCache } from "../../src/tensor/shared-cache.ts";

describe("a compiled function that is called with more shapes at once than it keeps", () => {
  it("gives every caller its result, again and again", async () => {
    const f = jit((x: Tensor) => x.mul(2).sum(), { maxSignatures: 3 });
    vi.spyOn(console, "warn").mockImplementation(() => {});
    for (let round = 0; round < 4; round++) {
      const sizes = Array.from({ length: 12 }, (_, i) => i + 1);
      const sums = await Promise.all(sizes.map(async (n) => (await f(ones([n]))).item()));
      expect(sums).toEqual(sizes.map((n) => 2 * n));
    }
    expect(f.signatures).toBeGreaterThan(12);
    vi.restoreAllMocks();
    await f.close();
  });
  it("gives donated states back to their owners", async () => {
    const f = jit((s: { x: Tensor }) => ({ x: s.x.add(1) }), { donate: [0], maxSignatures: 2 });
    const own = async (n: number): Promise<number[]> => {
      let s = { x: ones([n]) };
      for (let i = 0; i < 5; i++) s = await f(s);
      return s.x.toArray();
    };
    const all = await Promise.all([1, 2, 3, 4, 5, 6].map(own));
    expect(all).toEqual([1, 2, 3, 4, 5, 6].map((n) => Array(n).fill(6)));
    await f.close();
  });
  it("gives an error to who made the mistake, and to nobody else", async () => {
    const weight = ones([2, 3, 1, 1]);
    const f = jit((x: Tensor) => conv(x, weight), { maxSignatures: 2 });
    const shapes = [5, 3, 3, 3, 3].map((channels, i) => [1, channels, i + 1, 1]);
    const ends = await Promise.allSettled(shapes.map((shape) => f(ones(shape))));
    expect(ends.map((end) => end.status)).toEqual(["rejected", ...Array(4).fill("fulfilled")]);
    expect((ends[0] as PromiseRejectedResult).reason).toBeInstanceOf(ShapeError);
    await f.close();
  });
  it("closes when calls under way have ended, and works again after", async () => {
    const f = jit((x: Tensor) => x.add(1));
    const under = [1, 2, 3].map((n) => f(ones([n])));
    await Promise.resolve();
    await f.close();
    expect(await (await under[2]!).toArray()).toEqual([2, 2, 2]);
    expect(await (await f(ones([1]))).item()).toBe(2);
    await f.close();
  });
});

it("more eager graphs at once than are kept all give their values", async () => {
  const sizes = Array.from({ length: 300 }, (_, i) => i + 1);
  const results = sizes.map((n) => ones([n]).add(1).sum());
  await Promise.all(results.map((t) => evaluate([t])));
  expect(await Promise.all(results.map((t) => t.item()))).toEqual(sizes.map((n) => 2 * n));
  expect(cachedSessions()).toBeLessThanOrEqual(256);
});

describe("a shared cache", () => {
  const opened = (limit: number) => {
    const log: string[] = [];
    const cache = new SharedCache<string>(limit, async (name) => {
      log.push(`close ${name}`);
    });
    const make = (name: string) => async (): Promise<string> => {
      log.push(`make ${name}`);
      return name;
    };
    return { log, cache, make };
  };
  const gate = () => {
    let open!: () => void;
    const opens = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { open, opens };
  };

  it("closes what made room once its last user has ended, and not before", async () => {
    const { log, cache, make } = opened(1);
    const [first, second] = [gate(), gate()];
    const uses = [first, second].map(({ opens }) => cache.use("a", make("a"), () => opens));
    await cache.use("b", make("b"), async () => {});
    expect(log).toEqual(["make a", "make b"]);
    first.open();
    await uses[0];
    expect(log).not.toContain("close a");
    second.open();
    await uses[1];
    await cache.close();
    expect(log).toEqual(["make a", "make b", "close a", "close b"]);
  });
  it("forgets what could not be made, and makes a new one of a key whose old one is still in use", async () => {
    const { log, cache, make } = opened(1);
    const fail = async (): Promise<string> => {
      throw new ArgumentError("no");
    };
    await expect(cache.use("a", fail, async () => {})).rejects.toThrow("no");
    const { open, opens } = gate();
    const old = cache.use("a", make("a1"), () => opens);
    await cache.use("b", make("b"), async () => {});
    await cache.use("a", make("a2"), async (value) => expect(value).toBe("a2"));
    open();
    await old;
    await cache.close();
    expect(log.filter((entry) => entry.startsWith("close")).sort()).toEqual([
      "close a1",
      "close a2",
      "close b",
    ]);
  });
});
