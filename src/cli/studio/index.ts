/** `tweedie studio`: from options to a server that runs until it is told to stop. */
import { stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { runningStudio, startStudio } from "../../studio/index.ts";
import { isLoopback } from "../../studio/server/security.ts";
import { UsageError } from "../errors.ts";
import { type GivenOptions, readOptions } from "../options.ts";
import { integerValue } from "../values.ts";
import { STUDIO_OPTIONS } from "./options.ts";

/** `NAME=PATH`, the name being the path's last part by default. */
function namedPaths(option: string, texts: readonly string[]): Record<string, string> {
  const entries = texts.map((text) => {
    const match = /^([^=/\\]+)=(.+)$/.exec(text);
    const path = resolve(match?.[2] ?? text);
    return [match?.[1] ?? basename(path), path] as const;
  });
  const names = entries.map(([name]) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new UsageError(`--${option}: "${twice}" comes twice; --${option} NAME=PATH gives another name`);
  return Object.fromEntries(entries);
}

/** The same, of files and folders that are there. */
async function existing(option: string, texts: readonly string[]): Promise<Record<string, string>> {
  const paths = namedPaths(option, texts);
  for (const path of Object.values(paths))
    if (!(await stat(path).catch(() => undefined)))
      throw new UsageError(`--${option} ${path}: there is no such file or folder`);
  return paths;
}

const stopped = (): Promise<void> =>
  new Promise((done) => {
    process.once("SIGINT", () => done());
    process.once("SIGTERM", () => done());
  });

/** Runs `tweedie studio` with the given arguments. */
export async function studio(args: readonly string[]): Promise<void> {
  const { values } = readOptions(args, STUDIO_OPTIONS) as GivenOptions;
  const list = (name: string): readonly string[] => (values.get(name) as readonly string[] | undefined) ?? [];
  const text = (name: string): string | undefined => list(name).at(-1);
  const host = text("host") ?? "127.0.0.1";
  const data = text("data") ?? "out/studio";
  if (values.get("no-token") === true && text("token") !== undefined)
    throw new UsageError("--token and --no-token: one of them");
  const open = await runningStudio(data);
  if (open !== undefined)
    throw new UsageError(`a studio with this folder is open already: ${open}; --data names another folder`);
  const paths = (option: "model" | "lora" | "control" | "folder") => existing(option, list(option));
  const server = await startStudio({
    data,
    host,
    port: integerValue("port", text("port") ?? "7860", { min: 0, max: 65_535 }),
    jobs: integerValue("jobs", text("jobs") ?? "1", { min: 1, max: 64 }),
    ...(values.get("no-token") !== true && { token: text("token") ?? process.env.TWEEDIE_TOKEN ?? true }),
    names: list("name"),
    models: await paths("model"),
    loras: await paths("lora"),
    controls: await paths("control"),
    folders: await paths("folder"),
  });
  for (const warning of server.warnings) console.error(`warning: ${warning}`);
  if (!isLoopback(host))
    console.error(
      `warning: this is plain HTTP, which others on the network can read; ssh -L ${server.port}:127.0.0.1:${server.port} HOST is private`,
    );
  console.log(
    values.get("json") === true
      ? JSON.stringify({ url: server.url, port: server.port })
      : `Tweedie studio: ${server.url}\nCtrl-C stops it; trainings can be resumed.`,
  );
  await stopped();
  if (values.get("json") !== true) console.error("\nstopping; what is running saves its state");
  process.once("SIGINT", () => process.exit(130)); // once more: at once
  await server.close();
}
