import { TSC_RATIO } from "../../assembly/abi/state.ts";
import { earlier } from "../devices/index.ts";
import { vmxInterruptAllowed, vmxNmiAllowed } from "./events.ts";
import { KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_RUNNABLE, kvmCpuHasInterrupt } from "./lapic.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { kvmSetSegmentForSipi, vmxVcpuReset } from "./vmcs-setup.ts";

const NEVER = 1n << 62n;
/** Expiries of timers that may pass without an interrupt for this vCPU before it counts as idle. */
const SILENT_EXPIRIES = 10_000;

/** INIT and start-up IPIs that have come. @kvm kvm_apic_accept_events */
export function kvmApicAcceptEvents(vcpu: VcpuVmx): void {
  const { apic, arch } = vcpu;
  if (apic === undefined) return;
  if (apic.initPending) {
    apic.initPending = false;
    vmxVcpuReset(vcpu, true);
    apic.device.initialize();
    arch.mpState = vcpu.id === 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
  }
  const vector = apic.sipiVector;
  if (vector === undefined) return;
  apic.sipiVector = undefined;
  if (arch.mpState !== KVM_MP_STATE_INIT_RECEIVED) return;
  kvmSetSegmentForSipi(vcpu, vector);
  arch.mpState = KVM_MP_STATE_RUNNABLE;
}

/** @kvm kvm_vcpu_has_events */
export function kvmVcpuHasEvents(vcpu: VcpuVmx): boolean {
  const { apic, arch } = vcpu;
  if (apic?.initPending || apic?.sipiVector !== undefined || arch.exception.pending) return true;
  if (arch.nmiInjected || (arch.nmiPending > 0 && vmxNmiAllowed(vcpu))) return true;
  return vmxInterruptAllowed(vcpu) && kvmCpuHasInterrupt(vcpu);
}

/** May something wake a vCPU that waits? A look that needs no VMCS, so the vCPU need not be loaded. @kvm kvm_vcpu_wake_up */
export function kvmMayWake(vcpu: VcpuVmx): boolean {
  const { apic, arch } = vcpu;
  if (apic?.initPending || apic?.sipiVector !== undefined || arch.exception.pending || arch.nmiPending > 0) return true;
  return arch.mpState === KVM_MP_STATE_HALTED && kvmCpuHasInterrupt(vcpu);
}

/** Tick of the next timer of a VM's interrupt controllers. */
export function nextTimerOf({ irqchip }: VcpuVmx["vm"]): bigint | undefined {
  return irqchip?.apics.reduce((tick, apic) => earlier(tick, apic.next()), irqchip.pit?.next());
}

/** Count of the core at which the next timer of this vCPU is due: the guest must leave there. */
export function timerCount({ apic, vm, host }: VcpuVmx): bigint {
  if (apic === undefined) return NEVER;
  const tick = earlier(apic.device.next(), vm.irqchip?.pit?.next());
  if (tick === undefined) return NEVER;
  const { core } = host;
  const ratio = BigInt(core.read32(TSC_RATIO));
  const left = tick - core.tsc;
  return core.count + (left > 0n ? (left + ratio - 1n) / ratio : 0n);
}

/** Tick of the next timer that could wake this vCPU. */
function nextTimer(vcpu: VcpuVmx): bigint | undefined {
  const { apic, vm } = vcpu;
  if (apic === undefined || !vmxInterruptAllowed(vcpu)) return undefined;
  const pit = vm.irqchip?.pitHeard(apic.device) ? vm.irqchip.pit?.next() : undefined;
  return earlier(apic.device.next(), pit);
}

/**
 * A vCPU that waits. Time passes up to the timer that wakes it, at once. False: nothing that is set will ever wake it.
 * @kvm vcpu_block, kvm_vcpu_halt
 */
export function vcpuBlock(vcpu: VcpuVmx): boolean {
  const chip = vcpu.vm.irqchip;
  chip?.sync();
  for (let expiries = 0; !kvmVcpuHasEvents(vcpu); expiries++) {
    const next = nextTimer(vcpu);
    if (next === undefined || expiries === SILENT_EXPIRIES) return false;
    chip?.skipTo(next);
  }
  vcpu.host.ledger.count("halt_wakeup");
  kvmApicAcceptEvents(vcpu);
  if (vcpu.arch.mpState === KVM_MP_STATE_HALTED) vcpu.arch.mpState = KVM_MP_STATE_RUNNABLE;
  return true;
}
