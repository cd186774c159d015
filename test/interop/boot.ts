/** Boots a disk as a cloud would, by UEFI, in QEMU under software emulation, and reads its serial port. */
import { spawn } from "node:child_process";
import { copyFile } from "node:fs/promises";

const FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd";

export interface Booted {
  /** Everything the serial port said. */
  readonly serial: string;
  /** The guest turned itself off; false when the deadline came first. */
  readonly off: boolean;
  readonly seconds: number;
}

/** @param disk raw; the guest writes to it. Its firmware's variables are kept in a file beside it. */
export async function boot(disk: string, deadlineMs: number): Promise<Booted> {
  const variables = `${disk}.vars`;
  await copyFile(VARIABLES, variables);
  const started = performance.now();
  const qemu = spawn(
    "qemu-system-x86_64",
    [
      ...["-machine", "q35,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024"],
      ...["-nographic", "-no-reboot", "-nic", "none"],
      ...["-drive", `if=pflash,format=raw,unit=0,readonly=on,file=${FIRMWARE}`],
      ...["-drive", `if=pflash,format=raw,unit=1,file=${variables}`],
      ...["-drive", `if=virtio,format=raw,file=${disk}`],
    ],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  let serial = "";
  for (const stream of [qemu.stdout, qemu.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      serial += text;
    });
  }
  const deadline = setTimeout(() => qemu.kill("SIGKILL"), deadlineMs);
  try {
    const code = await new Promise<number | null>((resolve, reject) => {
      qemu.on("error", reject);
      qemu.on("close", resolve);
    });
    return { serial, off: code === 0, seconds: (performance.now() - started) / 1000 };
  } finally {
    clearTimeout(deadline);
  }
}
