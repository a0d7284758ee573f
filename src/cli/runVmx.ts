import { POLICIES } from "../policy/index.ts";
import { suggestion, UsageError } from "./args.ts";
import type { Outcome } from "./outcome.ts";
import type { GuestRunOptions } from "./runBare.ts";

export interface VmxRunOptions extends GuestRunOptions {
  /** Name of an MSR policy; default upstream. */
  readonly policy?: string | undefined;
}

/** Runs a guest under VMX. The KVM layer is loaded only here. */
export async function runVmx(options: VmxRunOptions): Promise<Outcome> {
  const { policy = "upstream" } = options;
  const names = POLICIES.map(({ name }) => name);
  if (!names.includes(policy)) {
    throw new UsageError(`unknown policy "${policy}"${suggestion(policy, names)}; there are ${names.join(", ")}`);
  }
  throw new UsageError("--vmx is not built yet");
}
