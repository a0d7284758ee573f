import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { checkImage, GuestImageError, loadImage, Machine, parseElf, parseFlat, parseImage } from "../../src/index.ts";
import { buildElf } from "./elf.ts";

const code = Uint8Array.of(0x90, 0xf4);

describe("flat images", () => {
  it("go to 0x7C00 in real mode and to 1 MiB else", () => {
    expect(parseFlat(code)).toMatchObject({ mode: "real", entry: 0x7c00, segments: [{ address: 0x7c00 }] });
    expect(parseFlat(code, { mode: "long" })).toMatchObject({ entry: 0x100000, segments: [{ address: 0x100000 }] });
  });

  it("start at the load address unless told otherwise", () => {
    expect(parseFlat(code, { load: 0x2000 }).entry).toBe(0x2000);
    expect(parseFlat(code, { load: 0x2000, entry: 0x2001 }).entry).toBe(0x2001);
  });

  it("must not be empty", () => {
    expect(() => parseFlat(new Uint8Array())).toThrow(GuestImageError);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 32, "4096"])("refuse %s as a load address", (load) => {
    expect(() => parseFlat(code, { load: load as number })).toThrow(/load must be/);
  });
});

describe("ELF images", () => {
  const wide = { wide: true, entry: 0x200001, segments: [{ vaddr: 0x200000, data: code, memsz: 0x3000 }] };
  const narrow = { ...wide, wide: false };

  it("give segments, entry and mode of ELF64 and ELF32", () => {
    const segments = [{ address: 0x200000, data: code, memorySize: 0x3000 }];
    expect(parseElf(buildElf(wide))).toEqual({ format: "elf64", mode: "long", entry: 0x200001, segments });
    expect(parseElf(buildElf(narrow))).toEqual({ format: "elf32", mode: "protected", entry: 0x200001, segments });
  });

  it("go to their physical addresses, and the entry with them", () => {
    const image = parseElf(
      buildElf({ wide: false, entry: 0xc0000001, segments: [{ vaddr: 0xc0000000, paddr: 0x100000, data: code }] }),
    );
    expect(image).toMatchObject({ entry: 0x100001, segments: [{ address: 0x100000 }] });
  });

  it("load only PT_LOAD segments", () => {
    const note = { vaddr: 0, data: Uint8Array.of(1), type: 4 };
    expect(parseElf(buildElf({ ...wide, segments: [note, ...wide.segments] })).segments).toHaveLength(1);
    expect(() => parseElf(buildElf({ ...wide, segments: [note] }))).toThrow(/no segment to load/);
  });

  it("fill bss with zeros in memory that held something", () => {
    const machine = new Machine({ memory: 4 << 20 });
    machine.writeMemory(0x200000, new Uint8Array(0x3000).fill(0xcc));
    loadImage(machine, parseElf(buildElf(wide)));
    expect(machine.readMemory(0x200000, 3)).toEqual(Uint8Array.of(0x90, 0xf4, 0));
    expect(machine.readMemory(0x202fff, 1)).toEqual(Uint8Array.of(0));
  });

  it.each([
    ["another machine", buildElf({ ...wide, machine: 183 }), "machine 183, AArch64"],
    ["a 32-bit file for x86-64", buildElf({ ...narrow, machine: 62 }), "must be for 3"],
    ["a shared object", buildElf({ ...wide, type: 3 }), "ELF type 3 (a shared object)"],
    ["an entry in no segment", buildElf({ ...wide, entry: 0x100 }), "entry 0x100 lies in none"],
    ["nothing but the identification", buildElf(wide).subarray(0, 16), "the file has 16"],
    ["half a program header", buildElf(wide).subarray(0, 100), "the program headers needs bytes 0x40-0x77"],
    ["half a segment", buildElf(wide).subarray(0, 121), "the segment at 0x200000 needs bytes 0x78-0x79"],
  ])("refuse %s", (_name, bytes, message) => {
    expect(() => parseElf(bytes)).toThrow(GuestImageError);
    expect(() => parseElf(bytes)).toThrow(message);
  });

  it("refuse more bytes in the file than in memory", () => {
    const bytes = buildElf({ ...wide, entry: 0x200000, segments: [{ vaddr: 0x200000, data: code, memsz: 1 }] });
    expect(() => parseElf(bytes)).toThrow(/2 bytes in the file but 1 in memory/);
  });

  it("refuse segments above 4 GiB", () => {
    const bytes = buildElf({ wide: true, entry: 2 ** 40, segments: [{ vaddr: 2 ** 40, data: code }] });
    expect(() => parseElf(bytes)).toThrow(/above 4 GiB/);
  });

  it("say themselves where they are loaded", () => {
    expect(() => parseImage(buildElf(wide), { load: 0 })).toThrow(/flat binaries only/);
  });

  it("never fail in another way, whatever the bytes", () => {
    const file = buildElf(wide);
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(119), fc.nat(255)), { maxLength: 6 }), fc.nat(122), (patches, length) => {
        const bytes = file.slice(0, length);
        for (const [at, value] of patches) if (at < bytes.length) bytes[at] = value;
        try {
          checkImage(parseImage(bytes), 16 << 20);
        } catch (error) {
          if (!(error instanceof GuestImageError)) throw error;
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe("images in RAM", () => {
  const RAM = 1 << 20;
  const check = (segments: readonly { vaddr: number; data: Uint8Array; memsz?: number }[], entry?: number) =>
    checkImage(parseElf(buildElf({ wide: false, entry: entry ?? segments[0]!.vaddr, segments })), RAM);

  it("may touch each other and the last byte of RAM", () => {
    expect(() =>
      check([
        { vaddr: RAM - 4, data: code },
        { vaddr: RAM - 2, data: code },
      ]),
    ).not.toThrow();
  });

  it("must not pass its end", () => {
    expect(() => check([{ vaddr: RAM - 1, data: code }])).toThrow(
      /segment 0xfffff-0x100000 lies outside the 1048576 bytes of RAM \(0x0-0xfffff\)/,
    );
  });

  it("must not overlap each other", () => {
    expect(() =>
      check([
        { vaddr: 0x1000, data: code, memsz: 0x1001 },
        { vaddr: 0x2000, data: code },
      ]),
    ).toThrow("segments 0x1000-0x2000 and 0x2000-0x2001 overlap");
  });

  it("need an entry inside", () => {
    expect(() => checkImage(parseFlat(code, { load: 0, entry: RAM }), RAM)).toThrow(/entry 0x100000 lies outside/);
  });

  it("must leave the page tables of long mode alone", () => {
    const at = (load: number) => checkImage(parseFlat(code, { mode: "long", load }), RAM);
    expect(() => at(RAM - 0x8000 - 2)).not.toThrow();
    expect(() => at(RAM - 0x8000 - 1)).toThrow(/page tables of long mode in the top 32 KiB of RAM \(0xf8000-0xfffff\)/);
    expect(() => checkImage(parseFlat(code, { mode: "long", load: 0 }), 0x4000)).toThrow(/needs 32768 bytes/);
  });
});

describe("start states", () => {
  it("real: CS 0 and IP the entry below 64 KiB", () => {
    const machine = new Machine({ memory: 1 << 20 });
    loadImage(machine, parseFlat(code));
    expect(machine.registers.read()).toMatchObject({ rip: 0x7c00n, cs: { selector: 0, base: 0n }, rflags: 2n });
    expect(machine.codeMode).toBe(16);
  });

  it("real: CS base at the load address above", () => {
    const machine = new Machine({ memory: 1 << 20 });
    loadImage(machine, parseFlat(code, { load: 0x10000, entry: 0x10001 }));
    expect(machine.registers.read()).toMatchObject({ rip: 1n, cs: { selector: 0x1000, base: 0x10000n } });
  });

  it("protected: flat 32-bit segments, paging off", () => {
    const machine = new Machine({ memory: 2 << 20 });
    loadImage(machine, parseFlat(code, { mode: "protected" }));
    const flat = { base: 0n, limit: 0xffff_ffff };
    expect(machine.registers.read()).toMatchObject({
      cr0: 0x11n,
      rflags: 2n,
      rip: 0x100000n,
      cs: { selector: 0x08, ...flat },
      ds: { selector: 0x10, ...flat },
      ss: { selector: 0x10, ...flat },
    });
    expect(machine.codeMode).toBe(32);
    expect(machine.registers.cpl).toBe(0);
  });

  it("long: 64-bit code with the first 4 GiB mapped at themselves", () => {
    const machine = new Machine({ memory: 2 << 20 });
    loadImage(machine, parseFlat(code, { mode: "long" }));
    const { cr0, cr4, efer } = machine.registers;
    expect([cr0, cr4, efer]).toEqual([0x8000_0011n, 0x20n, 0x500n]);
    expect(machine.codeMode).toBe(64);
    for (const address of [0n, 0x12_3456n, 0xffff_ffffn]) {
      expect(machine.translate(address, "write")).toBe(address);
      expect(machine.translate(address, "execute")).toBe(address);
    }
    expect(machine.translate(0x1_0000_0000n)).toBeUndefined();
  });
});
