// The checks of VM entry as a second implementation: written from vm-entry-checks.csv (its row numbers are in the comments)
// for this processor's widths and capability MSRs, on VMCS contents as name -> value. It shares no code with the core.
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import type { Fields } from "./guests.ts";

export type Prediction = "enters" | { readonly error: 7 | 8 } | { readonly qualification: bigint };

/** Capability MSRs and the rest of the processor that checks depend on. */
export interface Processor {
  readonly msr: (index: number) => bigint;
  /** EFER bits that exist. */
  readonly efer: bigint;
  readonly debugctl: bigint;
  /** Revision in the first word of a page; undefined: nothing there. */
  readonly read32: (physical: bigint) => number;
  readonly read64: (physical: bigint) => bigint;
  readonly currentVmcs: bigint;
}

const bit = (value: bigint, n: number): boolean => ((value >> BigInt(n)) & 1n) === 1n;
const bits = (value: bigint, high: number, low: number): bigint =>
  (value >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
const wide = (address: bigint): boolean => address >> BigInt(PHYSICAL_WIDTH) !== 0n;
const canonical = (address: bigint): boolean => bits(address, 63, 47) === 0n || bits(address, 63, 47) === 0x1ffffn;
const page = (address: bigint): boolean => (address & 0xfffn) === 0n && !wide(address);
const pat = (value: bigint): boolean =>
  [0, 8, 16, 24, 32, 40, 48, 56].every((at) => [0n, 1n, 4n, 5n, 6n, 7n].includes((value >> BigInt(at)) & 0xffn));
const SEGMENTS = ["ES", "CS", "SS", "DS", "FS", "GS"] as const;

export function predict(v: Fields, cpu: Processor): Prediction {
  const f = (name: string): bigint => v[name] ?? 0n;
  const allowed = (name: string, index: number): boolean => {
    const msr = cpu.msr(index);
    const must = msr & 0xffffffffn;
    return (f(name) & must) === must && (f(name) & ~(msr >> 32n)) === 0n;
  };
  const primary = (n: number): boolean => bit(f("PRIMARY_PROC_BASED_CONTROLS"), n);
  const secondary = (n: number): boolean => primary(31) && bit(f("SECONDARY_PROC_BASED_CONTROLS"), n);
  const pin = (n: number): boolean => bit(f("PIN_BASED_CONTROLS"), n);
  const exit = (n: number): boolean => bit(f("PRIMARY_EXIT_CONTROLS"), n);
  const entry = (n: number): boolean => bit(f("ENTRY_CONTROLS"), n);
  const list = (name: string): boolean => {
    const count = f(`${name}_COUNT`);
    const at = f(`${name}_ADDRESS`);
    return count === 0n || ((at & 15n) === 0n && !wide(at) && !wide(at + count * 16n - 1n));
  };
  const ept = secondary(1);
  const unrestricted = secondary(7);
  const info = f("ENTRY_INTERRUPTION_INFO");
  const valid = bit(info, 31);
  const type = Number(bits(info, 10, 8));
  const vector = Number(bits(info, 7, 0));
  const cr0 = f("GUEST_CR0");

  const controls = (): boolean => {
    if (!allowed("PIN_BASED_CONTROLS", 0x48d) || !allowed("PRIMARY_PROC_BASED_CONTROLS", 0x48e)) return false; // 9, 10
    if (primary(31) && !allowed("SECONDARY_PROC_BASED_CONTROLS", 0x48b)) return false; // 11
    if (f("CR3_TARGET_COUNT") > 4n) return false; // 12
    if (primary(25) && !(page(f("IO_BITMAP_A_ADDRESS")) && page(f("IO_BITMAP_B_ADDRESS")))) return false; // 13
    if (primary(28) && !page(f("MSR_BITMAP_ADDRESS"))) return false; // 14
    const tprShadow = primary(21);
    const [accesses, x2apic, registers, delivery] = [secondary(0), secondary(4), secondary(8), secondary(9)];
    if (tprShadow) {
      if (!page(f("VIRTUAL_APIC_ADDRESS"))) return false; // 15
      if (!delivery && f("TPR_THRESHOLD") > 15n) return false; // 16
      const vtpr = BigInt(cpu.read32(f("VIRTUAL_APIC_ADDRESS") + 0x80n));
      if (!accesses && !delivery && f("TPR_THRESHOLD") > bits(vtpr, 7, 4)) return false; // 17
    }
    if (accesses && !page(f("APIC_ACCESS_ADDRESS"))) return false; // 20
    if (!tprShadow && (x2apic || registers || delivery)) return false; // 21
    if (accesses && x2apic) return false; // 22
    if (delivery && !pin(0)) return false; // 23
    if (pin(7)) {
      const descriptor = f("POSTED_INTERRUPT_DESCRIPTOR_ADDRESS");
      const legal = delivery && exit(15) && f("POSTED_INTERRUPT_NOTIFICATION_VECTOR") < 256n;
      if (!legal || descriptor & 63n || wide(descriptor)) return false; // 24
    }
    if (secondary(17) && !(ept && page(f("PML_ADDRESS")))) return false; // 27
    if (secondary(13)) {
      if (f("VM_FUNCTION_CONTROLS") & ~cpu.msr(0x491)) return false; // 29
      if (bit(f("VM_FUNCTION_CONTROLS"), 0) && !(ept && page(f("EPTP_LIST_ADDRESS")))) return false; // 29
    }
    if (secondary(14) && !(page(f("VMREAD_BITMAP_ADDRESS")) && page(f("VMWRITE_BITMAP_ADDRESS")))) return false; // 30
    if (secondary(22) && !ept) return false; // 113
    if (pin(5) && !pin(3)) return false; // 18
    if (primary(22) && !pin(5)) return false; // 19
    if (secondary(5) && f("VPID") === 0n) return false; // 25
    const eptp = f("EPT_POINTER");
    if (ept && (![0n, 6n].includes(bits(eptp, 2, 0)) || bits(eptp, 5, 3) !== 3n || bits(eptp, 11, 7) || wide(eptp)))
      return false; // 26
    if (ept && bit(eptp, 6) && !bit(cpu.msr(0x48c), 21)) return false; // 26
    if (unrestricted && !ept) return false; // 28
    if (!allowed("PRIMARY_EXIT_CONTROLS", 0x48f)) return false; // 32
    if (exit(22) && !pin(6)) return false; // 33
    if (!list("EXIT_MSR_STORE") || !list("EXIT_MSR_LOAD")) return false; // 34, 35
    if (!allowed("ENTRY_CONTROLS", 0x490)) return false; // 36
    if (valid) {
      if (type === 1) return false; // 37
      if ((type === 2 && vector !== 2) || (type === 3 && vector > 31) || (type === 7 && vector !== 0)) return false; // 38
      const code = (!unrestricted || bit(cr0, 0)) && type === 3 && [8, 10, 11, 12, 13, 14, 17].includes(vector);
      if (bit(info, 11) !== code) return false; // 39
      if (bits(info, 30, 12)) return false; // 40
      if (bit(info, 11) && bits(f("ENTRY_EXCEPTION_ERROR_CODE"), 31, 16)) return false; // 41
      if ([4, 5, 6].includes(type) && f("ENTRY_INSTRUCTION_LENGTH") > 15n) return false; // 42: MISC[30] is 1
    }
    return list("ENTRY_MSR_LOAD"); // 43; 44 follows from 36
  };

  const fixed = (value: bigint, index: number, free = 0n): boolean => {
    const must = cpu.msr(index) & ~free;
    return (value & must) === must && (value & ~cpu.msr(index + 1)) === 0n;
  };
  const NW_CD = 0x60000000n;

  const host = (): boolean => {
    const long = exit(9);
    if (!fixed(f("HOST_CR0"), 0x486, NW_CD) || !fixed(f("HOST_CR4"), 0x488)) return false; // 45, 46
    if (wide(f("HOST_CR3"))) return false; // 47
    if (!canonical(f("HOST_IA32_SYSENTER_ESP")) || !canonical(f("HOST_IA32_SYSENTER_EIP"))) return false; // 48
    if (exit(19) && !pat(f("HOST_IA32_PAT"))) return false; // 50
    const efer = f("HOST_IA32_EFER");
    if (exit(21) && (efer & ~cpu.efer || bit(efer, 10) !== long || bit(efer, 8) !== long)) return false; // 51
    if ([...SEGMENTS, "TR"].some((s) => f(`HOST_${s}_SELECTOR`) & 7n)) return false; // 52
    if (!f("HOST_CS_SELECTOR") || !f("HOST_TR_SELECTOR")) return false; // 53
    if (!long && !f("HOST_SS_SELECTOR")) return false; // 54
    if (["FS", "GS", "GDTR", "IDTR", "TR"].some((s) => !canonical(f(`HOST_${s}_BASE`)))) return false; // 55
    if (!long) return false; // 57: the host here is in IA-32e mode
    return bit(f("HOST_CR4"), 5) && canonical(f("HOST_RIP")); // 59
  };

  const long = entry(9);
  const flags = f("GUEST_RFLAGS");
  const vm86 = bit(flags, 17);
  const injects = (t: number): boolean => valid && type === t;

  const registers = (): boolean => {
    if (!fixed(cr0, 0x486, NW_CD | (unrestricted ? 0x80000001n : 0n))) return false; // 60
    if (bit(cr0, 31) && !bit(cr0, 0)) return false; // 61
    const cr4 = f("GUEST_CR4");
    if (!fixed(cr4, 0x488)) return false; // 62
    if (entry(2) && f("GUEST_IA32_DEBUGCTL") & ~cpu.debugctl) return false; // 63
    if (long && !(bit(cr0, 31) && bit(cr4, 5))) return false; // 64
    if (!long && bit(cr4, 17)) return false; // 65
    if (wide(f("GUEST_CR3"))) return false; // 66
    if (entry(2) && f("GUEST_DR7") >> 32n) return false; // 67
    if (!canonical(f("GUEST_IA32_SYSENTER_ESP")) || !canonical(f("GUEST_IA32_SYSENTER_EIP"))) return false; // 68
    if (entry(14) && !pat(f("GUEST_IA32_PAT"))) return false; // 70
    const efer = f("GUEST_IA32_EFER");
    if (entry(15) && (efer & ~cpu.efer || bit(efer, 10) !== long || (bit(cr0, 31) && bit(efer, 8) !== long)))
      return false; // 71
    return true;
  };

  const rights = (s: string): bigint => f(`GUEST_${s}_ACCESS_RIGHTS`);
  const usable = (s: string): boolean => !bit(rights(s), 16);
  const type4 = (s: string): number => Number(bits(rights(s), 3, 0));
  const dpl = (s: string): bigint => bits(rights(s), 6, 5);
  const selector = (s: string): bigint => f(`GUEST_${s}_SELECTOR`);
  const granular = (s: string): boolean => {
    const limit = f(`GUEST_${s}_LIMIT`);
    if (bits(limit, 11, 0) !== 0xfffn && bit(rights(s), 15)) return false;
    return !bits(limit, 31, 20) || bit(rights(s), 15);
  };
  const reservedRights = (s: string): boolean => bits(rights(s), 11, 8) !== 0n || bits(rights(s), 31, 17) !== 0n;

  const segments = (): boolean => {
    if (bit(selector("TR"), 2) || (usable("LDTR") && bit(selector("LDTR"), 2))) return false; // 73
    if (!vm86 && !unrestricted && (selector("SS") & 3n) !== (selector("CS") & 3n)) return false; // 74
    if (["TR", "FS", "GS"].some((s) => !canonical(f(`GUEST_${s}_BASE`)))) return false; // 76
    if (usable("LDTR") && !canonical(f("GUEST_LDTR_BASE"))) return false;
    if (f("GUEST_CS_BASE") >> 32n) return false;
    if (["SS", "DS", "ES"].some((s) => usable(s) && f(`GUEST_${s}_BASE`) >> 32n)) return false;
    if (vm86) {
      for (const s of SEGMENTS) {
        const flat = f(`GUEST_${s}_BASE`) === selector(s) << 4n && f(`GUEST_${s}_LIMIT`) === 0xffffn;
        if (!flat || rights(s) !== 0xf3n) return false; // 75
      }
    } else {
      const code = type4("CS");
      if (![9, 11, 13, 15].includes(code) && !(code === 3 && unrestricted)) return false; // 77
      if (usable("SS") && ![3, 7].includes(type4("SS"))) return false; // 78
      for (const s of SEGMENTS) {
        const used = s === "CS" || usable(s);
        if (used && (!bit(rights(s), 4) || !bit(rights(s), 7) || reservedRights(s) || !granular(s))) return false; // 80 85 86 88
        if (s === "CS" || s === "SS" || !used) continue;
        if (!bit(rights(s), 0) || (bit(rights(s), 3) && !bit(rights(s), 1))) return false; // 79
        if (!unrestricted && type4(s) <= 11 && dpl(s) < (selector(s) & 3n)) return false; // 84
      }
      if (code === 3 ? dpl("CS") !== 0n : code < 12 ? dpl("CS") !== dpl("SS") : dpl("CS") > dpl("SS")) return false; // 81
      if (!unrestricted && dpl("SS") !== (selector("SS") & 3n)) return false; // 82
      if ((code === 3 || !bit(cr0, 0)) && dpl("SS") !== 0n) return false; // 83
      if (long && bit(rights("CS"), 13) && bit(rights("CS"), 14)) return false; // 87
    }
    if (type4("TR") !== 11 && (type4("TR") !== 3 || long)) return false; // 89
    if (bit(rights("TR"), 4) || !bit(rights("TR"), 7) || reservedRights("TR") || !granular("TR")) return false;
    if (!usable("TR")) return false;
    if (!usable("LDTR")) return true;
    if (type4("LDTR") !== 2 || bit(rights("LDTR"), 4) || !bit(rights("LDTR"), 7)) return false; // 90
    return !reservedRights("LDTR") && granular("LDTR");
  };

  const rest = (): boolean => {
    for (const t of ["GDTR", "IDTR"]) {
      if (!canonical(f(`GUEST_${t}_BASE`)) || f(`GUEST_${t}_LIMIT`) >> 16n) return false; // 91
    }
    const rip = f("GUEST_RIP");
    const top = bits(rip, 63, 48);
    if (long && bit(rights("CS"), 13) ? top !== 0n && top !== 0xffffn : rip >> 32n) return false; // 92, 93
    if (flags >> 22n || bit(flags, 15) || bit(flags, 5) || bit(flags, 3) || !bit(flags, 1)) return false; // 94
    if (vm86 && (long || !bit(cr0, 0))) return false; // 95
    return !injects(0) || bit(flags, 9); // 96
  };

  const state = (): bigint | undefined => {
    const activity = f("GUEST_ACTIVITY_STATE");
    const blocking = f("GUEST_INTERRUPTIBILITY_STATE");
    const sti = bit(blocking, 0);
    const movSs = bit(blocking, 1);
    if (activity > 2n) return 0n; // 97: wait-for-SIPI is not supported
    if (activity === 1n && dpl("SS") !== 0n) return 0n; // 98
    if ((sti || movSs) && activity !== 0n) return 0n; // 99
    const checkOrDebug = type === 3 && (vector === 18 || vector === 1);
    if (valid && activity === 1n && !(type === 0 || type === 2 || checkOrDebug || type === 7)) return 0n; // 100
    if (valid && activity === 2n && !(type === 2 || (type === 3 && vector === 18))) return 0n; // 101
    if (blocking >> 5n || bit(blocking, 4) || (sti && movSs) || (sti && !bit(flags, 9))) return 0n; // 103
    if (injects(0) && (sti || movSs)) return 0n; // 104
    if (bit(blocking, 2)) return 0n; // 106
    if (injects(2) && (movSs || (pin(5) && bit(blocking, 3)))) return 0n; // 105
    if (injects(2) && sti) return 3n; // 105
    const pending = f("GUEST_PENDING_DEBUG_EXCEPTIONS");
    if (bits(pending, 11, 4) || bit(pending, 13) || pending >> 15n) return 0n; // 107 (RTM, 16, does not exist)
    const steps = bit(flags, 8) && !bit(f("GUEST_IA32_DEBUGCTL"), 1);
    if ((sti || movSs || activity === 1n) && bit(pending, 14) !== steps) return 0n; // 108
    const link = f("VMCS_LINK_POINTER");
    if (link !== 0xffff_ffff_ffff_ffffn) {
      const revision = Number((cpu.msr(0x480) & 0x7fffffffn) + (secondary(14) ? 0x80000000n : 0n));
      if (!page(link) || cpu.read32(link) !== revision || link === cpu.currentVmcs) return 4n; // 109
    }
    if (bit(cr0, 31) && bit(f("GUEST_CR4"), 5) && !long) {
      const table = f("GUEST_CR3") & 0xffffffe0n;
      for (let i = 0; i < 4; i++) {
        const entry = ept ? f(`GUEST_PDPTE${i}`) : cpu.read64(table + BigInt(8 * i));
        if (bit(entry, 0) && (entry & 0x1e6n || wide(entry))) return 2n; // 110
      }
    }
    return undefined;
  };

  if (!controls()) return { error: 7 };
  if (!host()) return { error: 8 };
  if (!registers() || !segments() || !rest()) return { qualification: 0n };
  const late = state();
  return late === undefined ? "enters" : { qualification: late };
}
