import {
  CR0,
  CR2,
  CR3,
  CR4,
  CR8,
  DR0,
  DR6,
  DR7,
  EFER,
  GDTR_BASE,
  GDTR_LIMIT,
  IDTR_BASE,
  IDTR_LIMIT,
  SEG_CS,
  SEG_DS,
  SEG_ES,
  SEG_FS,
  SEG_GS,
  SEG_LDTR,
  SEG_SS,
  SEG_TR,
} from "../../assembly/abi/state.ts";
import {
  type Core,
  checkInteger,
  checkU32,
  checkU64,
  GPR_NAMES,
  type GprName,
  type SegmentRegister,
} from "../core/index.ts";

const SEGMENT_SLOTS = {
  es: SEG_ES,
  cs: SEG_CS,
  ss: SEG_SS,
  ds: SEG_DS,
  fs: SEG_FS,
  gs: SEG_GS,
  ldtr: SEG_LDTR,
  tr: SEG_TR,
} as const;
export type SegmentName = keyof typeof SEGMENT_SLOTS;
export const SEGMENT_NAMES = Object.keys(SEGMENT_SLOTS) as SegmentName[];

const STATE_SLOTS = {
  cr2: CR2,
  cr8: CR8,
  dr0: DR0,
  dr1: DR0 + 8,
  dr2: DR0 + 16,
  dr3: DR0 + 24,
  dr6: DR6,
  dr7: DR7,
  cr3: CR3,
  cr4: CR4,
  efer: EFER,
  cr0: CR0,
} as const;
export type ControlName = keyof typeof STATE_SLOTS;
export const CONTROL_NAMES = Object.keys(STATE_SLOTS) as ControlName[];

const CR0_PE = 1n;
const CR0_PG = 1n << 31n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;

export interface DescriptorTable {
  base: bigint;
  limit: number;
}

/** Every register that has a name, as plain data. */
export type RegisterValues = Record<GprName | ControlName | "rip" | "rflags", bigint> &
  Record<SegmentName, SegmentRegister> & { gdtr: DescriptorTable; idtr: DescriptorTable };

type Writable<T> = T extends bigint ? bigint | number : T extends object ? Partial<T> : T;
/** What write() takes: any subset; numbers may stand for bigints. */
export type RegisterUpdate = { readonly [K in keyof RegisterValues]?: Writable<RegisterValues[K]> };

type U64 = bigint | number;
type SegmentUpdate = Partial<SegmentRegister>;

/**
 * The registers of a machine. Reads give bigints; writes take bigints or whole numbers below 2**53.
 * A segment register reads as a copy of its selector and hidden part; assigning a part of one changes that part only.
 */
export class Registers {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** All registers at once. */
  read(): RegisterValues {
    const values: Record<string, unknown> = { rip: this.rip, rflags: this.rflags, gdtr: this.gdtr, idtr: this.idtr };
    GPR_NAMES.forEach((name, index) => {
      values[name] = this.#core.gpr(index);
    });
    for (const name of CONTROL_NAMES) values[name] = this.#core.read64(STATE_SLOTS[name]);
    for (const name of SEGMENT_NAMES) values[name] = this.#core.segment(SEGMENT_SLOTS[name]);
    return values as RegisterValues;
  }

  /**
   * Writes several registers as one change of mode: control registers and segments first, then the rest.
   * Nothing is written when one of the values is unusable.
   */
  write(update: RegisterUpdate): void {
    const core = this.#core;
    for (const name of Object.keys(update)) {
      if (!isRegisterName(name)) throw new TypeError(`there is no register named ${JSON.stringify(name)}`);
    }
    const u64s = new Map<string, bigint>();
    for (const name of [...GPR_NAMES, ...CONTROL_NAMES, "rip", "rflags"] as const) {
      const value = update[name];
      if (value !== undefined) u64s.set(name, checkU64(name, value));
    }
    const segments = SEGMENT_NAMES.flatMap((name) => {
      const part = update[name];
      return part === undefined ? [] : [[SEGMENT_SLOTS[name], this.#mergeSegment(name, part)] as const];
    });
    const gdtr = update.gdtr && mergeTable("gdtr", this.gdtr, update.gdtr);
    const idtr = update.idtr && mergeTable("idtr", this.idtr, update.idtr);
    checkControls(u64s.get("cr0") ?? this.cr0);

    for (const name of CONTROL_NAMES) {
      const value = u64s.get(name);
      if (value !== undefined) core.write64(STATE_SLOTS[name], value);
    }
    this.#syncLongMode();
    for (const [slot, segment] of segments) core.setSegment(slot, segment);
    if (gdtr) this.#setTable(GDTR_BASE, GDTR_LIMIT, gdtr);
    if (idtr) this.#setTable(IDTR_BASE, IDTR_LIMIT, idtr);
    const rflags = u64s.get("rflags");
    if (rflags !== undefined) core.exports.setRflags(rflags);
    core.stateChanged();
    GPR_NAMES.forEach((name, index) => {
      const value = u64s.get(name);
      if (value !== undefined) core.setGpr(index, value);
    });
    const rip = u64s.get("rip");
    if (rip !== undefined) this.#jump(rip);
  }

  /** EFER.LMA is LME and CR0.PG. @sdm 3A "IA-32e Mode Operation" */
  #syncLongMode(): void {
    const core = this.#core;
    const efer = core.read64(EFER);
    const active = (efer & EFER_LME) !== 0n && (core.read64(CR0) & CR0_PG) !== 0n;
    core.write64(EFER, active ? efer | EFER_LMA : efer & ~EFER_LMA);
  }

  #mergeSegment(name: SegmentName, part: SegmentUpdate): SegmentRegister {
    const merged = { ...this.#core.segment(SEGMENT_SLOTS[name]), ...part };
    return {
      selector: checkInteger(`${name}.selector`, merged.selector, 0, 0xffff),
      base: checkU64(`${name}.base`, merged.base),
      limit: checkU32(`${name}.limit`, merged.limit),
      attributes: checkInteger(`${name}.attributes`, merged.attributes, 0, 0x1ffff),
    };
  }

  #setTable(base: number, limit: number, value: DescriptorTable): void {
    this.#core.write64(base, value.base);
    this.#core.write32(limit, value.limit);
  }

  #jump(rip: bigint): void {
    this.#core.rip = rip;
    this.#core.wake();
  }

  #getGpr(index: number): bigint {
    return this.#core.gpr(index);
  }
  #setGpr(index: number, value: U64): void {
    this.#core.setGpr(index, checkU64(GPR_NAMES[index]!, value));
  }

  get rax(): bigint {
    return this.#getGpr(0);
  }
  set rax(value: U64) {
    this.#setGpr(0, value);
  }
  get rcx(): bigint {
    return this.#getGpr(1);
  }
  set rcx(value: U64) {
    this.#setGpr(1, value);
  }
  get rdx(): bigint {
    return this.#getGpr(2);
  }
  set rdx(value: U64) {
    this.#setGpr(2, value);
  }
  get rbx(): bigint {
    return this.#getGpr(3);
  }
  set rbx(value: U64) {
    this.#setGpr(3, value);
  }
  get rsp(): bigint {
    return this.#getGpr(4);
  }
  set rsp(value: U64) {
    this.#setGpr(4, value);
  }
  get rbp(): bigint {
    return this.#getGpr(5);
  }
  set rbp(value: U64) {
    this.#setGpr(5, value);
  }
  get rsi(): bigint {
    return this.#getGpr(6);
  }
  set rsi(value: U64) {
    this.#setGpr(6, value);
  }
  get rdi(): bigint {
    return this.#getGpr(7);
  }
  set rdi(value: U64) {
    this.#setGpr(7, value);
  }
  get r8(): bigint {
    return this.#getGpr(8);
  }
  set r8(value: U64) {
    this.#setGpr(8, value);
  }
  get r9(): bigint {
    return this.#getGpr(9);
  }
  set r9(value: U64) {
    this.#setGpr(9, value);
  }
  get r10(): bigint {
    return this.#getGpr(10);
  }
  set r10(value: U64) {
    this.#setGpr(10, value);
  }
  get r11(): bigint {
    return this.#getGpr(11);
  }
  set r11(value: U64) {
    this.#setGpr(11, value);
  }
  get r12(): bigint {
    return this.#getGpr(12);
  }
  set r12(value: U64) {
    this.#setGpr(12, value);
  }
  get r13(): bigint {
    return this.#getGpr(13);
  }
  set r13(value: U64) {
    this.#setGpr(13, value);
  }
  get r14(): bigint {
    return this.#getGpr(14);
  }
  set r14(value: U64) {
    this.#setGpr(14, value);
  }
  get r15(): bigint {
    return this.#getGpr(15);
  }
  set r15(value: U64) {
    this.#setGpr(15, value);
  }
  get rip(): bigint {
    return this.#core.rip;
  }
  /** A halted processor wakes: it goes on there. */
  set rip(value: U64) {
    this.#jump(checkU64("rip", value));
  }
  get rflags(): bigint {
    return this.#core.rflags;
  }
  set rflags(value: U64) {
    this.#core.rflags = checkU64("rflags", value);
  }
  get es(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.es);
  }
  set es(value: SegmentUpdate) {
    this.write({ es: value });
  }
  get cs(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.cs);
  }
  set cs(value: SegmentUpdate) {
    this.write({ cs: value });
  }
  get ss(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.ss);
  }
  set ss(value: SegmentUpdate) {
    this.write({ ss: value });
  }
  get ds(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.ds);
  }
  set ds(value: SegmentUpdate) {
    this.write({ ds: value });
  }
  get fs(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.fs);
  }
  set fs(value: SegmentUpdate) {
    this.write({ fs: value });
  }
  get gs(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.gs);
  }
  set gs(value: SegmentUpdate) {
    this.write({ gs: value });
  }
  get ldtr(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.ldtr);
  }
  set ldtr(value: SegmentUpdate) {
    this.write({ ldtr: value });
  }
  get tr(): SegmentRegister {
    return this.#core.segment(SEGMENT_SLOTS.tr);
  }
  set tr(value: SegmentUpdate) {
    this.write({ tr: value });
  }
  get cr0(): bigint {
    return this.#core.read64(STATE_SLOTS.cr0);
  }
  set cr0(value: U64) {
    this.write({ cr0: value });
  }
  get cr2(): bigint {
    return this.#core.read64(STATE_SLOTS.cr2);
  }
  set cr2(value: U64) {
    this.write({ cr2: value });
  }
  get cr3(): bigint {
    return this.#core.read64(STATE_SLOTS.cr3);
  }
  set cr3(value: U64) {
    this.write({ cr3: value });
  }
  get cr4(): bigint {
    return this.#core.read64(STATE_SLOTS.cr4);
  }
  set cr4(value: U64) {
    this.write({ cr4: value });
  }
  get cr8(): bigint {
    return this.#core.read64(STATE_SLOTS.cr8);
  }
  set cr8(value: U64) {
    this.write({ cr8: value });
  }
  get efer(): bigint {
    return this.#core.read64(STATE_SLOTS.efer);
  }
  set efer(value: U64) {
    this.write({ efer: value });
  }
  get dr0(): bigint {
    return this.#core.read64(STATE_SLOTS.dr0);
  }
  set dr0(value: U64) {
    this.write({ dr0: value });
  }
  get dr1(): bigint {
    return this.#core.read64(STATE_SLOTS.dr1);
  }
  set dr1(value: U64) {
    this.write({ dr1: value });
  }
  get dr2(): bigint {
    return this.#core.read64(STATE_SLOTS.dr2);
  }
  set dr2(value: U64) {
    this.write({ dr2: value });
  }
  get dr3(): bigint {
    return this.#core.read64(STATE_SLOTS.dr3);
  }
  set dr3(value: U64) {
    this.write({ dr3: value });
  }
  get dr6(): bigint {
    return this.#core.read64(STATE_SLOTS.dr6);
  }
  set dr6(value: U64) {
    this.write({ dr6: value });
  }
  get dr7(): bigint {
    return this.#core.read64(STATE_SLOTS.dr7);
  }
  set dr7(value: U64) {
    this.write({ dr7: value });
  }
  get gdtr(): DescriptorTable {
    return { base: this.#core.read64(GDTR_BASE), limit: this.#core.read32(GDTR_LIMIT) };
  }
  set gdtr(value: Partial<DescriptorTable>) {
    this.write({ gdtr: value });
  }
  get idtr(): DescriptorTable {
    return { base: this.#core.read64(IDTR_BASE), limit: this.#core.read32(IDTR_LIMIT) };
  }
  set idtr(value: Partial<DescriptorTable>) {
    this.write({ idtr: value });
  }

  /** Current privilege level. */
  get cpl(): number {
    return this.#core.cpl;
  }
}

function mergeTable(name: string, now: DescriptorTable, part: Partial<DescriptorTable>): DescriptorTable {
  const merged = { ...now, ...part };
  return {
    base: checkU64(`${name}.base`, merged.base),
    limit: checkInteger(`${name}.limit`, merged.limit, 0, 0xffff),
  };
}

function checkControls(cr0: bigint): void {
  if ((cr0 & CR0_PG) !== 0n && (cr0 & CR0_PE) === 0n) {
    throw new RangeError(`cr0 0x${cr0.toString(16)} turns paging on (bit 31) without protection (bit 0)`);
  }
}

const NAMES: ReadonlySet<string> = new Set([
  ...GPR_NAMES,
  ...CONTROL_NAMES,
  ...SEGMENT_NAMES,
  "rip",
  "rflags",
  "gdtr",
  "idtr",
]);

function isRegisterName(name: string): boolean {
  return NAMES.has(name);
}
