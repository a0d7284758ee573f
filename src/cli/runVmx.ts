import { COST_MODELS } from "../cost/index.ts";
import { registerValues } from "../gdb/index.ts";
import type { Outcome } from "./outcome.ts";
import type { GuestRunOptions } from "./runBare.ts";

export interface VmxRunOptions extends GuestRunOptions {
  /** Name of an MSR policy. */
  readonly policy: string;
}

/** Runs a guest under VMX. The KVM layer is loaded only here. */
export async function runVmx(options: VmxRunOptions): Promise<Outcome> {
  const { image, memory, boot, maxInstructions, signal, console, trace, policy } = options;
  const { runGuestUnderVmxAsync } = await import("../lab/index.ts");
  const run = await runGuestUnderVmxAsync({
    image,
    memory,
    console,
    policy,
    ...(boot === undefined ? {} : { boot }),
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
