/**
 * The packed package on every runtime: `npm run runtimes [-- NAME …]`, after `npm run package`. It is installed read-only
 * and run by a user who may write nowhere else; one line for each runtime and check, and exit code 1 when one fails.
 * `--where NAME FOLDER` only installs a runtime there and prints the folder of its binary.
 */
import { chmod, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { encodePicture } from "../../src/io/index.ts";
import { lesionPicture } from "../../src/systems/sdseg/in-page.ts";
import { writeTinyStableDiffusion } from "../../test/pipelines/tiny-pipelines.ts";
import { type Check, checksFor, HALF_SCRIPT, pictureFault } from "./checks.ts";
import { packedTarball } from "./package.ts";
import { type Ended, folderForNobody, install, isRoot, run, setRights } from "./processes.ts";
import { binaryPath, chosenRuntimes, commandOf, type Runtime } from "./runtimes.ts";
import { writeSysroot } from "./sysroot.ts";

/** Where everything lies. */
interface Place {
  readonly base: string;
  readonly inputs: string;
  /** What the Node that runs this made of the same inputs. */
  readonly reference: string;
}

const packageFolder = (base: string, cpu: string): string => join(base, `package-${cpu}`);
const cpuOf = (runtime: Runtime): string => runtime.emulated?.cpu ?? "x64";

async function installPackage(base: string, cpu: string): Promise<void> {
  const folder = packageFolder(base, cpu);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), '{ "private": true, "type": "module" }\n');
  const tarballs = [await packedTarball(), await packedTarball("tweedie-checkpoints")];
  await install(folder, tarballs, [`--cpu=${cpu}`, "--os=linux"]);
  await writeFile(join(folder, "half.js"), HALF_SCRIPT);
  await setRights(folder, "a-w,a+rX");
}

async function writeInputs(inputs: string, base: string): Promise<void> {
  await mkdir(inputs);
  await writeFile(join(inputs, "lesion.png"), await encodePicture(lesionPicture(3)));
  const wide = join(base, "wide");
  await writeTinyStableDiffusion(wide);
  const main = join(packageFolder(base, "x64"), "node_modules/tweedie/dist/cli/main.js");
  const args = [main, "models", "convert", wide, join(inputs, "half"), "--dtype", "f16"];
  const { code, output } = await run(process.execPath, args, { cwd: base });
  if (code !== 0) throw new Error(`the model could not be converted to f16:\n${output}`);
}

/** Runs a check in a folder of `nobody`, with any command in front. */
function perform(
  check: Check,
  { command, args, env }: { command: string; args: readonly string[]; env: NodeJS.ProcessEnv },
  installed: string,
  cwd: string,
): Promise<Ended> {
  const script = resolve(join(installed, "node_modules/tweedie"), check.script);
  return run(command, [...args, script, ...check.args], { cwd, env, unprivileged: true });
}

async function makeReference({ reference, base, inputs }: Place): Promise<void> {
  await folderForNobody(reference);
  const node = { command: process.execPath, args: [], env: {} };
  for (const check of checksFor(inputs).filter(({ pictures }) => pictures)) {
    const { code, output } = await perform(check, node, packageFolder(base, "x64"), reference);
    if (code !== 0) throw new Error(`${check.name} fails on Node ${process.version} itself:\n${output}`);
  }
}

/** Runs all checks on a runtime and says how they went. Returns the names of those that failed. */
async function tryRuntime(runtime: Runtime, place: Place): Promise<string[]> {
  const folder = join(place.base, "runtimes", runtime.name);
  const cpu = cpuOf(runtime);
  await install(folder, [runtime.package], ["--force"]); // a package for another processor is refused otherwise
  const cwd = await folderForNobody(join(place.base, "work", runtime.name));
  const command = commandOf(runtime, folder, join(place.base, "sysroot"));
  const failed: string[] = [];
  for (const check of checksFor(place.inputs)) {
    if (runtime.emulated && !check.emulated) continue;
    const ended = await perform(check, command, packageFolder(place.base, cpu), cwd);
    const fault =
      ended.code !== 0
        ? `ended with ${ended.code}`
        : check.pictures &&
          (await pictureFault(
            join(cwd, check.pictures),
            join(place.reference, check.pictures),
            runtime.emulated !== undefined,
          ));
    const word = fault ? "FAILED" : "ok";
    console.log(
      `${runtime.package.padEnd(34)} ${check.name.padEnd(14)} ${word.padEnd(6)} ${ended.seconds.toFixed(1)} s`,
    );
    if (!fault) continue;
    failed.push(`${runtime.name}: ${check.name}`);
    console.log(`  ${fault}\n${ended.output.trimEnd().replace(/^/gm, "  | ")}`);
  }
  return failed;
}

async function tryAll(runtimes: readonly Runtime[]): Promise<void> {
  const base = await mkdtemp(join(tmpdir(), "tweedie-runtimes-"));
  await chmod(base, 0o755);
  const place = { base, inputs: join(base, "inputs"), reference: join(base, "reference") };
  try {
    if (!isRoot) console.log("note: as root the package would be run by another user, nobody; now it is not");
    for (const cpu of new Set(["x64", ...runtimes.map(cpuOf)])) await installPackage(base, cpu);
    if (runtimes.some(({ emulated }) => emulated)) await writeSysroot(join(base, "sysroot"));
    await writeInputs(place.inputs, base);
    await makeReference(place);
    const failed: string[] = [];
    for (const runtime of runtimes) failed.push(...(await tryRuntime(runtime, place)));
    if (failed.length > 0) throw new Error(`${failed.length} checks failed: ${failed.join("; ")}`);
    console.log(`runtimes: all checks hold on ${runtimes.map(({ name }) => name).join(", ")}`);
  } finally {
    await setRights(base, "u+w");
    await rm(base, { recursive: true, force: true });
  }
}

async function where(name: string | undefined, folder: string | undefined): Promise<void> {
  if (!name || !folder) throw new Error("expected --where NAME FOLDER");
  const [runtime] = chosenRuntimes([name]);
  await install(resolve(folder), [runtime!.package]);
  console.log(dirname(binaryPath(runtime!, resolve(folder))));
}

const args = process.argv.slice(2);
try {
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error(`expected Linux on x64, whose runtimes are known here, got ${process.platform}`);
  if (args[0] === "--where") await where(args[1], args[2]);
  else await tryAll(chosenRuntimes(args));
} catch (error) {
  console.error(`runtimes: ${(error as Error).message}`);
  process.exitCode = 1;
}
