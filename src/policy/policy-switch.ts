import type { SwitchPoint, VcpuPolicy } from "./policy.ts";

/**
 * When a vCPU's policy is called, in the kernel's order: what vmx_vcpu_load, vmx_prepare_switch_to_guest, vmx_set_msr,
 * vmx_prepare_switch_to_host and vmx_vcpu_put have in common, whether a processor is behind them or not.
 */
export class PolicySwitch {
  /** loaded_cpu_state is non-null: the host's state is saved and the guest's loaded. */
  loadedCpuState = false;
  /** The policy has switched to the guest and not back. */
  policyLoaded = false;

  constructor(
    readonly policy: VcpuPolicy,
    readonly switchPoint: SwitchPoint,
  ) {}

  /** @kvm vmx_vcpu_load */
  load(guest: bigint): void {
    if (this.switchPoint === "load") this.#toGuest(guest);
  }

  /** Before every entry. True when the body ran: once a load. @kvm vmx_prepare_switch_to_guest */
  prepareSwitchToGuest(guest: bigint): boolean {
    if (this.loadedCpuState) return false;
    this.loadedCpuState = true;
    this.#toGuest(guest);
    return true;
  }

  /** True when the body ran. A second put is a no-op. @kvm vmx_prepare_switch_to_host */
  prepareSwitchToHost(): boolean {
    if (!this.loadedCpuState) return false;
    this.loadedCpuState = false;
    if (this.switchPoint === "prepare") this.#toHost();
    return true;
  }

  /** @kvm vmx_vcpu_put; true when vmx_prepare_switch_to_host had something to do. */
  put(): boolean {
    const had = this.prepareSwitchToHost();
    this.#toHost();
    return had;
  }

  /** The hardware step of vmx_set_msr(0x140); `between` the test and the write, where nothing disables preemption. */
  setMsr(value: bigint, between: () => void): void {
    if (!this.policyLoaded) return;
    between();
    this.policy.setMsrLoaded(value);
  }

  #toGuest(guest: bigint): void {
    if (this.policyLoaded) return;
    this.policyLoaded = true;
    this.policy.prepareSwitchToGuest(guest);
  }

  #toHost(): void {
    if (!this.policyLoaded) return;
    this.policyLoaded = false;
    this.policy.prepareSwitchToHost();
  }
}
