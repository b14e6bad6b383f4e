/** The runtime of this platform, and the device that is used where none is named. */
import { DeviceError } from "../../errors.ts";
import type { Capabilities } from "../onnx/builder.ts";
import type { Device, Runtime, ThreadCount } from "./runtime.ts";

let loaded: Runtime | undefined;

/** The runtime of this platform, loaded on first use. */
export async function runtime(): Promise<Runtime> {
  loaded ??= (await import("#runtime")).default as Runtime;
  return loaded;
}

let chosen: Device | undefined;

/** The device that eager values and `jit` without a `device` option use. */
export async function defaultDevice(): Promise<Device> {
  return chosen ?? (await runtime()).first;
}

/** Sets the default device. Throws `DeviceError`, listing what is there, when it is missing. */
export async function setDefaultDevice(device: Device): Promise<void> {
  chosen = await checkDevice(device);
}

/** Devices that can be used here, the default first. */
export async function listDevices(): Promise<Device[]> {
  return (await runtime()).devices();
}

/** The device itself when it is there; otherwise throws `DeviceError`. */
export async function checkDevice(device: Device): Promise<Device> {
  if (device === (await runtime()).first) return device; // without a look for others
  const here = await listDevices();
  if (!here.includes(device)) {
    throw new DeviceError(`device "${device}" is not available here; available: ${here.join(", ")}`);
  }
  return device;
}

/** Threads of a session that is not told how many, and what was tried to find out. */
export async function sessionThreads(): Promise<ThreadCount> {
  return (await runtime()).threads();
}

/** What the kernels of a device offer here; some of it is found by trial. */
export async function deviceCapabilities(device: Device): Promise<Capabilities> {
  return (await runtime()).capabilities(await checkDevice(device));
}
