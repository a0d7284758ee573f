// Multiboot and PVH kernels. What they print was recorded on QEMU (fixtures/devices/record.sh).
import { describe, expect, it } from "vitest";
import { GuestImageError, loadImage, Machine, parseImage, parseMultiboot, parsePvh } from "../../src/index.ts";
import { bytesOf, expectedOf, runGuest } from "../devices/run.ts";
import { catchError } from "./program.ts";

const LINE = "NR_CPUS=1 MEMSIZE=32";
const modules = [
  { data: bytesOf("module-1.txt"), commandLine: "module-1.txt one" },
  { data: bytesOf("module-2.txt"), commandLine: "module-2.txt second=2" },
];

describe("a kernel prints what it prints on QEMU", () => {
  it.each(["boot-multiboot.bin", "boot-multiboot.elf"])("%s", (name) => {
    const { text } = runGuest(bytesOf(name), { boot: { commandLine: `${name} ${LINE}`, modules } });
    expect(text).toBe(expectedOf(name));
  });

  it("boot-pvh.elf", () => {
    const { text } = runGuest(bytesOf("boot-pvh.elf"), { boot: { commandLine: LINE, modules: modules.slice(0, 1) } });
    expect(text).toBe(expectedOf("boot-pvh.elf"));
  });
});

describe("parseImage", () => {
  it("knows Multiboot by its header and PVH by its note, unless it is told how to load", () => {
    expect(parseImage(bytesOf("boot-multiboot.bin"))).toMatchObject({
      format: "multiboot",
      mode: "protected",
      boot: { protocol: "multiboot" },
    });
    expect(parseImage(bytesOf("boot-multiboot.elf"))).toMatchObject({
      format: "elf32",
      boot: { protocol: "multiboot" },
    });
    expect(parseImage(bytesOf("boot-pvh.elf"))).toMatchObject({ format: "elf32", boot: { protocol: "pvh" } });
    expect(parseImage(bytesOf("boot-multiboot.elf"), { mode: "protected" }).boot).toBeUndefined();
    expect(parseImage(Uint8Array.of(0xf4)).boot).toBeUndefined();
  });
});

describe("errors", () => {
  const header = (flags: number, ...fields: number[]) => {
    const words = Uint32Array.of(0x1badb002, flags, -(0x1badb002 + flags) >>> 0, ...fields);
    const file = new Uint8Array(64);
    file.set(new Uint8Array(words.buffer));
    return file;
  };

  it.each([
    [header(0x8), /requires features that do not exist: flags 0x8/, 4],
    [header(0), /no ELF file and its header gives no addresses/, 4],
    [header(0x10000, 0x1000, 0x2000, 0, 0, 0x2000), /cannot be at 0x1000 when the file is loaded at 0x2000/, 16],
    [header(0x10000, 0x2000, 0x2000, 0x3000, 0, 0x2000), /asks for file bytes 0x0-0x1000, the file has 64/, 20],
    [header(0x10000, 0x2000, 0x2000, 0, 0x2010, 0x2000), /bss_end_addr 0x2010 lies inside the data/, 24],
  ])("case %#", (file, message, offset) => {
    const error = catchError(() => parseMultiboot(file)) as GuestImageError;
    expect(error).toBeInstanceOf(GuestImageError);
    expect(error.message).toMatch(message);
    expect(error.detail.offset).toBe(offset);
  });

  it("no header, no note", () => {
    expect(() => parseMultiboot(new Uint8Array(100))).toThrow(/no Multiboot header/);
    expect(() => parsePvh(bytesOf("boot-multiboot.elf"))).toThrow(/no note XEN_ELFNOTE_PHYS32_ENTRY/);
  });

  it("a module that does not fit, and options that nothing reads", () => {
    const machine = new Machine({ memory: 2 << 20, extraMemory: 0 });
    const image = parseImage(bytesOf("boot-multiboot.bin"));
    const big = { modules: [{ data: new Uint8Array(1 << 20) }] };
    expect(() => loadImage(machine, image, big)).toThrow(/module 0 \(1048576 bytes at 0x102000\) does not fit/);
    const flat = parseImage(Uint8Array.of(0xf4));
    expect(() => loadImage(machine, flat, { commandLine: "x" })).toThrow(/has no boot protocol/);
  });
});
