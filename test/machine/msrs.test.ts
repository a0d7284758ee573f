import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { Machine, MSR_INDEX, MSR_NAMES, MsrError, minimalModel, skylakeModel } from "../../src/index.ts";

describe("machine.msrs", () => {
  it("has the indices that the tables give to the names", () => {
    const rows = readFileSync(new URL("../../scripts/tables/msrs.csv", import.meta.url), "utf8")
      .split("\n")
      .map((line) => line.split(","))
      .map(([index, name]) => [name, Number(index)]);
    const table = Object.fromEntries(rows) as Record<string, number | undefined>;
    const known = MSR_NAMES.filter((name) => table[name] !== undefined);
    expect(known.length).toBeGreaterThan(40);
    expect(known.filter((name) => table[name] !== MSR_INDEX[name])).toEqual([]);
  });

  it("reads all that exist, by name", () => {
    const all = new Machine({ memory: 4096, cpu: skylakeModel({ vmx: true }) }).msrs.read();
    // @sdm 3A table 9-1, and the model
    expect(all).toMatchObject({ IA32_PAT: 0x0007_0406_0007_0406n, IA32_EFER: 0n, MSR_PLATFORM_INFO: 1n << 31n });
    expect(all.IA32_VMX_BASIC).toBeTypeOf("bigint");
    const small = new Machine({ memory: 4096, cpu: minimalModel() }).msrs.read();
    expect(Object.keys(small)).not.toContain("IA32_VMX_BASIC");
    expect(Object.keys(small)).not.toContain("IA32_LSTAR");
  });

  it("reads some, by name and number, undefined where RDMSR is #GP(0)", () => {
    const { msrs } = new Machine({ memory: 4096 });
    const values = msrs.read(["IA32_SYSENTER_CS", 0xc000_0082, 0x1234]);
    expect(values).toEqual({ IA32_SYSENTER_CS: 0n, 3221225602: 0n, 4660: undefined });
    expect(() => msrs.read(["IA32_NONE" as "IA32_PAT"])).toThrow('there is no MSR named "IA32_NONE"');
  });

  it("writes many", () => {
    const machine = new Machine({ memory: 4096 });
    machine.msrs.write({ IA32_LSTAR: 0xffff_8000_0000_0000n, IA32_STAR: 5, 320: 1 });
    expect(machine.readMsr(0xc000_0082)).toBe(0xffff_8000_0000_0000n);
    expect(machine.readMsr(0xc000_0081)).toBe(5n);
    expect(machine.readMsr(0x140)).toBe(1n);
  });

  it("writes all or nothing", () => {
    const machine = new Machine({ memory: 4096 });
    const before = machine.msrs.read();
    const bits = machine.registers.read();
    const write = () =>
      machine.msrs.write([
        ["IA32_EFER", 0x100],
        ["IA32_FS_BASE", 0x1000],
        ["IA32_TIME_STAMP_COUNTER", 77],
        [0x140, 2],
      ]);
    expect(write).toThrow(MsrError);
    expect(write).toThrow("WRMSR of 0x2 to 0x140 raises #GP(0)");
    expect(machine.msrs.read()).toEqual(before);
    expect(machine.registers.read()).toEqual(bits);
    try {
      machine.msrs.write({ IA32_LSTAR: 1n << 62n });
    } catch (error) {
      expect(error).toMatchObject({ msr: "IA32_LSTAR", index: 0xc000_0082, value: 1n << 62n });
    }
    expect.assertions(5);
  });

  it("is checked before anything is written", () => {
    const { msrs } = new Machine({ memory: 4096 });
    expect(() => msrs.write({ IA32_LSTAR: 8, IA32_CSTAR: -1 })).toThrow("IA32_CSTAR");
    expect(() => msrs.write({ IA32_LSTAR: 8, NO_MSR: 1 } as never)).toThrow("NO_MSR");
    expect(msrs.read(["IA32_LSTAR"])).toEqual({ IA32_LSTAR: 0n });
  });

  it("leaves a machine that goes on as before after a refused write", () => {
    // l: inc eax; jmp l
    const run = (refused: boolean) => {
      const machine = new Machine({ memory: 4 << 20, jit: 10 });
      machine.writeMemory(0x1000, Uint8Array.of(0x40, 0xeb, 0xfd));
      machine.registers.write({
        cr0: 0x11,
        cs: { selector: 8, base: 0n, limit: 0xffff_ffff, attributes: 0xc9b },
        rip: 0x1000,
      });
      machine.run({ maxInstructions: 1001 });
      if (refused) expect(() => machine.msrs.write({ IA32_STAR: 1, 4660: 0 })).toThrow(MsrError);
      machine.run({ maxInstructions: 1000 });
      return { ...machine.registers.read(), count: machine.instructionCount };
    };
    expect(run(true)).toEqual(run(false));
  });
});
