// GDB's registers by name, from and to the registers of a processor.
import {
  CONTROL_NAMES,
  GPR_NAMES,
  type RegisterUpdate,
  type RegisterValues,
  SEGMENT_NAMES,
  type SegmentName,
} from "../machine/index.ts";
import { type GdbRegister, MSR_REGISTERS } from "./features.ts";
import type { GdbTarget } from "./target.ts";

const CR0_PE = 1n;
const RFLAGS_VM = 1n << 17n;
const CS_L = 1 << 13;
const TABLES = ["gdtr", "idtr"] as const;

type Mutable = { -readonly [K in keyof RegisterUpdate]: RegisterUpdate[K] };

/** eax is the lower half of rax. */
const gpr = (name: string) =>
  GPR_NAMES.find((full) => full === name || (name.startsWith("e") && full === `r${name.slice(1)}`));
const segmentOf = (name: string) => SEGMENT_NAMES.find((segment) => segment === name);
const tableOf = (name: string) => TABLES.find((table) => table === name);
const isPc = (name: string): boolean => name === "rip" || name === "eip";

const in64Bit = (values: RegisterValues): boolean =>
  (values.cs.attributes & CS_L) !== 0 && (values.efer & (1n << 10n)) !== 0n;

/** The linear address of the next instruction: GDB knows no segments. */
export function programCounter(values: RegisterValues): bigint {
  return in64Bit(values) ? values.rip : (values.cs.base + values.rip) & 0xffff_ffffn;
}

/** `cs_base` -> the segment and the part. */
function part(name: string): [register: string, part: string] {
  const [register = "", what = ""] = name.split("_");
  return [register, what];
}

function fromValues(values: RegisterValues, name: string): bigint | undefined {
  if (isPc(name)) return programCounter(values);
  if (name === "eflags") return values.rflags;
  const general = gpr(name);
  if (general !== undefined) return values[general];
  const control = CONTROL_NAMES.find((known) => known === name);
  if (control !== undefined) return values[control];
  const segment = segmentOf(name);
  if (segment !== undefined) return BigInt(values[segment].selector);
  if (name === "ldtr" || name === "tr") return BigInt(values[name].selector);
  const [register, what] = part(name);
  const table = tableOf(register);
  if (table !== undefined) return what === "base" ? values[table].base : BigInt(values[table].limit);
  const based = segmentOf(register);
  return based !== undefined && what === "base" ? values[based].base : undefined;
}

/** The value, undefined where the processor has no such register: GDB shows <unavailable>. */
export function readRegister(
  target: GdbTarget,
  thread: number,
  { name, bits }: GdbRegister,
  values: RegisterValues = target.readRegisters(thread),
): bigint | undefined {
  const msr = MSR_REGISTERS[name];
  const value = msr === undefined ? fromValues(values, name) : target.readMsr(thread, msr);
  return value === undefined ? undefined : BigInt.asUintN(bits, value);
}

/** In real and virtual-8086 mode a selector brings its base. @sdm 3A "Real-Address Mode Operation" */
function selector(values: RegisterValues, name: SegmentName, value: bigint): RegisterUpdate | undefined {
  const real = (values.cr0 & CR0_PE) === 0n || (values.rflags & RFLAGS_VM) !== 0n;
  const chosen = Number(value & 0xffffn);
  if (real) return { [name]: { selector: chosen, base: BigInt(chosen) << 4n } };
  // the hidden part would have to come from a descriptor table
  return chosen === values[name].selector ? {} : undefined;
}

function update(values: RegisterValues, name: string, value: bigint): RegisterUpdate | undefined {
  const change: Mutable = {};
  if (isPc(name)) return { rip: in64Bit(values) ? value : (value - values.cs.base) & 0xffff_ffffn };
  if (name === "eflags") return { rflags: value | 2n };
  const general = gpr(name);
  if (general !== undefined) {
    change[general] = value;
    return change;
  }
  const control = CONTROL_NAMES.find((known) => known === name);
  if (control !== undefined) {
    change[control] = value;
    return change;
  }
  const segment = segmentOf(name);
  if (segment === "ldtr" || segment === "tr") return value === BigInt(values[segment].selector) ? {} : undefined;
  if (segment !== undefined) return selector(values, segment, value);
  const [register, what] = part(name);
  const table = tableOf(register);
  if (table !== undefined) return { [table]: what === "base" ? { base: value } : { limit: Number(value & 0xffffn) } };
  const based = segmentOf(register);
  return based !== undefined && what === "base" ? { [based]: { base: value } } : undefined;
}

/** False: the value cannot be put there, and nothing has changed. */
export function writeRegister(target: GdbTarget, thread: number, register: GdbRegister, value: bigint): boolean {
  const msr = MSR_REGISTERS[register.name];
  if (msr !== undefined) return target.writeMsr(thread, msr, value);
  const change = update(target.readRegisters(thread), register.name, value);
  if (change === undefined) return false;
  try {
    target.writeRegisters(thread, change);
    return true;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) return false;
    throw error;
  }
}
