import { UsageError } from "./args.ts";
import type { Outcome } from "./outcome.ts";
import type { GuestRunOptions } from "./runBare.ts";

export interface VmxRunOptions extends GuestRunOptions {
  /** Name of an MSR policy; default upstream. */
  readonly policy?: string | undefined;
}

/** Runs a guest under VMX. The KVM layer is loaded only here. */
export async function runVmx(options: VmxRunOptions): Promise<Outcome> {
  void options;
  throw new UsageError("--vmx is not built yet");
}
