import type { SegmentRegister } from "../core/index.ts";
import { COST_MODELS } from "../cost/index.ts";
import type { Regs, Segment, Sregs } from "../kvm/index.ts";
import type { RegisterValues } from "../machine/index.ts";
import { POLICIES } from "../policy/index.ts";
import { suggestion, UsageError } from "./args.ts";
import type { Outcome } from "./outcome.ts";
import type { GuestRunOptions } from "./runBare.ts";

export interface VmxRunOptions extends GuestRunOptions {
  /** Name of an MSR policy; default upstream. */
  readonly policy?: string | undefined;
}

function toRegister(segment: Segment): SegmentRegister {
  const { selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable } = segment;
  const attributes =
    type | (s << 4) | (dpl << 5) | (present << 7) | (avl << 12) | (l << 13) | (db << 14) | (g << 15) | (unusable << 16);
  return { selector, base, limit, attributes };
}

/** KVM's registers in the names of the bare machine. */
function registerValues(regs: Regs, sregs: Sregs, debug: readonly bigint[]): RegisterValues {
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

/** Runs a guest under VMX. The KVM layer is loaded only here. */
export async function runVmx(options: VmxRunOptions): Promise<Outcome> {
  const { image, memory, maxInstructions, signal, console, trace, policy = "upstream" } = options;
  const names = POLICIES.map(({ name }) => name);
  if (!names.includes(policy)) {
    throw new UsageError(`unknown policy "${policy}"${suggestion(policy, names)}; there are ${names.join(", ")}`);
  }
  const { runGuestUnderVmxAsync } = await import("../lab/index.ts");
  const run = await runGuestUnderVmxAsync({
    image,
    memory,
    console,
    policy,
    ...(maxInstructions === undefined ? {} : { maxInstructions }),
    ...(signal === undefined ? {} : { signal }),
    ...(trace === undefined ? {} : { trace }),
  });
  const { regs, sregs } = run;
  return {
    ending: run.ending,
    instructions: run.instructions,
    registers: registerValues(regs, sregs, run.debugRegs),
    cpl: sregs.ss.dpl,
    codeMode: sregs.cs.l ? 64 : sregs.cs.db ? 32 : 16,
    exits: run.exits,
    cycles: Math.round(run.ledger.cycles(COST_MODELS[0]!).midpoint),
    policy: run.policy,
  };
}
