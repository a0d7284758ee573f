import { MSR_MISC_FEATURES_ENABLES, type Policy, type PolicyHost, type VcpuPolicy } from "./policy.ts";

/** values[slot] of struct kvm_user_return_msrs: what this CPU's MSR holds, as far as KVM knows. */
interface PerCpu {
  current: bigint;
  registered: boolean;
}

const perCpu = new WeakMap<object, PerCpu>();

function stateOf(host: PolicyHost): PerCpu {
  let state = perCpu.get(host.cpu);
  if (state === undefined) {
    state = { current: host.snapshot, registered: false };
    perCpu.set(host.cpu, state);
  }
  return state;
}

/** A write that is skipped when KVM believes the value to be there. @kvm kvm_set_user_return_msr */
function set(host: PolicyHost, value: bigint): void {
  const state = stateOf(host);
  if (state.current === value) return;
  host.wrmsrl(MSR_MISC_FEATURES_ENABLES, value);
  state.current = value;
  if (state.registered) return;
  state.registered = true;
  const { snapshot } = host;
  host.onUserReturn(() => {
    state.registered = false;
    if (state.current === snapshot) return;
    host.wrmsrl(MSR_MISC_FEATURES_ENABLES, snapshot);
    state.current = snapshot;
  });
}

class UserReturn implements VcpuPolicy {
  constructor(private readonly host: PolicyHost) {}

  prepareSwitchToGuest(guest: bigint): void {
    set(this.host, guest);
  }

  setMsrLoaded(data: bigint): void {
    set(this.host, data);
  }

  /** The guest's value stays until a thread of this CPU returns to user space. */
  prepareSwitchToHost(): void {}
}

/** KVM's user-return MSRs: cheap, but what comes back is the value of the day KVM was loaded, not the thread's. */
export const userReturn: Policy = {
  name: "user-return",
  summary: "written where it differs, the boot value restored on return to user space; not per thread",
  source: "the mechanism of kvm_set_user_return_msr, applied to 0x140",
  defaults: { hostValue: "shadow", restoreReads: false },
  attach: (host) => new UserReturn(host),
};
