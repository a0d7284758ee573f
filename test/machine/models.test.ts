import { describe, expect, it } from "vitest";
import {
  CPU_FEATURES,
  type CpuFeature,
  type CpuModel,
  genericModel,
  minimalModel,
  nehalemModel,
  skylakeModel,
} from "../../src/index.ts";
import type { FeatureRegister } from "../../src/machine/cpuFeatures.ts";
import { DATA, World } from "../system/world.ts";

/** Bits that say no more than that something is fast or harmless. */
const HINTS: readonly CpuFeature[] = ["erms", "prefetchw"];

/** An instruction each: #UD without the feature. `esi` points to data, `ecx` is as given. */
const INSTRUCTIONS: Partial<Record<CpuFeature, readonly [code: number[], ecx?: number]>> = {
  tsc: [[0x0f, 0x31]],
  msr: [[0x0f, 0x32], 0x8b],
  cx8: [[0x0f, 0xc7, 0x0e]],
  cmov: [[0x0f, 0x44, 0xc1]],
  clfsh: [[0x0f, 0xae, 0x3e]],
  monitor: [[0x0f, 0x01, 0xc8]],
  movbe: [[0x0f, 0x38, 0xf0, 0x06]],
  popcnt: [[0xf3, 0x0f, 0xb8, 0xc1]],
  rdrand: [[0x0f, 0xc7, 0xf0]],
  bmi1: [[0xc4, 0xe2, 0x78, 0xf2, 0xc1]],
  bmi2: [[0xc4, 0xe2, 0x78, 0xf5, 0xc1]],
  invpcid: [[0x66, 0x0f, 0x38, 0x82, 0x06]],
  rdseed: [[0x0f, 0xc7, 0xf8]],
  adx: [[0x66, 0x0f, 0x38, 0xf6, 0xc1]],
  clflushopt: [[0x66, 0x0f, 0xae, 0x3e]],
  clwb: [[0x66, 0x0f, 0xae, 0x36]],
  rdpid: [[0xf3, 0x0f, 0xc7, 0xf8]],
  rdtscp: [[0x0f, 0x01, 0xf9]],
  sep: [[0x0f, 0x34]],
};
const INSTRUCTIONS_64: Partial<Record<CpuFeature, number[]>> = {
  cx16: [0x48, 0x0f, 0xc7, 0x0e],
  lahf64: [0x9f],
};
/** Bits of CR4 and of EFER, and MSRs: #GP(0) without the feature. */
const CR4: Partial<Record<CpuFeature, number>> = {
  vme: 0,
  de: 3,
  pse: 4,
  pae: 5,
  mce: 6,
  pge: 7,
  umip: 11,
  vmx: 13,
  fsgsbase: 16,
  xsave: 18,
  smep: 20,
  smap: 21,
};
const EFER: Partial<Record<CpuFeature, number>> = { syscall: 0, lm: 8, nx: 11 };
const MSRS: Partial<Record<CpuFeature, number>> = {
  mtrr: 0xfe,
  mca: 0x179,
  pat: 0x277,
  tscAdjust: 0x3b,
  xsaves: 0xda0,
  hdc: 0xdb1,
};
/** #UD without the feature, or #GP(0), once CR4.OSXSAVE is set: with XSAVE only. */
const XSAVE: Partial<Record<CpuFeature, readonly [code: number[], ecx: number, without: number]>> = {
  xsaveopt: [[0x0f, 0xae, 0x36], 0, 6],
  xsavec: [[0x0f, 0xc7, 0x26], 0, 6],
  xsaves: [[0x0f, 0xc7, 0x2e], 0, 6],
  xgetbv1: [[0x0f, 0x01, 0xd0], 1, 13],
};
/** Legal in IA-32e mode only: CR4 bit. */
const CR4_64: Partial<Record<CpuFeature, number>> = { pcid: 17 };

const MODELS: readonly CpuModel[] = [
  genericModel(),
  genericModel({ vmx: true }),
  minimalModel(),
  nehalemModel(),
  skylakeModel({ vmx: true }),
];

function advertised(model: CpuModel, name: CpuFeature): boolean {
  const [leaf, register, bit, subleaf = 0]: readonly [number, FeatureRegister, number, number?] = CPU_FEATURES[name];
  const row = model.cpuid.find((r) => r.leaf === leaf && (r.subleaf ?? 0) === subleaf);
  return row !== undefined && ((row[register] >>> bit) & 1) === 1;
}

/** The model without these features. */
function lacking(model: CpuModel, absent: readonly CpuFeature[]): CpuModel {
  const cpuid = model.cpuid.map((row) => {
    const bits = { ...row };
    for (const name of absent) {
      const [leaf, register, bit, subleaf = 0]: readonly [number, FeatureRegister, number, number?] =
        CPU_FEATURES[name];
      if (row.leaf === leaf && (row.subleaf ?? 0) === subleaf) bits[register] &= ~(1 << bit);
    }
    return bits;
  });
  return { ...model, cpuid };
}

function vector(world: World, code: number[], registers: Record<string, bigint> = {}): number | "none" {
  world.machine.registers.write({ rsi: BigInt(DATA), ...registers });
  return world.run(code).vector;
}

const names = Object.keys(CPU_FEATURES) as CpuFeature[];

describe.each(MODELS.map((m) => [m.name + (advertised(m, "vmx") ? " with VMX" : ""), m] as const))(
  "%s",
  (_n, model) => {
    const long = advertised(model, "lm");

    it.each(names.filter((n) => n in INSTRUCTIONS))("%s: its instruction is #UD exactly without it", (name) => {
      const [code, ecx = 0] = INSTRUCTIONS[name]!;
      const got = vector(new World("protected", 0, model), code, { rcx: BigInt(ecx) });
      expect(got === 6).toBe(!advertised(model, name));
    });

    it.runIf(long).each(names.filter((n) => n in INSTRUCTIONS_64))("%s: in 64-bit mode likewise", (name) => {
      const got = vector(new World("long", 0, model), INSTRUCTIONS_64[name]!);
      expect(got).toBe(advertised(model, name) ? "none" : 6);
    });

    it.each(names.filter((n) => n in CR4))("%s: its CR4 bit can be set exactly with it", (name) => {
      const got = vector(new World("protected", 0, model), [0x0f, 0x22, 0xe0], { rax: 1n << BigInt(CR4[name]!) });
      expect(got).toBe(advertised(model, name) ? "none" : 13);
    });

    it.runIf(long).each(names.filter((n) => n in CR4_64))("%s: its CR4 bit in IA-32e mode likewise", (name) => {
      const rax = (1n << BigInt(CR4_64[name]!)) | 0x20n;
      const got = vector(new World("long", 0, model), [0x0f, 0x22, 0xe0], { rax });
      expect(got).toBe(advertised(model, name) ? "none" : 13);
    });

    it.each(names.filter((n) => n in EFER))("%s: its EFER bit can be set exactly with it", (name) => {
      const registers = { rcx: 0xc0000080n, rax: 1n << BigInt(EFER[name]!), rdx: 0n };
      const got = vector(new World("protected", 0, model), [0x0f, 0x30], registers);
      expect(got).toBe(advertised(model, name) ? "none" : 13);
    });

    it.each(names.filter((n) => n in MSRS))("%s: its MSR exists exactly with it", (name) => {
      const got = vector(new World("protected", 0, model), [0x0f, 0x32], { rcx: BigInt(MSRS[name]!) });
      expect(got).toBe(advertised(model, name) ? "none" : 13);
    });

    it.each(names.filter((n) => n in XSAVE))("%s: what belongs to it faults exactly without it", (name) => {
      const [code, ecx, without] = XSAVE[name]!;
      for (const absent of [[], [name]]) {
        const world = new World("protected", 0, lacking(skylakeModel({ vmx: true }), absent));
        world.machine.registers.cr4 = 0x40000n;
        expect(vector(world, code, { rcx: BigInt(ecx) })).toBe(absent.length ? without : "none");
      }
    });

    it("has no state in leaf 0DH but what is built", () => {
      const rows = model.cpuid.filter((r) => r.leaf === 0xd);
      expect(rows.length).toBe(advertised(model, "xsave") ? 3 : 0);
      for (const { subleaf, eax, ecx, edx } of rows) {
        expect(edx).toBe(0);
        if (subleaf === 0) expect([eax, ecx]).toEqual([1, 576]);
        if (subleaf === 1) expect([eax, ecx]).toEqual([0xf, 0x2000]);
        // HDC state: 8 bytes, a supervisor state, not aligned
        if (subleaf === 13) expect([eax, ecx]).toEqual([8, 1]);
      }
    });

    it("advertises no bit that nothing here ties to what is built", () => {
      const tied = new Set(
        [INSTRUCTIONS, INSTRUCTIONS_64, CR4, CR4_64, EFER, MSRS, XSAVE].flatMap((t) => Object.keys(t)),
      );
      for (const name of [...HINTS, "lzcnt", "noX87Selectors"]) tied.add(name);
      for (const { leaf, ...row } of model.cpuid) {
        const registers = ({ 1: ["ecx", "edx"], 6: ["eax"] } as Record<number, FeatureRegister[]>)[leaf];
        if (!registers && leaf !== 7 && leaf !== 0x80000001) continue;
        for (const register of registers ?? (["ebx", "ecx", "edx"] as const)) {
          for (let bit = 0; bit < 32; bit++) {
            if (!((row[register] >>> bit) & 1)) continue;
            const name = names.find((n) => String(CPU_FEATURES[n]) === String([leaf, register, bit]));
            expect(name, `leaf ${leaf.toString(16)} ${register} bit ${bit}`).toBeDefined();
            expect(tied).toContain(name);
          }
        }
      }
    });

    it.each([
      ["CRC32 (SSE4.2)", [0xf2, 0x0f, 0x38, 0xf1, 0xc1]],
      ["MOVNTI (SSE2)", [0x0f, 0xc3, 0x0e]],
      ["XGETBV (XSAVE) before CR4.OSXSAVE is set", [0x0f, 0x01, 0xd0]],
      ["FXSAVE", [0x0f, 0xae, 0x06]],
      ["PADDB (MMX)", [0x0f, 0xfc, 0xc1]],
      ["ADDPS (SSE)", [0x0f, 0x58, 0xc1]],
      ["EMMS", [0x0f, 0x77]],
      ["VMFUNC", [0x0f, 0x01, 0xd4]],
      ["GETSEC", [0x0f, 0x37]],
      ["x87 FADD", [0xd8, 0xc1]],
    ])("has no %s", (_name, code) => {
      expect(vector(new World("protected", 0, model), code)).toBe(6);
    });

    it.each([
      ["EM", 0x15],
      ["TS", 0x19],
    ])("gives #NM for x87 instructions under CR0.%s", (_name, cr0) => {
      const world = new World("protected", 0, model);
      world.machine.registers.cr0 = BigInt(cr0);
      expect(vector(world, [0xd9, 0xc0])).toBe(7);
    });

    it("has TZCNT and LZCNT, or BSF and BSR in their place", () => {
      for (const [name, opcode, with_, without] of [
        ["bmi1", 0xbc, 4n, 4n],
        ["lzcnt", 0xbd, 25n, 6n],
      ] as const) {
        const world = new World("protected", 0, model);
        world.machine.registers.write({ rcx: 0x50n });
        world.run([0xf3, 0x0f, opcode, 0xc1]);
        expect(world.machine.registers.rax).toBe(advertised(model, name) ? with_ : without);
      }
    });
  },
);

describe("CPUID faulting", () => {
  it("is part of the Skylake-like and the default model, of the others not", () => {
    expect(MODELS.map((m) => (m.platformInfo >> 31n) & 1n)).toEqual([1n, 1n, 0n, 0n, 1n]);
  });
});
