/**
 * A browser that speaks the W3C's WebDriver, as far as the tests need it: WebKitGTK's MiniBrowser. It has a window, so it
 * is given a screen of its own (Xvfb).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

const found = (name: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, name))
    .find(existsSync);

/** Where WebKit's driver and a screen for it are; undefined where one is missing. */
export function findWebKit(): { driver: string; screen: string } | undefined {
  const [driver, screen] = [found("WebKitWebDriver"), found("Xvfb")];
  return driver && screen ? { driver, screen } : undefined;
}

/** Resolves with what a process has said once it matches. */
const said = (child: ChildProcess, stream: "stdout" | "stderr" | 3, pattern: RegExp): Promise<string> =>
  new Promise((resolve, reject) => {
    let text = "";
    const readable = stream === 3 ? child.stdio[3] : child[stream];
    (readable as NodeJS.ReadableStream).on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const match = pattern.exec(text);
      if (match) resolve(match[1] ?? match[0]);
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${text}`)));
  });

const ELEMENT = "element-6066-11e4-a52e-4f735466cecf";

export interface WebDriver {
  goto(url: string): Promise<void>;
  /** Runs the body of a function in the page; it may return a promise. */
  evaluate<T>(body: string): Promise<T>;
  /** Chooses a file for an input. */
  setFile(selector: string, path: string): Promise<void>;
  click(selector: string): Promise<void>;
  close(): Promise<void>;
}

/** Starts WebKit on a screen of its own, in an environment with these languages. */
export async function startWebKit(language: string): Promise<WebDriver> {
  const { driver, screen } = findWebKit()!;
  const display = spawn(screen, ["-displayfd", "3", "-screen", "0", "1280x900x24"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const number = (await said(display, 3, /(\d+)\n/)).trim();
  const env = { ...process.env, DISPLAY: `:${number}`, LANG: language, LC_ALL: language };
  const port = 20_000 + (process.pid % 20_000);
  const server = spawn(driver, [`--port=${port}`], { env, stdio: "ignore" });
  const ask = async (method: string, path: string, body?: object): Promise<unknown> => {
    const init = { method, ...(method === "POST" && { body: JSON.stringify(body ?? {}) }) };
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, init);
    const { value } = (await answer.json()) as { value: { error?: string; message?: string } };
    if (!answer.ok) throw new Error(`${path}: ${value.error}: ${value.message}`);
    return value;
  };
  for (;;) {
    const ready = await fetch(`http://127.0.0.1:${port}/status`).then(
      () => true,
      () => false,
    );
    if (ready) break;
    if (server.exitCode !== null) throw new Error(`the driver ended with ${server.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { sessionId } = (await ask("POST", "/session", {
    capabilities: { alwaysMatch: { timeouts: { script: null, pageLoad: 3_600_000 } } },
  })) as { sessionId: string };
  const session = `/session/${sessionId}`;
  const element = async (selector: string): Promise<string> => {
    const value = { using: "css selector", value: selector };
    return ((await ask("POST", `${session}/element`, value)) as Record<string, string>)[ELEMENT]!;
  };
  return {
    goto: async (url) => void (await ask("POST", `${session}/url`, { url })),
    evaluate: async <T>(body: string) =>
      (await ask("POST", `${session}/execute/sync`, { script: body, args: [] })) as T,
    setFile: async (selector, path) =>
      void (await ask("POST", `${session}/element/${await element(selector)}/value`, { text: path })),
    click: async (selector) =>
      void (await ask("POST", `${session}/element/${await element(selector)}/click`)),
    async close() {
      await ask("DELETE", session).catch(() => undefined);
      server.kill();
      display.kill();
    },
  };
}
