/** What an emulated ARM64 finds of its machine: its C library, and a processor. */
import { existsSync } from "node:fs";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";

/** Debian's `libc6-arm64-cross` and `libstdc++6-arm64-cross`. */
const LIBRARIES = "/usr/aarch64-linux-gnu/lib";

/** One processor as Linux describes it on ARM64: a Neoverse N1. */
const processor = (index: number): string => `processor\t: ${index}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1
`;

/**
 * Writes a root folder that qemu looks into first (`QEMU_LD_PREFIX`). The emulated process would read this machine's own
 * /proc/cpuinfo otherwise, and ONNX Runtime falls over one that describes no ARM64.
 */
export async function writeSysroot(folder: string): Promise<void> {
  if (!existsSync(LIBRARIES))
    throw new Error(`expected ${LIBRARIES}; install libc6-arm64-cross and libstdc++6-arm64-cross`);
  await mkdir(join(folder, "proc"), { recursive: true });
  await symlink(LIBRARIES, join(folder, "lib"));
  await writeFile(
    join(folder, "proc/cpuinfo"),
    cpus()
      .map((_, i) => processor(i))
      .join("\n"),
  );
}
