import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { expectedOf } from "../devices/run.ts";
import { guestFile, wasmVmx } from "./command.ts";

const bin = (name: string) => fileURLToPath(new URL(`../../fixtures/devices/bin/${name}`, import.meta.url));
const MODULES = ["--module", `${bin("module-1.txt")}:one`, "--module", `${bin("module-2.txt")}:second=2`];
const APPEND = ["--append", "NR_CPUS=1 MEMSIZE=32"];

describe("run of a boot image", () => {
  it("gives a Multiboot kernel its command line and modules, and a PC", async () => {
    const { status, stdout } = await wasmVmx("run", bin("boot-multiboot.elf"), ...APPEND, ...MODULES);
    expect({ status, stdout }).toEqual({ status: 0, stdout: expectedOf("boot-multiboot.elf") });
  });

  it("gives a PVH kernel its own", async () => {
    const module = ["--module", bin("module-1.txt")];
    const { status, stdout } = await wasmVmx("run", bin("boot-pvh.elf"), ...APPEND, ...module, "--no-jit");
    expect({ status, stdout }).toEqual({ status: 0, stdout: expectedOf("boot-pvh.elf") });
  });

  it("gives both under VMX, where no ACPI table is", async () => {
    for (const kernel of ["boot-multiboot.elf", "boot-pvh.elf"]) {
      const modules = kernel === "boot-pvh.elf" ? MODULES.slice(0, 1).concat(bin("module-1.txt")) : MODULES;
      const { status, stdout } = await wasmVmx("run", bin(kernel), "--vmx", ...APPEND, ...modules);
      expect({ status, stdout }).toEqual({ status: 0, stdout: expectedOf(kernel).replace("RSD PTR ", "") });
    }
  });

  it("runs device guests in lock-step too", async () => {
    const { status, stdout } = await wasmVmx("run", bin("serial.bin"), "--verify-jit");
    expect({ status, stdout }).toEqual({ status: 0, stdout: expectedOf("serial") });
  });

  it.each([
    [["--append", "x"], "--append and --module are for Multiboot and PVH kernels"],
    [["--devices", "pcc"], 'unknown device set "pcc": basic, pc (did you mean pc?)'],
    [["--devices", "pc", "--vmx"], "--devices pc is for --bare: they keep the bare processor's time"],
  ])("refuses %j for a flat guest", async (args, message) => {
    const { status, stderr } = await wasmVmx("run", guestFile([0xf4]), ...args);
    expect(status).toBe(2);
    expect(stderr).toContain(message);
  });

  it("says which module it cannot read", async () => {
    const { status, stderr } = await wasmVmx("run", bin("boot-pvh.elf"), "--module", "/nowhere/initrd:x");
    expect(status).toBe(2);
    expect(stderr).toContain("cannot read module /nowhere/initrd: there is no such file");
  });

  it("ends with the machine", async () => {
    // mov ax, 0x2000; mov dx, 0x604; out dx, ax
    const off = guestFile([0xb8, 0x00, 0x20, 0xba, 0x04, 0x06, 0xef]);
    const { status, stderr } = await wasmVmx("run", off, "--devices", "pc");
    expect(status).toBe(0);
    expect(stderr).toContain("the guest switched the machine off");
  });
});
