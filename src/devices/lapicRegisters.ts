// Registers of the local APIC by number: offset in the page / 16, MSR - 0x800. @sdm 3A "Local APIC Register Address Map"

export const ApicRegister = {
  Id: 0x02,
  Version: 0x03,
  Tpr: 0x08,
  Apr: 0x09,
  Ppr: 0x0a,
  Eoi: 0x0b,
  Rrd: 0x0c,
  Ldr: 0x0d,
  Dfr: 0x0e,
  Svr: 0x0f,
  /** Eight registers each. */
  Isr: 0x10,
  Tmr: 0x18,
  Irr: 0x20,
  Esr: 0x28,
  Icr: 0x30,
  Icr2: 0x31,
  LvtTimer: 0x32,
  LvtThermal: 0x33,
  LvtPerformance: 0x34,
  LvtLint0: 0x35,
  LvtLint1: 0x36,
  LvtError: 0x37,
  InitialCount: 0x38,
  CurrentCount: 0x39,
  Divide: 0x3e,
  SelfIpi: 0x3f,
} as const;

// entry of the local vector table:
//   18:17 timer mode | 16 masked | 15 level | 14 remote IRR | 13 polarity | 12 status | 10:8 delivery | 7:0 vector
export const LVT_DELIVERY_SHIFT = 8;
export const LVT_REMOTE_IRR = 1 << 14;
export const LVT_LEVEL = 1 << 15;
export const LVT_MASKED = 1 << 16;
/** Bits software can write: timer, thermal, performance, LINT0, LINT1, error. */
export const LVT_WRITABLE = [0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff] as const;

const R = ApicRegister;

const READABLE = new Set<number>([
  ...[R.Id, R.Version, R.Tpr, R.Ppr, R.Ldr, R.Svr, R.Esr, R.Icr, R.InitialCount, R.CurrentCount, R.Divide],
  ...Array.from({ length: 24 }, (_, i) => R.Isr + i),
  ...Array.from({ length: 6 }, (_, i) => R.LvtTimer + i),
]);
/** Readable in the page only. */
const PAGE_ONLY = new Set<number>([R.Apr, R.Rrd, R.Dfr, R.Icr2, R.Eoi]);

/** Does reading the register give its value (x2APIC mode, or the page)? */
export function x2apicRead(register: number, page = false): boolean {
  return READABLE.has(register) || (page && PAGE_ONLY.has(register));
}

/** Bits of the MSR that may be 1; undefined: the register cannot be written. @sdm 3A "x2APIC Register Address Space" */
export function x2apicWritable(register: number): bigint | undefined {
  switch (register) {
    case R.Tpr:
    case R.SelfIpi:
      return 0xffn;
    case R.Eoi:
    case R.Esr:
      return 0n;
    case R.Svr:
      return 0x3ffn;
    case R.Icr:
      return 0xffff_ffff_000c_cfffn;
    case R.InitialCount:
      return 0xffff_ffffn;
    case R.Divide:
      return 0x0bn;
    default:
      if (register < R.LvtTimer || register > R.LvtError) return undefined;
      // the delivery status and remote IRR are read-only, not reserved
      return BigInt(LVT_WRITABLE[register - R.LvtTimer]!) | 0x1000n | (register === R.LvtLint0 ? 0x4000n : 0n);
  }
}

/** Highest vector set in one of the 256-bit registers, -1: none. */
export function highest(regs: Uint32Array, register: number): number {
  for (let i = 7; i >= 0; i--) {
    const word = regs[register + i]!;
    if (word !== 0) return 32 * i + 31 - Math.clz32(word);
  }
  return -1;
}
