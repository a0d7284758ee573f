// Faults of VMX instructions in root operation and outside VMX operation. @sdm 3C "VMX Instruction Reference"
// VM exits and failures: test/vmx/instructions.test.ts and test/vmx/priority.test.ts.
import { type Code, type Condition, CPL3, EVERYWHERE, GP, type Instruction, named, UD } from "../condition.ts";
import { OPERAND, type Place } from "../place.ts";

const FEATURE_CONTROL = 0x3a;
const LOCKED_AND_ENABLED = 5;
const VMX_BASIC = 0x480;
const VMXE = 0x2000;
const NE = 0x20n;
const SETUP = 0x9_0000;
const VMXON_REGION = 0x9_8000;
const VMCS = 0x9_9000;
const POINTERS = 0x9_7000;
const RIP_FIELD = 0x681e;
const ALL_CONTEXTS = 2;

/** Root operation is possible with paging and protection only. */
const ROOT = ["protected 0", "64-bit 0"] as const;
const ABOVE_0 = ["protected 3", "64-bit 3"] as const;
const NOT_THERE = ["vm86", "compatibility"] as const;

/** What VMXON wants of CR0, CR4 and the regions. */
function ready(p: Place): void {
  p.paging();
  p.tainted = true;
  p.set({ cr0: p.registers.cr0 | NE });
  p.cr4(VMXE);
  const revision = Number(p.world.machine.readMsr(VMX_BASIC)! & 0x7fffffffn);
  p.put(VMXON_REGION, 4, revision);
  p.put(VMCS, 4, revision);
  p.put(POINTERS, 8, VMXON_REGION, VMCS);
}

const control = (p: Place): void => {
  if (p.world.machine.readMsr(FEATURE_CONTROL) !== BigInt(LOCKED_AND_ENABLED))
    p.msr(FEATURE_CONTROL, LOCKED_AND_ENABLED);
};

/** Goes into root operation by VMXON and VMPTRLD at CPL 0, and back to where it was. */
function root(p: Place): void {
  if (p.mode === "real") return;
  ready(p);
  control(p);
  const before = p.registers.read();
  const long = p.world.long;
  const flat = (attributes: number) => ({ selector: 8, base: 0n, limit: 0xffffffff, attributes });
  p.set({ rflags: 2, cs: flat(long ? 0xa09b : 0xc09b), ss: flat(0xc093), ds: flat(0xc093), rsi: POINTERS, rip: SETUP });
  // vmxon [rsi]; vmptrld [rsi + 8]; then nothing
  p.world.write(SETUP, 0xf3, 0x0f, 0xc7, 0x36, 0x0f, 0xc7, 0x76, 8, 0xeb, 0xfe);
  p.world.machine.run({ maxInstructions: 4 });
  if (Number(p.registers.rip) !== SETUP + 8) throw new Error(`VMXON stopped at ${p.registers.rip.toString(16)}`);
  p.set(before);
}

const outside: Condition = { what: "outside VMX operation", where: EVERYWHERE, vector: UD, bare: true };
const wrongMode: Condition = { what: "virtual-8086 and compatibility mode", where: NOT_THERE, vector: UD };
const privileged: Condition = { what: "CPL above 0", where: ABOVE_0, vector: GP };
const base: readonly Condition[] = [outside, wrongMode, privileged];

function bare(name: string, modrm: number): Instruction {
  return {
    name,
    rows: named(name),
    completes: ROOT,
    set: root,
    code: () => [0x0f, 0x01, modrm],
    conditions: base,
  };
}

function operand(
  name: string,
  code: Code,
  memory: Instruction["memory"],
  more: readonly Condition[],
  set?: (p: Place) => void,
): Instruction {
  return {
    name,
    rows: named(name),
    completes: ROOT,
    set: (p) => {
      root(p);
      set?.(p);
    },
    code,
    ...(memory ? { memory } : {}),
    conditions: [...base, ...more],
  };
}

const register = (code: readonly number[]): Condition => ({ what: "register operand", vector: UD, code: () => code });
const region = (p: Place): void => p.put(OPERAND, 8, VMCS);
const type = (p: Place): void => {
  p.set({ rax: ALL_CONTEXTS });
  p.put(OPERAND, 8, 0, 0);
};

const vmxonCode: Code = (p, at) => [0xf3, 0x0f, 0xc7, ...at(p, 6)];
const notVmxe: Condition = { what: "CR4.VMXE clear", vector: UD, set: (p) => p.cr4(0, VMXE) };
const vmxon: readonly Instruction[] = [
  {
    name: "vmxon",
    rows: named("vmxon"),
    completes: ROOT,
    set: (p) => {
      if (p.mode === "real") return;
      ready(p);
      control(p);
      p.put(OPERAND, 8, VMXON_REGION);
    },
    code: vmxonCode,
    memory: { bytes: 8 },
    conditions: [
      notVmxe,
      { what: "real-address, virtual-8086 and compatibility mode", where: ["real", ...NOT_THERE], vector: UD },
      privileged,
      { what: "CR0.NE clear", where: ROOT, vector: GP, set: (p) => p.set({ cr0: p.registers.cr0 & ~NE }) },
    ],
  },
  {
    name: "vmxon without IA32_FEATURE_CONTROL",
    rows: named("vmxon"),
    completes: [],
    set: ready,
    code: vmxonCode,
    conditions: [{ what: "not locked", where: ROOT, vector: GP }],
  },
];

export const vmx: readonly Instruction[] = [
  ...vmxon,
  bare("vmcall", 0xc1),
  bare("vmlaunch", 0xc2),
  bare("vmresume", 0xc3),
  bare("vmxoff", 0xc4),
  {
    name: "vmfunc",
    rows: named("vmfunc"),
    completes: [],
    set: root,
    code: () => [0x0f, 0x01, 0xd4],
    conditions: [outside, { what: "in root operation", where: [...ROOT, ...CPL3], vector: UD }],
  },
  operand("vmclear", (p, at) => [0x66, 0x0f, 0xc7, ...at(p, 6)], { bytes: 8 }, [], region),
  operand("vmptrld", (p, at) => [0x0f, 0xc7, ...at(p, 6)], { bytes: 8 }, [], region),
  operand("vmptrst", (p, at) => [0x0f, 0xc7, ...at(p, 7)], { bytes: 8, write: true }, []),
  operand(
    "vmread",
    (p, at) => [0x0f, 0x78, ...at(p, 1)],
    { bytes: 4, write: true },
    [],
    (p) => p.set({ rcx: RIP_FIELD }),
  ),
  operand(
    "vmwrite",
    (p, at) => [0x0f, 0x79, ...at(p, 1)],
    { bytes: 4 },
    [],
    (p) => p.set({ rcx: RIP_FIELD }),
  ),
  operand(
    "invept",
    (p, at) => [0x66, 0x0f, 0x38, 0x80, ...at(p, 0)],
    { bytes: 16 },
    [register([0x66, 0x0f, 0x38, 0x80, 0xc0])],
    type,
  ),
  operand(
    "invvpid",
    (p, at) => [0x66, 0x0f, 0x38, 0x81, ...at(p, 0)],
    { bytes: 16 },
    [register([0x66, 0x0f, 0x38, 0x81, 0xc0])],
    type,
  ),
];
