export { GPR_NAMES } from "../core/index.ts";
export {
  CAPABILITIES,
  type Capability,
  KVM_CAP_DISABLE_QUIRKS,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_EXCEPTION_PAYLOAD,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CAP_MSR_PLATFORM_INFO,
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CAP_X86_TRIPLE_FAULT_EVENT,
  KVM_CAP_X86_USER_SPACE_MSR,
} from "./capabilities.ts";
export type { CpuidEntry } from "./cpuid-entries.ts";
export type { ClearDirtyLog } from "./dirty-log.ts";
export { KvmError } from "./errors.ts";
export { KVM_GUESTDBG_BLOCKIRQ } from "./events.ts";
export type { KvmExit, MsrExit } from "./exit.ts";
export {
  type GuestDebug,
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_INJECT_DB,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
  KVM_GUESTDBG_USE_SW_BP,
} from "./guest-debug.ts";
export { kvmMayWake, nextTimerOf } from "./halt.ts";
export { Host, type HostOptions } from "./host.ts";
export { ARCH_GET_CPUID, ARCH_SET_CPUID, HostCpu, type MsrHardware } from "./host-cpu.ts";
export { addHostCpu, selectHostCpu } from "./host-cpus.ts";
export { HostTask } from "./host-task.ts";
export type { GsiRoute, Msi } from "./irqchip.ts";
export type {
  IoapicState,
  IrqchipState,
  PicState,
} from "./irqchip-state.ts";
export {
  KVM_PIT_FLAGS_SPEAKER_DATA_ON,
  KVM_PIT_SPEAKER_DUMMY,
  type PitChannelState,
  type PitState2,
} from "./kernel-pit.ts";
export { Kvm, type KvmOptions } from "./kvm.ts";
export {
  KVM_MP_STATE_HALTED,
  KVM_MP_STATE_INIT_RECEIVED,
  KVM_MP_STATE_RUNNABLE,
  KVM_MP_STATE_SIPI_RECEIVED,
  KVM_MP_STATE_UNINITIALIZED,
} from "./lapic.ts";
export { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, type UserMemoryRegion } from "./memory-slots.ts";
export { KVM_MSR_EXIT_REASON_FILTER, KVM_MSR_EXIT_REASON_INVAL, KVM_MSR_EXIT_REASON_UNKNOWN } from "./msr-exits.ts";
export {
  KVM_MSR_FILTER_DEFAULT_DENY,
  KVM_MSR_FILTER_READ,
  KVM_MSR_FILTER_WRITE,
  type MsrFilter,
  type MsrFilterRange,
} from "./msr-filter.ts";
export type { MsrEntry } from "./msr-ioctl.ts";
export { KVM_SREGS2_FLAGS_PDPTRS_VALID, type Regs, type Sregs, type Sregs2 } from "./registers.ts";
export type { RunBounds, RunSteps } from "./run.ts";
export type { RunAsyncOptions } from "./run-async.ts";
export { KVM_EXIT, RunPage } from "./run-page.ts";
export { SCHEDULE_POINTS, type SchedulePoint } from "./schedule.ts";
export type { DescriptorTable, Segment } from "./segments.ts";
export { vmxSwitchVmcs } from "./switch.ts";
export { ABSENT_CAPABILITIES, UNSUPPORTED_IOCTLS } from "./unsupported.ts";
export { VcpuVmx } from "./vcpu.ts";
export { type Translation, Vcpu } from "./vcpu-api.ts";
export type { VcpuEvents } from "./vcpu-events.ts";
export { KERNEL_VERSIONS, type KernelRules, type KernelVersion, kernelRules } from "./version.ts";
export { Vm } from "./vm.ts";
export { exitReasonName } from "./vmcs-controls.ts";
