import type { PolicySwitch } from "../policy/index.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import type { EptTables } from "./ept.ts";
import type { KvmExit } from "./exit.ts";
import type { Host } from "./host.ts";
import type { IrqChip } from "./irqchip.ts";
import type { KernelApic } from "./kernel-apic.ts";
import type { MemorySlots } from "./memory-slots.ts";
import type { MsrFilter } from "./msr-filter.ts";
import type { AtomicSwitch, ResidentVcpu, SavedRegisters } from "./resident.ts";
import { RunPage } from "./run-page.ts";
import { DEFAULT_TSC_RATIO, TSC_KHZ } from "./tsc-ratio.ts";
import type { KernelRules } from "./version.ts";
import { Field } from "./vmcs-fields.ts";

/** struct kvm of one VM, what the vCPU's paths need of it. */
export interface VmState {
  readonly host: Host;
  readonly rules: KernelRules;
  readonly slots: MemorySlots;
  readonly ept: EptTables;
  /** kvm->arch.vpic, vioapic, vpit and the local APICs' bus. */
  irqchip: IrqChip | undefined;
  /** kvm->arch.default_tsc_khz */
  defaultTscKhz: number;
  /** kvm->arch.guest_can_read_msr_platform_info */
  guestCanReadPlatformInfo: boolean;
  /** kvm->arch.disabled_quirks */
  disabledQuirks: number;
  /** kvm->arch.user_space_msr_mask: refused accesses that exit to user space. */
  userSpaceMsrMask: number;
  /** kvm->arch.msr_filter */
  msrFilter: MsrFilter | undefined;
  /** kvm->manual_dirty_log_protect */
  manualDirtyLogProtect: number;
  /** kvm->arch.exception_payload_enabled */
  exceptionPayload: boolean;
  /** kvm->arch.triple_fault_event */
  tripleFaultEvent: boolean;
}

export interface QueuedException {
  pending: boolean;
  injected: boolean;
  nr: number;
  hasErrorCode: boolean;
  errorCode: number;
  /** #DB: DR6 bits. */
  payload: bigint;
  /** Who raised it: KVM, or the processor, whose delivery an exit interrupted. */
  source: "kvm" | "hardware";
}

/** struct kvm_vcpu_arch, as far as it is built. */
export class VcpuArch {
  cr0 = 0n;
  cr4 = 0n;
  cr8 = 0n;
  efer = 0n;
  apicBase = 0n;
  /** KVM_MP_STATE_* */
  mpState = 0;
  /** What the VMCS has as TSC offset. */
  tscOffset = 0n;
  /** What the VMCS has as TSC multiplier: 48 bits of fraction. */
  tscScalingRatio = DEFAULT_TSC_RATIO;
  /** Frequency that KVM_SET_TSC_KHZ gave last, in kHz. */
  virtualTscKhz = TSC_KHZ;
  msrPlatformInfo = 0n;
  msrMiscFeaturesEnables = 0n;
  pat = 0x0007_0406_0007_0406n;
  miscEnable = 1n;
  microcodeVersion = 0x1_0000_0000n;
  featureControl = 0n;
  /** MSRs that are only stored: MTRRs, TSC_ADJUST and the like. */
  readonly stored = new Map<number, bigint>();
  readonly exception: QueuedException = {
    pending: false,
    injected: false,
    nr: 0,
    hasErrorCode: false,
    errorCode: 0,
    payload: 0n,
    source: "kvm",
  };
  readonly interrupt = { injected: false, nr: 0, soft: false };
  nmiPending = 0;
  nmiInjected = false;
  /** Length of the instruction that raised a software event. */
  eventExitInstLen = 0;
  /** vcpu->guest_debug: KVM_GUESTDBG_*. */
  guestDebug = 0;
  /** Linear RIP at which single stepping was turned on. */
  singlestepRip = 0n;
  /** The guest's own DR0-DR3 and DR7 while user space's breakpoints are in the hardware. */
  hiddenDebugRegs: { db: bigint[]; dr7: bigint } | undefined;
  smm = false;
  cpuid: readonly CpuidEntry[] = [];
  tripleFault = false;
  /** Has KVM_RUN been called? Freezes feature MSRs from 6.x on. */
  hasRun = false;
  /** Finishes the last exit to user space at the next KVM_RUN. False: `userExit` holds another one. */
  completeUserspaceIo: (() => boolean) | undefined;
}

/** struct vcpu_vmx. The paths around it are functions with the kernel's names. */
export class VcpuVmx implements ResidentVcpu {
  readonly arch = new VcpuArch();
  /** A syscall MSR changed since the last entry. */
  guestMsrsDirty = true;
  /** STAR, LSTAR, CSTAR, SYSCALL_MASK: shared with the host, switched lazily. */
  readonly guestMsrs = new Map<number, bigint>();
  /** loaded_vmcs */
  readonly loadedVmcs: { readonly address: bigint; launched: boolean };
  readonly vpid: number;
  /** Physical address of the MSR bitmap. */
  msrBitmap = 0n;
  saved: SavedRegisters | undefined;
  /** The in-kernel local APIC. */
  apic: KernelApic | undefined;
  exitReason = 0;
  exitIntrInfo = 0;
  idtVectoringInfo = 0;
  /** What the handler wants to tell user space. */
  userExit: KvmExit | undefined;
  /** struct kvm_run, shared with user space. */
  readonly run = new RunPage();
  /** Emulation of an instruction ended in a VM exit that is still to be handled. */
  exitPending = false;
  /** The policy and what it has switched; loaded_cpu_state. */
  switching!: PolicySwitch;
  /** MSR-load lists, once a policy uses them. */
  atomicSwitch: AtomicSwitch | undefined;
  /** KVM_RUN has yielded because there was nothing to do; see RunBounds. */
  waiting = false;
  /** Instructions completed in KVM_RUN calls that have ended. */
  instructions = 0n;
  /** Instructions, deliveries and exits of those calls. */
  work = 0n;
  /** Entries with a host bit of 0x140 acting in the guest, by bit. */
  readonly leaks = { faulting: 0, ring3mwait: 0 };

  constructor(
    readonly vm: VmState,
    readonly id: number,
  ) {
    this.loadedVmcs = { address: vm.host.vmcsRegion(), launched: false };
    this.vpid = vm.host.allocateVpid();
  }

  get host(): Host {
    return this.vm.host;
  }

  vmread(field: number): bigint {
    return this.vm.host.vmx.vmread(field);
  }

  vmread32(field: number): number {
    return this.vm.host.vmx.vmread32(field);
  }

  vmwrite(field: number, value: bigint | number): void {
    this.vm.host.vmx.vmwrite(field, value);
  }

  /** General register by number; RSP is in the VMCS. Only while the vCPU is loaded. */
  gpr(index: number): bigint {
    return index === 4 ? this.vmread(Field.GUEST_RSP) : this.host.core.gpr(index);
  }

  setGpr(index: number, value: bigint): void {
    if (index === 4) this.vmwrite(Field.GUEST_RSP, value);
    else this.host.core.setGpr(index, value);
  }

  get rip(): bigint {
    return this.vmread(Field.GUEST_RIP);
  }

  set rip(value: bigint) {
    this.vmwrite(Field.GUEST_RIP, value);
  }
}
