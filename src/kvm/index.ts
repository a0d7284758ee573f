export type { CpuidEntry } from "./cpuid-entries.ts";
export { KvmError } from "./errors.ts";
export type { KvmExit } from "./exit.ts";
export { Host, type HostOptions } from "./host.ts";
export { ARCH_GET_CPUID, ARCH_SET_CPUID, HostCpu, type MsrHardware } from "./host-cpu.ts";
export { addHostCpu, selectHostCpu } from "./host-cpus.ts";
export { HostTask } from "./host-task.ts";
export {
  KVM_CAP_DISABLE_QUIRKS,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_MSR_PLATFORM_INFO,
  Kvm,
  type KvmOptions,
  Vm,
} from "./kvm.ts";
export { KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY, type UserMemoryRegion } from "./memory-slots.ts";
export type { MsrEntry } from "./msr-ioctl.ts";
export { REGISTER_NAMES, type Regs, type Sregs } from "./registers.ts";
export type { RunBounds } from "./run.ts";
export { SCHEDULE_POINTS, type SchedulePoint } from "./schedule.ts";
export type { DescriptorTable, Segment } from "./segments.ts";
export { vmxSwitchVmcs } from "./switch.ts";
export { VcpuVmx } from "./vcpu.ts";
export { Vcpu } from "./vcpu-api.ts";
export { KERNEL_VERSIONS, type KernelVersion } from "./version.ts";
export { exitReasonName } from "./vmcs-controls.ts";
