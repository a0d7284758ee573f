// @sdm 2B "SYSCALL", "SYSENTER", "SYSEXIT", "SYSRET"
import { SEL, STACK3 } from "../../system/world.ts";
import { type Condition, CPL3, GP, type Instruction, NOT_CANONICAL, named, UD } from "../condition.ts";
import type { Place } from "../place.ts";

const SYSENTER_CS = 0x174;
const SYSENTER_ESP = 0x175;
const SYSENTER_EIP = 0x176;
const STAR = 0xc000_0081;
const LSTAR = 0xc000_0082;
const SCE = 1n;
const STACK = 0x6_8000;

const sce: Condition = {
  what: "EFER.SCE clear",
  where: ["64-bit"],
  vector: UD,
  set: (p) => p.set({ efer: p.registers.efer & ~SCE }),
};
const only64: Condition = {
  what: "outside 64-bit mode",
  where: ["real", "vm86", "protected", "compatibility"],
  vector: UD,
};
const real: Condition = { what: "real-address mode", where: ["real"], vector: GP };
const noSegment = (where: Condition["where"]): Condition => ({
  what: "IA32_SYSENTER_CS is 0",
  where,
  vector: GP,
  set: (p) => p.msr(SYSENTER_CS, 0),
});

/** IA32_SYSENTER_CS; the target loops. */
function sysenter(p: Place): void {
  p.msr(SYSENTER_CS, SEL.code32);
  p.msr(SYSENTER_ESP, STACK);
  p.msr(SYSENTER_EIP, p.loop());
}

function syscall(p: Place): void {
  p.set({ efer: p.registers.efer | SCE, rcx: p.loop() });
  p.msr(STAR, BigInt(SEL.code64) << 32n);
  p.msr(LSTAR, p.loop());
}

const wide = (name: string, code: readonly number[], registers: readonly ("rcx" | "rdx")[]): Condition[] =>
  registers.map((register) => ({
    what: `${name} with REX.W, ${register} not canonical`,
    where: ["64-bit 0"],
    vector: GP,
    code: () => [0x48, ...code],
    set: (p) => p.set({ [register]: NOT_CANONICAL }),
  }));

export const fast: readonly Instruction[] = [
  {
    name: "sysenter",
    rows: named("sysenter"),
    completes: ["vm86", "protected", "compatibility", "64-bit"],
    set: sysenter,
    code: () => [0x0f, 0x34],
    conditions: [real, noSegment(["vm86", "protected", "compatibility", "64-bit"])],
  },
  {
    name: "sysexit",
    rows: named("sysexit"),
    completes: ["protected 0", "compatibility 0", "64-bit 0"],
    set: (p) => {
      p.msr(SYSENTER_CS, SEL.code32);
      p.set({ rdx: p.loop(), rcx: STACK3 });
    },
    code: () => [0x0f, 0x35],
    conditions: [
      real,
      noSegment(["protected 0", "compatibility 0", "64-bit 0"]),
      { what: "CPL above 0", where: CPL3, vector: GP },
      ...wide("SYSEXIT", [0x0f, 0x35], ["rcx", "rdx"]),
    ],
  },
  {
    name: "syscall",
    rows: named("syscall"),
    completes: ["64-bit"],
    set: syscall,
    code: () => [0x0f, 0x05],
    conditions: [sce, only64],
  },
  {
    name: "sysret",
    rows: named("sysret"),
    completes: ["64-bit 0"],
    set: syscall,
    code: () => [0x0f, 0x07],
    conditions: [
      sce,
      only64,
      { what: "CPL above 0", where: ["64-bit 3"], vector: GP },
      ...wide("SYSRET", [0x0f, 0x07], ["rcx"]),
    ],
  },
];
