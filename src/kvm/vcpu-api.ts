import type { Policy, PolicyOptions } from "../policy/index.ts";
import { PolicySwitch, upstream } from "../policy/index.ts";
import {
  CPUID_ENTRY,
  checkBounds,
  checkBytes,
  checkEach,
  checkStruct,
  checkU64,
  checkUint,
  checkWords,
  MSR_ENTRY,
  REGS,
  SREGS,
  VCPU_EVENTS,
} from "./args.ts";
import { addAtomicSwitchMsr, clearAtomicSwitchMsr } from "./atomic-switch.ts";
import type { CpuidEntry } from "./cpuid-entries.ts";
import { dumpVmcs } from "./dump-vmcs.ts";
import { Errno, KvmError } from "./errors.ts";
import { kvmQueueInterrupt } from "./events.ts";
import type { KvmExit } from "./exit.ts";
import { type GuestDebug, setGuestDebug } from "./guest-debug.ts";
import { kvmApicAcceptEvents } from "./halt.ts";
import { KVM_APIC_REG_SIZE } from "./irqchip-state.ts";
import { KernelApic } from "./kernel-apic.ts";
import {
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
} from "./lapic.ts";
import { kvmGvaToGpa } from "./mmu.ts";
import { MSR_IA32_TSC } from "./msr-common.ts";
import { ioctlGetMsrs, ioctlSetMsrs, type MsrEntry } from "./msr-ioctl.ts";
import { vmxSetMsr } from "./msr-vmx.ts";
import { KVM_X86_QUIRK_LINT0_REENABLED } from "./quirks.ts";
import {
  getDebugRegs,
  getRegs,
  getSregs,
  getSregs2,
  type Regs,
  type Sregs,
  type Sregs2,
  setDebugRegs,
  setRegs,
  setSregs,
  setSregs2,
} from "./registers.ts";
import { ioctlRun, type RunBounds, type RunSteps, readyForInterruptInjection } from "./run.ts";
import { type RunAsyncOptions, runInSlices } from "./run-async.ts";
import { kvmExitName, type RunPage } from "./run-page.ts";
import { vcpuLoad, vcpuPut } from "./switch.ts";
import { checkTscKhz, hostTickOfTsc, kvmSetTscKhz } from "./tsc.ts";
import { unsupported } from "./unsupported.ts";
import { VcpuVmx, type VmState } from "./vcpu.ts";
import { getVcpuEvents, setVcpuEvents, type VcpuEvents } from "./vcpu-events.ts";
import { initialPlatformInfo, vmxVcpuReset, vmxVcpuSetup } from "./vmcs-setup.ts";

/** Offset of the ID register of struct kvm_lapic_state. */
const APIC_ID = 0x20;

/** struct kvm_translation. */
export interface Translation {
  readonly linearAddress: bigint;
  /** All ones where there is no translation. */
  readonly physicalAddress: bigint;
  readonly valid: number;
  readonly writeable: number;
  readonly usermode: number;
}

/** A vCPU. Every call but the constructor is one vcpu_load and one vcpu_put, as an ioctl is. */
export class Vcpu {
  /** The kernel's own structure, for tests and reports. */
  readonly vmx: VcpuVmx;
  #running = false;

  constructor(vm: VmState, id: number, policy: Policy, options: Partial<PolicyOptions>) {
    const vcpu = new VcpuVmx(vm, id);
    this.vmx = vcpu;
    const { host } = vm;
    const face = {
      rdmsrl: (index: number): bigint => {
        const value = host.cpu.rdmsrl(index, "policy");
        host.trace?.({ name: "host_msr", write: false, value, cause: "policy" });
        return value;
      },
      wrmsrl: (index: number, value: bigint): void => {
        host.trace?.({ name: "host_msr", write: true, value, cause: "policy" });
        host.cpu.wrmsrl(index, value, "policy");
      },
      get shadow(): bigint {
        return host.cpu.msrMiscFeaturesShadow;
      },
      get loaded(): boolean {
        return vcpu.switching?.policyLoaded ?? false;
      },
      get snapshot(): bigint {
        return host.cpu.snapshot;
      },
      get cpu(): object {
        return host.cpu;
      },
      addAtomicSwitchMsr: (index: number, guest: bigint, value: bigint): void =>
        addAtomicSwitchMsr(vcpu, index, guest, value),
      clearAtomicSwitchMsr: (): void => clearAtomicSwitchMsr(vcpu),
      onUserReturn: (notifier: () => void): void => host.cpu.onUserReturn(notifier),
    };
    // without the feature there is nothing to switch
    const active = host.cpu.cpuidFault ? policy : upstream;
    const chosen = { ...active.defaults, ...options };
    vcpu.switching = new PolicySwitch(active.attach(face, chosen), chosen.switchPoint ?? "prepare");
    host.vmx.vmclear(vcpu.loadedVmcs.address);
    this.#ioctl(() => {
      vmxVcpuSetup(vcpu);
      vmxVcpuReset(vcpu);
      vcpu.arch.msrPlatformInfo = initialPlatformInfo(vcpu);
      if (vm.irqchip !== undefined) {
        vcpu.apic = new KernelApic(vm.irqchip, {
          id,
          virtualWire: !(vm.disabledQuirks & KVM_X86_QUIRK_LINT0_REENABLED),
          nmi: () => this.nmi(),
          tickOfTsc: (tsc) => hostTickOfTsc(vcpu, tsc),
        });
        if (id !== 0) vcpu.arch.mpState = KVM_MP_STATE_UNINITIALIZED;
      }
      kvmSetTscKhz(vcpu, vm.defaultTscKhz);
      // the guest's TSC starts at 0. @kvm kvm_arch_vcpu_postcreate
      vmxSetMsr(vcpu, { index: MSR_IA32_TSC, data: 0n, hostInitiated: true });
    });
  }

  #ioctl<T>(body: () => T): T {
    if (this.#running) throw new KvmError("ioctl", "EBUSY", "the vCPU is running");
    vcpuLoad(this.vmx);
    try {
      return body();
    } finally {
      vcpuPut(this.vmx);
      this.vmx.host.cpu.returnToUser();
    }
  }

  /** struct kvm_run and the data of port I/O, as user space maps them; run() returns a typed view of its exit. */
  get runPage(): RunPage {
    return this.vmx.run;
  }

  /** KVM_RUN. "io" of direction "in" and "mmio" reads want their data filled before the next call. */
  run(bounds: RunBounds = {}): KvmExit {
    const steps = this.runSteps(bounds);
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  }

  /**
   * KVM_RUN in slices of `bounds.slice` work units, for callers that must not block; next(n) sets the size of the next, next(0n) stops with "intr".
   * Until it is done the vCPU is in the guest and takes no other call. Slices change nothing that is counted.
   */
  *runSteps(bounds: RunBounds = {}): RunSteps<KvmExit> {
    checkBounds({ ...bounds });
    if (this.#running) throw new KvmError("KVM_RUN", "EBUSY", "the vCPU is running");
    this.#running = true;
    try {
      yield* ioctlRun(this.vmx, bounds);
    } catch (error) {
      if (error instanceof KvmError) this.#traceUserExit(error.errno);
      throw error;
    } finally {
      this.#running = false;
    }
    const exit = this.vmx.userExit;
    if (exit === undefined) throw new Error("KVM_RUN came back without an exit reason");
    this.vmx.run.writeExit(exit);
    this.#traceUserExit(exit.reason === "intr" ? Errno.EINTR : 0);
    return exit;
  }

  /** @kvm kvm_vcpu_ioctl */
  #traceUserExit(error: number): void {
    const reason = this.vmx.run.exitReason;
    this.vmx.host.trace?.({ name: "kvm_userspace_exit", reason, reasonName: kvmExitName(reason), error });
  }

  /** KVM_RUN that leaves the event loop alive; see run(). Until it resolves the vCPU takes no other call. */
  runAsync(options: RunAsyncOptions = {}): Promise<KvmExit> {
    return runInSlices((bounds) => this.runSteps(bounds), options);
  }

  /** The VMCS as text, as the kernel prints it when an entry fails. */
  dumpVmcs(): string {
    return this.#ioctl(() => dumpVmcs(this.vmx));
  }

  /** KVM_GET_REGS */
  getRegs(): Regs {
    return this.#ioctl(() => getRegs(this.vmx));
  }

  /** KVM_SET_REGS */
  setRegs(regs: Regs): void {
    checkStruct("KVM_SET_REGS", "", regs, REGS);
    this.#ioctl(() => setRegs(this.vmx, regs));
  }

  /** KVM_GET_SREGS */
  getSregs(): Sregs {
    return this.#ioctl(() => getSregs(this.vmx));
  }

  /** KVM_SET_SREGS; KvmError EINVAL where control registers contradict each other. */
  setSregs(sregs: Sregs): void {
    checkStruct("KVM_SET_SREGS", "", sregs, SREGS);
    checkWords("KVM_SET_SREGS", "interruptBitmap", sregs.interruptBitmap, 4);
    this.#ioctl(() => setSregs(this.vmx, sregs));
  }

  /** KVM_GET_SREGS2: with PAE paging the PDPTRs that the processor holds, which memory may have left behind. */
  getSregs2(): Sregs2 {
    return this.#ioctl(() => getSregs2(this.vmx));
  }

  /** KVM_SET_SREGS2; KvmError EINVAL as KVM_SET_SREGS, for unknown flags, and for PDPTRs without PAE paging. */
  setSregs2(sregs: Sregs2): void {
    checkStruct("KVM_SET_SREGS2", "", sregs, { ...SREGS, flags: 32 });
    checkWords("KVM_SET_SREGS2", "pdptrs", sregs.pdptrs, 4);
    this.#ioctl(() => setSregs2(this.vmx, sregs));
  }

  /** KVM_GET_DEBUGREGS: DR0-DR3, DR6, DR7. */
  getDebugRegs(): bigint[] {
    return this.#ioctl(() => getDebugRegs(this.vmx));
  }

  /** KVM_SET_DEBUGREGS: DR0-DR3, DR6, DR7; KvmError EINVAL for bits 63:32 of the last two. */
  setDebugRegs(regs: readonly bigint[]): void {
    checkWords("KVM_SET_DEBUGREGS", "the list", regs, 6);
    this.#ioctl(() => setDebugRegs(this.vmx, regs));
  }

  /** KVM_GET_VCPU_EVENTS */
  getVcpuEvents(): VcpuEvents {
    return this.#ioctl(() => getVcpuEvents(this.vmx));
  }

  /** KVM_SET_VCPU_EVENTS; `flags` says which parts are valid. KvmError EINVAL. */
  setVcpuEvents(events: VcpuEvents): void {
    checkStruct("KVM_SET_VCPU_EVENTS", "", events, VCPU_EVENTS);
    checkU64("KVM_SET_VCPU_EVENTS", "exception.payload", events.exception.payload ?? 0n);
    this.#ioctl(() => setVcpuEvents(this.vmx, events));
  }

  /** KVM_SET_GUEST_DEBUG: single steps and breakpoints end run() with "debug". KvmError EBUSY. */
  setGuestDebug(debug: GuestDebug): void {
    const call = "KVM_SET_GUEST_DEBUG";
    checkStruct(call, "", debug, { control: 32 });
    checkEach(call, "debugreg", debug.debugreg ?? [], (name, one) => checkU64(call, name, one ?? 0n));
    this.#ioctl(() => setGuestDebug(this.vmx, debug));
  }

  /** KVM_GET_MP_STATE: KVM_MP_STATE_*, always RUNNABLE without an in-kernel APIC. INIT and start-up IPIs are taken first. */
  getMpState(): number {
    return this.#ioctl(() => {
      kvmApicAcceptEvents(this.vmx);
      return this.vmx.arch.mpState;
    });
  }

  /** KVM_SET_MP_STATE; KvmError EINVAL for unknown states, and for all but RUNNABLE without an in-kernel APIC. */
  setMpState(state: number): void {
    const { apic, arch } = this.vmx;
    const known = Number.isInteger(state) && state >= KVM_MP_STATE_RUNNABLE && state <= KVM_MP_STATE_SIPI_RECEIVED;
    if (!known) throw new KvmError("KVM_SET_MP_STATE", "EINVAL", `unknown state ${state}`);
    if (apic === undefined && state !== KVM_MP_STATE_RUNNABLE) {
      throw new KvmError("KVM_SET_MP_STATE", "EINVAL", `state ${state} needs an in-kernel APIC`);
    }
    this.#ioctl(() => {
      arch.mpState = state === KVM_MP_STATE_SIPI_RECEIVED ? KVM_MP_STATE_INIT_RECEIVED : state;
      if (apic !== undefined && state === KVM_MP_STATE_SIPI_RECEIVED) apic.sipiVector ??= 0;
    });
  }

  #apic(call: string): KernelApic {
    const { apic } = this.vmx;
    if (apic === undefined) throw new KvmError(call, "EINVAL", "there is no in-kernel APIC");
    return apic;
  }

  /** KVM_GET_LAPIC: 1 KiB of registers, 16 bytes apart. KvmError EINVAL without an in-kernel APIC. */
  getLapic(): Uint8Array {
    const apic = this.#apic("KVM_GET_LAPIC");
    return this.#ioctl(() => {
      const registers = apic.device.registers();
      // the ID is in xAPIC's place whatever the mode. @kvm kvm_apic_state_fixup
      if (apic.device.x2apic) new DataView(registers.buffer).setUint32(APIC_ID, this.vmx.id << 24, true);
      return registers;
    });
  }

  /** KVM_SET_LAPIC: what KVM_GET_LAPIC gave. KvmError EINVAL. */
  setLapic(registers: Uint8Array): void {
    const apic = this.#apic("KVM_SET_LAPIC");
    checkBytes("KVM_SET_LAPIC", "the argument", registers);
    if (registers.length !== KVM_APIC_REG_SIZE) {
      throw new KvmError("KVM_SET_LAPIC", "EINVAL", `${registers.length} bytes instead of ${KVM_APIC_REG_SIZE}`);
    }
    this.#ioctl(() => apic.device.setRegisters(registers));
  }

  /** KVM_GET_TSC_KHZ */
  getTscKhz(): number {
    return this.vmx.arch.virtualTscKhz;
  }

  /**
   * KVM_SET_TSC_KHZ, from 0 (the host's own) to 2^31 - 2. The offset stays: set MSR 0x10 afterwards. KvmError EINVAL for
   * a frequency that needs TSC scaling on a processor without it.
   */
  setTscKhz(khz: number): void {
    const checked = checkTscKhz(khz);
    this.#ioctl(() => kvmSetTscKhz(this.vmx, checked));
  }

  /** KVM_GET_MSRS: the entries before the first that cannot be read. */
  getMsrs(indices: readonly number[]): MsrEntry[] {
    checkEach("KVM_GET_MSRS", "indices", indices, (name, one) => checkUint("KVM_GET_MSRS", name, one, 32));
    return this.#ioctl(() => ioctlGetMsrs(this.vmx, indices));
  }

  /** KVM_SET_MSRS: how many were set; it stops at the first refusal. */
  setMsrs(entries: readonly MsrEntry[]): number {
    checkEach("KVM_SET_MSRS", "entries", entries, (name, one) => checkStruct("KVM_SET_MSRS", name, one, MSR_ENTRY));
    return this.#ioctl(() => ioctlSetMsrs(this.vmx, entries));
  }

  /** KVM_SET_CPUID2 */
  setCpuid2(entries: readonly CpuidEntry[]): void {
    checkEach("KVM_SET_CPUID2", "entries", entries, (name, one) =>
      checkStruct("KVM_SET_CPUID2", name, one, CPUID_ENTRY),
    );
    if (entries.length > 256) throw new KvmError("KVM_SET_CPUID2", "E2BIG", `${entries.length} entries`);
    const { arch, vm } = this.vmx;
    const changed = JSON.stringify(entries) !== JSON.stringify(arch.cpuid);
    if (vm.rules.featureMsrs && arch.hasRun && changed) {
      throw new KvmError("KVM_SET_CPUID2", "EINVAL", "CPUID is frozen by the first KVM_RUN");
    }
    this.#ioctl(() => {
      this.vmx.arch.cpuid = entries.map((entry) => ({ ...entry }));
    });
  }

  /** KVM_GET_CPUID2 */
  getCpuid2(): readonly CpuidEntry[] {
    return this.vmx.arch.cpuid;
  }

  /** KVM_INTERRUPT: the vector goes in at the next entry; see readyForInterruptInjection of the run page. */
  interrupt(vector: number): void {
    checkUint("KVM_INTERRUPT", "the vector", vector, 8);
    const { apic, vm } = this.vmx;
    if (vm.irqchip?.pic !== undefined) {
      throw new KvmError("KVM_INTERRUPT", "ENXIO", "the 8259s are in the kernel: use KVM_IRQ_LINE");
    }
    if (apic !== undefined) {
      if (apic.externalVector >= 0) throw new KvmError("KVM_INTERRUPT", "EEXIST", "an interrupt waits already");
      apic.externalVector = vector;
      return;
    }
    this.#ioctl(() => kvmQueueInterrupt(this.vmx, vector, false));
  }

  /** KVM_SMI. Unsupported: KvmError ENOTTY. */
  smi(): never {
    return unsupported("KVM_SMI");
  }

  /** KVM_GET_NESTED_STATE. Unsupported: KvmError ENOTTY. */
  getNestedState(): never {
    return unsupported("KVM_GET_NESTED_STATE");
  }

  /** KVM_SET_NESTED_STATE. Unsupported: KvmError ENOTTY. */
  setNestedState(_state: unknown): never {
    return unsupported("KVM_SET_NESTED_STATE");
  }

  /** KVM_GET_FPU. Unsupported: KvmError ENOTTY. */
  getFpu(): never {
    return unsupported("KVM_GET_FPU");
  }

  /** KVM_SET_FPU. Unsupported: KvmError ENOTTY. */
  setFpu(_fpu: unknown): never {
    return unsupported("KVM_SET_FPU");
  }

  /** KVM_NMI */
  nmi(): void {
    this.vmx.arch.nmiPending = Math.min(2, this.vmx.arch.nmiPending + 1);
  }

  /** kvm_run.request_interrupt_window */
  set requestInterruptWindow(value: boolean) {
    this.vmx.run.requestInterruptWindow = value;
  }

  /** kvm_run.ready_for_interrupt_injection */
  get readyForInterruptInjection(): boolean {
    return this.#ioctl(() => readyForInterruptInjection(this.vmx));
  }

  /** KVM_TRANSLATE with all fields of struct kvm_translation. */
  translateFull(linearAddress: bigint): Translation {
    const physical = this.translate(linearAddress);
    const physicalAddress = physical ?? 0xffff_ffff_ffff_ffffn;
    return { linearAddress, physicalAddress, valid: physical === undefined ? 0 : 1, writeable: 1, usermode: 0 };
  }

  /** KVM_TRANSLATE: undefined where the guest's tables have no translation. */
  translate(gva: bigint): bigint | undefined {
    checkU64("KVM_TRANSLATE", "the linear address", gva);
    const walk = this.#ioctl(() => kvmGvaToGpa(this.vmx, gva));
    return "gpa" in walk ? walk.gpa : undefined;
  }
}
