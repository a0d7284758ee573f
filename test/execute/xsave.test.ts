// The XSAVE feature set: x87 state as a real processor saves and restores it (fixtures/native/xsave.json, scripts/native/xsave.c),
// HDC state and CPUID as the manual has them: SDM 1 "Managing State Using the XSAVE Feature Set", 3B "Hardware Duty Cycling".
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import { MSR_XSS, STATE_END, X87, XCR0 } from "../../assembly/abi/state.ts";
import { Core } from "../../src/core/index.ts";
import { skylakeModel } from "../../src/index.ts";
import { TABLES, World } from "../system/world.ts";

interface Recorded {
  readonly op: "xsave" | "xsaveopt" | "xsavec" | "xrstor";
  readonly wide: 0 | 1;
  readonly eax: number;
  readonly edx: number;
  /** Distance of the operand from the area. */
  readonly off?: number;
  /** Bytes of the area in the first of two pages; what each page allows: 0 nothing, 1 reads, 3 all. */
  readonly pages?: readonly [number, number, number];
  readonly state?: string;
  readonly area?: string;
  readonly header: string;
  readonly fault?: "GP" | "PF";
  readonly at?: number;
  readonly used?: 0 | 1;
  readonly after?: string;
  readonly headerAfter?: string;
}
const recorded: readonly Recorded[] = JSON.parse(
  readFileSync(new URL("../../fixtures/native/xsave.json", import.meta.url), "utf8"),
);

const OSXSAVE = 0x40000;
const CODES: Record<string, readonly [opcode: number, digit: number]> = {
  xsave: [0xae, 4],
  xrstor: [0xae, 5],
  xsaveopt: [0xae, 6],
  xrstors: [0xc7, 3],
  xsavec: [0xc7, 4],
  xsaves: [0xc7, 5],
};
const XGETBV = [0x0f, 0x01, 0xd0];
const PAGE = 0x201000;
const SCRATCH = 0x204000;
const UNUSED = 0xcc;
const GP = 13;
const PF = 14;

/** XSAVE and the like of [rsi]; wide: with REX.W. */
function encode(name: string, wide: 0 | 1 = 0): number[] {
  const [opcode, digit] = CODES[name]!;
  return [...(wide ? [0x48] : []), 0x0f, opcode, 0x06 | (digit << 3)];
}
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

class Processor extends World {
  constructor(level: 0 | 3) {
    super("long", level, skylakeModel({ vmx: true }));
    this.machine.registers.cr4 = BigInt(0x20 | OSXSAVE);
    // the second 2 MiB in pages of 4 KiB
    this.write64(TABLES + 0x2008, BigInt(TABLES + 0x3000) | 7n);
    for (let i = 0; i < 16; i++) this.allow(0x200000 + i * 4096, 3);
  }
  allow(page: number, rights: number): void {
    const entry = BigInt(page) | (rights === 0 ? 0n : rights === 1 ? 5n : 7n);
    this.write64(TABLES + 0x3000 + ((page - 0x200000) >> 12) * 8, entry);
  }
  put(at: number, bytes: string | Uint8Array): void {
    this.machine.writeMemory(at, typeof bytes === "string" ? Buffer.from(bytes, "hex") : bytes);
  }
  /** Runs it at CPL 3 or 0, wherever the last one ended. */
  go(code: number[], rsi: number, eax: number, edx = 0, ecx = 0): number | "none" {
    const { registers } = this.machine;
    registers.write({ ...this.#start, rsi, rax: eax, rdx: edx, rcx: ecx, cr4: registers.cr4, cr0: registers.cr0 });
    return this.run(code).vector;
  }
  readonly #start = this.machine.registers.read();
  /** x87 state, by XRSTOR64. */
  load(image: string | undefined): void {
    this.put(SCRATCH, new Uint8Array(576));
    if (image) this.put(SCRATCH, image);
    this.put(SCRATCH + 512, Uint8Array.of(image ? 1 : 0));
    expect(this.go(encode("xrstor", 1), SCRATCH, 1)).toBe("none");
  }
  image(wide: 0 | 1 = 1): string {
    this.put(SCRATCH, new Uint8Array(576));
    expect(this.go(encode("xsave", wide), SCRATCH, 1)).toBe("none");
    return hex(this.machine.readMemory(SCRATCH, 160));
  }
  inUse(): number {
    expect(this.go(XGETBV, 0, 0, 0, 1)).toBe("none");
    return Number(this.machine.registers.rax);
  }
}

describe("x87 state as a real processor has it", () => {
  const p = new Processor(3);
  const title = (r: Recorded, i: number): string =>
    `${i} ${r.op}${r.wide ? "64" : ""} ${r.pages ? `pages ${r.pages}` : r.off ? `off ${r.off}` : r.eax.toString(16)}`;
  it.each(recorded.map((r, i) => [title(r, i), r] as const))("%s", (_title, r) => {
    const saves = r.op !== "xrstor";
    const [inFirst, ...rights] = r.pages ?? [2048, 3, 3];
    const area = PAGE + 4096 - inFirst;
    p.put(PAGE, new Uint8Array(8192));
    p.put(area, r.area ?? "");
    if (saves && !r.area) p.put(area, new Uint8Array(160).fill(UNUSED));
    p.put(area + 512, r.header);
    p.load(r.state);
    rights.forEach((right, i) => {
      p.allow(PAGE + 4096 * i, right);
    });
    const state = p.inUse();
    const vector = p.go(encode(r.op, r.wide), area + (r.off ?? 0), r.eax, r.edx);
    const { cr2 } = p.machine.registers;
    p.allow(PAGE, 3);
    p.allow(PAGE + 4096, 3);
    expect(vector).toBe(r.fault ? { GP, PF }[r.fault] : "none");
    // that processor names the last byte of the header where this one names the first
    if (r.fault === "PF") expect((Number(cr2) - area) & ~63).toBe(r.at! & ~63);
    if (r.fault) {
      expect(p.inUse()).toBe(state);
      expect(hex(p.machine.readMemory(area + 512, 64))).toBe(r.header);
      return;
    }
    if (saves) {
      if (r.area) expect(hex(p.machine.readMemory(area, 160))).toBe(r.after);
      expect(hex(p.machine.readMemory(area + 512, 64))).toBe(r.headerAfter);
    }
    expect(p.inUse()).toBe(r.used);
    if (!saves) expect(p.image()).toBe(r.after);
  });
});

describe("XSAVE", () => {
  let p: Processor;
  const AREA = 0x202000;
  const word = (at: number): bigint => new DataView(p.machine.readMemory(AREA + at, 8).buffer).getBigUint64(0, true);
  const put = (at: number, value: bigint): void => p.write64(AREA + at, value);
  const cpuid = (leaf: number, subleaf = 0): number[] => {
    expect(p.go([0x0f, 0xa2], 0, leaf, 0, subleaf)).toBe("none");
    const { rax, rbx, rcx, rdx } = p.machine.registers;
    return [rax, rbx, rcx, rdx].map(Number);
  };
  const wrmsr = (index: number, value: number): number | "none" => p.go([0x0f, 0x30], 0, value, 0, index);
  const HDC = 0x2000;
  const COMPACTED = 1n << 63n;
  const [XSS, PKG_HDC_CTL, PM_CTL1, THREAD_STALL] = [0xda0, 0xdb0, 0xdb1, 0xdb2];
  beforeEach(() => {
    p = new Processor(0);
    p.put(AREA, new Uint8Array(4096));
  });

  // SDM 3A table 9-1: FCW 0040H, FTW 5555H (no register is empty), the rest 0; INIT changes nothing
  it("has x87 state of RESET, which is not the initial one", () => {
    expect(p.inUse()).toBe(1);
    expect(p.image()).toBe(`40000000ff${"00".repeat(155)}`);
  });

  it("INIT changes neither XCR0, IA32_XSS nor a state", () => {
    const core = new Core(8);
    core.exports.reset(0);
    const words = Array.from({ length: (STATE_END - X87) / 8 }, (_, i) => X87 + 8 * i);
    for (const at of [XCR0, MSR_XSS, ...words]) core.write64(at, BigInt(at));
    core.exports.reset(1);
    for (const at of [XCR0, MSR_XSS, ...words]) expect(core.read64(at)).toBe(BigInt(at));
  });

  // SDM 2A "CPUID" leaf 0DH, SDM 1 "Enumeration of CPU Support for XSAVE Instructions and XSAVE-Supported Features"
  it("is enumerated by CPUID, sizes by what is enabled", () => {
    expect(cpuid(0xd)).toEqual([1, 576, 576, 0]);
    expect(cpuid(0xd, 1)).toEqual([0xf, 576, HDC, 0]);
    expect(cpuid(0xd, 13)).toEqual([8, 0, 1, 0]);
    expect(cpuid(0xd, 2)).toEqual([0, 0, 0, 0]);
    expect(cpuid(6)[0]! & HDC).toBe(HDC);
    // twice, so that an answer that was kept shows
    for (const enabled of [0, HDC, 0]) {
      expect(wrmsr(XSS, enabled)).toBe("none");
      for (let i = 0; i < 2; i++) expect(cpuid(0xd, 1)[1]).toBe(enabled ? 584 : 576);
    }
    for (const on of [1, 0, 1]) {
      p.machine.registers.cr4 = BigInt(0x20 | (on ? OSXSAVE : 0));
      for (let i = 0; i < 2; i++) expect((cpuid(1)[2]! >>> 27) & 1).toBe(on);
    }
  });

  it("CPUID answers follow MOV CR4 of the guest itself", () => {
    // cpuid; mov r9d, ecx; mov rax, cr4; xor eax, 40000h; mov cr4, rax; mov eax, 1; cpuid, three times
    const step = [0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x44, 0x8b, 0xc9];
    const flip = [0x0f, 0x20, 0xe0, 0x35, 0, 0, 4, 0, 0x0f, 0x22, 0xe0];
    for (let i = 0; i < 4; i++) {
      p.go([...step, ...flip, ...step, 0x45, 0x8b, 0xd1, ...flip, ...step], 0, 0);
      const { registers } = p.machine;
      p.machine.run({ maxInstructions: 15 });
      expect([(registers.r10 >> 27n) & 1n, (registers.r9 >> 27n) & 1n]).toEqual([0n, 1n]);
    }
  });

  it.each([
    ["IA32_XSS", XSS, [0, HDC], [1, 0x100, 0x4000]],
    ["IA32_PM_CTL1", PM_CTL1, [1, 0], [2, 3]],
    ["IA32_PKG_HDC_CTL", PKG_HDC_CTL, [0, 1], [2]],
  ] as const)("%s takes the bits it has", (_name, index, good, bad) => {
    expect(p.machine.readMsr(index)).toBe(BigInt(good[0]));
    for (const value of [...good].reverse()) {
      expect(wrmsr(index, value)).toBe("none");
      expect(p.go([0x0f, 0x32], 0, 0, 0, index)).toBe("none");
      expect(p.machine.registers.rax).toBe(BigInt(value));
    }
    for (const value of bad) expect(wrmsr(index, value)).toBe(GP);
    expect(p.go([0x0f, 0x30], 0, good[0], 1, index)).toBe(GP);
    expect(p.machine.readMsr(index)).toBe(BigInt(good[0]));
  });

  it("IA32_THREAD_STALL is read-only and counts nothing: no cycle is forced to be idle", () => {
    expect(p.machine.readMsr(THREAD_STALL)).toBe(0n);
    expect(wrmsr(THREAD_STALL, 0)).toBe(GP);
  });

  it("XGETBV gives XCR0, and what of it is in use", () => {
    expect(p.go(XGETBV, 0, 0)).toBe("none");
    expect([p.machine.registers.rax, p.machine.registers.rdx]).toEqual([1n, 0n]);
    p.load(undefined);
    expect(p.inUse()).toBe(0);
    // HDC state belongs to IA32_XSS
    expect(wrmsr(XSS, HDC)).toBe("none");
    expect(wrmsr(PM_CTL1, 0)).toBe("none");
    expect(p.inUse()).toBe(0);
  });

  describe("HDC state", () => {
    beforeEach(() => {
      p.load(undefined);
      expect(wrmsr(XSS, HDC)).toBe("none");
    });
    const both = HDC | 1;

    it("is in its initial configuration when IA32_PM_CTL1 is 1: XSAVES leaves it out", () => {
      put(576, 0x55n);
      expect(p.go(encode("xsaves"), AREA, both)).toBe("none");
      expect([word(512), word(520), word(576)]).toEqual([0n, COMPACTED | BigInt(both), 0x55n]);
    });

    it("goes behind the header, and XRSTORS brings it back", () => {
      wrmsr(PM_CTL1, 0);
      put(576, 0x55n);
      put(584, 0x66n);
      expect(p.go(encode("xsaves"), AREA, both)).toBe("none");
      expect([word(512), word(520)]).toEqual([BigInt(HDC), COMPACTED | BigInt(both)]);
      expect([word(576), word(584)]).toEqual([0n, 0x66n]);
      wrmsr(PM_CTL1, 1);
      expect(p.go(encode("xrstors"), AREA, both)).toBe("none");
      expect(p.machine.readMsr(PM_CTL1)).toBe(0n);
      put(576, 1n);
      expect(p.go(encode("xrstors"), AREA, both)).toBe("none");
      expect(p.machine.readMsr(PM_CTL1)).toBe(1n);
    });

    it("is initialized by XRSTORS where XSTATE_BV has it clear, and left alone where it is not asked for", () => {
      wrmsr(PM_CTL1, 0);
      put(520, COMPACTED | BigInt(both));
      expect(p.go(encode("xrstors"), AREA, 1)).toBe("none");
      expect(p.machine.readMsr(PM_CTL1)).toBe(0n);
      expect(p.go(encode("xrstors"), AREA, both)).toBe("none");
      expect(p.machine.readMsr(PM_CTL1)).toBe(1n);
    });

    it("is not of XSAVE, XSAVEOPT, XSAVEC and XRSTOR", () => {
      wrmsr(PM_CTL1, 0);
      for (const name of ["xsave", "xsaveopt", "xsavec"]) {
        put(512, 0n);
        put(520, 0n);
        put(576, 0x55n);
        expect(p.go(encode(name), AREA, both)).toBe("none");
        expect([word(512), word(520), word(576)]).toEqual([0n, name === "xsavec" ? COMPACTED | 1n : 0n, 0x55n]);
      }
      put(520, 0n);
      expect(p.go(encode("xrstor"), AREA, both)).toBe("none");
      expect(p.machine.readMsr(PM_CTL1)).toBe(0n);
    });

    it("is not loaded when anything of the area cannot be: nothing changes", () => {
      wrmsr(PM_CTL1, 0);
      p.load(`7f02${"00".repeat(158)}`);
      const at = 0x203000 - 512;
      p.put(at, new Uint8Array(512));
      p.write64(at + 512, BigInt(both));
      p.write64(at + 520, COMPACTED | BigInt(both));
      p.write64(at + 576, 1n);
      p.allow(0x202000, 0);
      expect(p.go(encode("xrstors"), at, both)).toBe(PF);
      expect(p.machine.registers.cr2).toBe(BigInt(at));
      p.allow(0x202000, 3);
      p.write64(at + 576, 3n);
      expect(p.go(encode("xrstors"), at, both)).toBe(GP);
      expect(p.machine.readMsr(PM_CTL1)).toBe(0n);
      expect(p.image().slice(0, 4)).toBe("7f02");
    });

    it("leaves the area alone when XSAVES faults", () => {
      wrmsr(PM_CTL1, 0);
      const at = 0x203000 - 512;
      p.write64(at + 512, 0x77n);
      p.allow(0x202000, 0);
      expect(p.go(encode("xsaves"), at, both)).toBe(PF);
      expect(p.machine.readMemory(at + 512, 1)[0]).toBe(0x77);
    });
  });

  // SDM 1 "x87 State": CPUID.(EAX=07H,ECX=0):EBX[13] says that FCS and FDS are always 0
  it("saves FCS and FDS on processors that still have them, in the form without REX.W", () => {
    const model = skylakeModel();
    const cpuid = model.cpuid.map((row) => (row.leaf === 7 ? { ...row, ebx: row.ebx & ~(1 << 13) } : row));
    const bytes = "7f030000000000004433221123010000887766554b000000";
    for (const [cpu, selectors] of [
      [model, ["0000", "0000"]],
      [{ ...model, cpuid }, ["2301", "4b00"]],
    ] as const) {
      const world = new World("long", 0, cpu);
      const { machine } = world;
      const step = (name: string, wide: 0 | 1 = 0): string => {
        machine.registers.write({ rip: 0x100000, rsi: AREA, rax: 1, rdx: 0, cr4: 0x20 | OSXSAVE });
        expect(world.run(encode(name, wide)).vector).toBe("none");
        return hex(machine.readMemory(AREA, 24));
      };
      machine.writeMemory(AREA, Buffer.from(bytes, "hex"));
      machine.writeMemory(AREA + 512, Uint8Array.of(1));
      step("xrstor");
      const [fcs, fds] = selectors;
      expect(step("xsave")).toBe(`7f0300000000000044332211${fcs}000088776655${fds}0000`);
      expect(step("xsave", 1)).toBe("7f03000000000000443322110000000088776655".padEnd(48, "0"));
    }
  });

  it("a snapshot has XCR0, IA32_XSS and the states", () => {
    p.load(`7f02${"00".repeat(6)}${"12".repeat(5)}${"00".repeat(147)}`);
    wrmsr(XSS, HDC);
    wrmsr(PM_CTL1, 0);
    const image = p.image();
    const snapshot = p.machine.snapshot();
    p.load(undefined);
    wrmsr(XSS, 0);
    wrmsr(PM_CTL1, 1);
    p.machine.restore(snapshot);
    expect(cpuid(0xd, 1)[1]).toBe(584);
    expect(p.machine.readMsr(PM_CTL1)).toBe(0n);
    expect(p.image()).toBe(image);
  });
});
