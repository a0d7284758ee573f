// A vCPU's registers in the names of the bare machine, both ways.
import type { SegmentRegister } from "../core/index.ts";
import { GPR_NAMES, type Regs, type Segment, type Sregs, type Vcpu } from "../kvm/index.ts";
import { toSegment } from "../lab/index.ts";
import type { RegisterUpdate, RegisterValues } from "../machine/index.ts";

function toRegister(segment: Segment): SegmentRegister {
  const { selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable } = segment;
  const attributes =
    type | (s << 4) | (dpl << 5) | (present << 7) | (avl << 12) | (l << 13) | (db << 14) | (g << 15) | (unusable << 16);
  return { selector, base, limit, attributes };
}

/** KVM's registers in the names of the bare machine. */
export function registerValues(regs: Regs, sregs: Sregs, debug: readonly bigint[]): RegisterValues {
  const [dr0 = 0n, dr1 = 0n, dr2 = 0n, dr3 = 0n, dr6 = 0n, dr7 = 0n] = debug;
  const { es, cs, ss, ds, fs, gs, ldt, tr } = sregs;
  const { cr0, cr2, cr3, cr4, cr8, efer } = sregs;
  return {
    ...regs,
    ...{ es: toRegister(es), cs: toRegister(cs), ss: toRegister(ss), ds: toRegister(ds) },
    ...{ fs: toRegister(fs), gs: toRegister(gs), ldtr: toRegister(ldt), tr: toRegister(tr) },
    ...{ gdtr: sregs.gdt, idtr: sregs.idt },
    ...{ cr0, cr2, cr3, cr4, cr8, efer },
    ...{ dr0, dr1, dr2, dr3, dr6, dr7 },
  };
}

const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs", "tr", "ldtr"] as const;
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer"] as const;
const DEBUG = ["dr0", "dr1", "dr2", "dr3", "dr6", "dr7"] as const;

/** KVM_SET_REGS, KVM_SET_SREGS and KVM_SET_DEBUGREGS with what changes. */
export function updateRegisters(vcpu: Vcpu, update: RegisterUpdate): void {
  const now = registerValues(vcpu.getRegs(), vcpu.getSregs(), vcpu.getDebugRegs());
  const regs: Record<string, bigint> = { ...vcpu.getRegs() };
  for (const name of [...GPR_NAMES, "rip", "rflags"] as const) {
    const value = update[name];
    if (value !== undefined) regs[name] = BigInt(value);
  }
  const sregs: Record<string, unknown> = { ...vcpu.getSregs() };
  for (const name of SEGMENTS) {
    const part = update[name];
    if (part !== undefined) sregs[name === "ldtr" ? "ldt" : name] = toSegment({ ...now[name], ...part });
  }
  for (const name of ["gdtr", "idtr"] as const) {
    const part = update[name];
    if (part !== undefined) sregs[name === "gdtr" ? "gdt" : "idt"] = { ...now[name], ...part };
  }
  for (const name of CONTROLS) {
    const value = update[name];
    if (value !== undefined) sregs[name] = BigInt(value);
  }
  vcpu.setSregs(sregs as unknown as Sregs);
  vcpu.setRegs(regs as unknown as Regs);
  if (DEBUG.some((name) => update[name] !== undefined)) {
    vcpu.setDebugRegs(DEBUG.map((name) => BigInt(update[name] ?? now[name])));
  }
}
