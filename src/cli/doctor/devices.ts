/** Devices: which the runtime offers, and which of them work. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Device, listDevices } from "../../tensor/index.ts";
import { nodeFlags } from "../node-flags.ts";

export interface DeviceReport {
  readonly name: Device;
  readonly works: boolean;
  /** What went wrong, or how fast the self-test went. */
  readonly detail: string;
}

/** Longest that a device may take to be tried. */
const LIMIT_MS = 60_000;

/** A device's own words without source files and addresses in it. */
const brief = (text: string): string =>
  text
    .replace(/^compiling a graph for "\w+" \(([^)]*)\):.*?(?=Failed|$)/s, "$1. ")
    .split("\n")[0]!
    .slice(0, 200);

/** Runs the self-test on a device in a process of its own: a driver that crashes ends that and not this one. */
function tryDevice(name: Device): Promise<DeviceReport> {
  const main = fileURLToPath(new URL(`../main${/\.[jt]s$/.exec(import.meta.url)![0]}`, import.meta.url));
  const args = [...nodeFlags(main), main, "doctor", "--device", name, "--json"];
  return new Promise((resolve) => {
    execFile(process.execPath, args, { timeout: LIMIT_MS, maxBuffer: 2 ** 20 }, (error, stdout) => {
      const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
      const rows = lines.map((line) => JSON.parse(line)).filter((row) => row.type === "check");
      const failed = rows.find((row) => !row.passed);
      if (failed) resolve({ name, works: false, detail: brief(failed.detail) });
      else if (error || rows.length === 0)
        resolve({ name, works: false, detail: error?.killed ? "took too long" : "its process ended early" });
      else resolve({ name, works: true, detail: `passes all ${rows.length} checks` });
    });
  });
}

/** All devices; the default one is what the self-test runs on anyway. */
export async function* deviceReports(): AsyncGenerator<DeviceReport> {
  const devices = await listDevices().catch((error: Error) => error);
  if (devices instanceof Error) {
    yield { name: "cpu", works: false, detail: brief(devices.message) };
    return;
  }
  const [standard, ...others] = devices;
  yield { name: standard!, works: true, detail: "the default, tested below" };
  for (const name of others) yield await tryDevice(name);
}
