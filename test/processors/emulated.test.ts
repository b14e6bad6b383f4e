/**
 * The tests of what is chosen by the processor, on processors that this machine does not have: Debian's `qemu-user` runs
 * Node, and Vitest in it, as on them. Skipped, with a message, where it is not installed; TWEEDIE_REQUIRE_EMULATION=1
 * makes that a failure.
 */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

/** Kernels for bytes, blocks of channels, all operations, codecs of pictures. Nothing here starts processes: those would not be emulated. */
const FILES = [
  "test/processors/extremes.test.ts",
  "test/tensor/op-values.test.ts",
  "test/tensor/blocked.test.ts",
  "test/tensor/upsampled-conv.test.ts",
  "test/tensor/instance-norm.test.ts",
  "test/nn/quantize",
  "test/io/pictures.test.ts",
];

/** Qemu's names, by what ONNX Runtime's kernels ask for. */
const PROCESSORS = [
  { cpu: "Haswell", has: "AVX2 but no VNNI" },
  { cpu: "Nehalem", has: "SSE 4.2 but no AVX" },
];

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const emulator = "qemu-x86_64";
const possible = process.platform === "linux" && process.arch === "x64";
const installed = possible && spawnSync(emulator, ["--version"]).status === 0;
const required = process.env.TWEEDIE_REQUIRE_EMULATION === "1";
if (!installed && !required)
  console.warn("SKIPPED: other processors are emulated on Linux on x64 with qemu-user; install it");

interface Report {
  readonly numPassedTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly message: string;
    readonly assertionResults: readonly {
      readonly fullName: string;
      readonly status: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

/** What failed, in words. */
const failures = ({ testResults }: Report): string[] =>
  testResults.flatMap(({ name, message, assertionResults }) => [
    ...(assertionResults.length === 0 ? [`${name}: ${message}`] : []),
    ...assertionResults
      .filter(({ status }) => status === "failed")
      .map(({ fullName, failureMessages }) => `${fullName}: ${failureMessages[0]?.split("\n")[0]}`),
  ]);

async function runAs(cpu: string): Promise<Report> {
  const folder = await mkdtemp(join(tmpdir(), "tweedie-processor-"));
  try {
    const output = join(folder, "report.json");
    // Threads stay in the emulated process; Vitest's own processes would not.
    const options = ["run", "--pool=threads", "--project=node", "--reporter=json", `--outputFile=${output}`];
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^VITEST/.test(name)));
    const child = spawn(
      emulator,
      ["-cpu", cpu, await realpath(process.execPath), "node_modules/vitest/vitest.mjs", ...options, ...FILES],
      { cwd: ROOT, env, stdio: ["ignore", "pipe", "pipe"] },
    );
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data) => {
        said += data;
      });
    await once(child, "close");
    return JSON.parse(
      await readFile(output, "utf8").catch(() => {
        throw new Error(`the tests did not run as on ${cpu}: ${said}`);
      }),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

describe.skipIf(!installed && !required)("results are right on a processor", () => {
  it.each(PROCESSORS)("with $has ($cpu)", async ({ cpu }) => {
    if (!installed) throw new Error("TWEEDIE_REQUIRE_EMULATION=1, but qemu-x86_64 was not found");
    const report = await runAs(cpu);
    expect(failures(report)).toEqual([]);
    expect(report.numPassedTests).toBeGreaterThan(300); // all of them ran
  });
});
