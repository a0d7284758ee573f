// Calls and capabilities of the kernel that are not here, and why.
import { KvmError } from "./errors.ts";

const FPU = "x87, MMX, SSE and AVX instructions are not built";
const NESTED = "guests of Kvm see no VMX; a guest hypervisor runs on Machine";
const FILES = "needs file descriptors: call the VMM's code instead";
const PV = "no paravirtual interface is offered to guests";
const SMM = "system-management mode is not built";
const CONFIDENTIAL = "encrypted guests are not built";
const XEN = "Xen's interface is not built";
const HYPERV = "Hyper-V's interface is not built";
const EPT_ONLY = "EPT makes the pages it needs, there are no shadow pages";
const MCE = "machine checks never come";

/** Ioctls without a method, and why. Those that a small VMM may call have a method that throws. */
export const UNSUPPORTED_IOCTLS: Readonly<Record<string, string>> = {
  KVM_GET_EMULATED_CPUID: "the processor runs what KVM would emulate: KVM_GET_SUPPORTED_CPUID has all",
  KVM_SET_NR_MMU_PAGES: EPT_ONLY,
  KVM_GET_NR_MMU_PAGES: EPT_ONLY,
  KVM_SET_USER_MEMORY_REGION2: "guest_memfd is not built",
  KVM_CREATE_PIT: "superseded by KVM_CREATE_PIT2",
  KVM_GET_PIT: "superseded by KVM_GET_PIT2",
  KVM_SET_PIT: "superseded by KVM_SET_PIT2",
  KVM_REGISTER_COALESCED_MMIO: "every access exits",
  KVM_UNREGISTER_COALESCED_MMIO: "every access exits",
  KVM_IRQFD: FILES,
  KVM_SET_BOOT_CPU_ID: "vCPU 0 is the boot processor",
  KVM_IOEVENTFD: FILES,
  KVM_XEN_HVM_CONFIG: XEN,
  KVM_SET_CLOCK: PV,
  KVM_GET_CLOCK: PV,
  KVM_SET_PMU_EVENT_FILTER: "there are no performance counters",
  KVM_CREATE_DEVICE: "x86 has no devices of this kind that are built",
  KVM_SET_DEVICE_ATTR: "there are no device attributes",
  KVM_GET_DEVICE_ATTR: "there are no device attributes",
  KVM_HAS_DEVICE_ATTR: "there are no device attributes",
  KVM_SET_CPUID: "superseded by KVM_SET_CPUID2",
  KVM_SET_SIGNAL_MASK: "there are no signals: an AbortSignal, immediate_exit or runSteps' 0 stops a run",
  KVM_GET_FPU: FPU,
  KVM_SET_FPU: FPU,
  KVM_GET_XSAVE: FPU,
  KVM_SET_XSAVE: FPU,
  KVM_GET_XSAVE2: FPU,
  KVM_GET_XCRS: FPU,
  KVM_SET_XCRS: FPU,
  KVM_TPR_ACCESS_REPORTING: "for 32-bit Windows XP on hosts without a virtual APIC",
  KVM_SET_VAPIC_ADDR: "for 32-bit Windows XP on hosts without a virtual APIC",
  KVM_X86_SETUP_MCE: MCE,
  KVM_X86_GET_MCE_CAP_SUPPORTED: MCE,
  KVM_X86_SET_MCE: MCE,
  KVM_GET_ONE_REG: "x86 has registers of this kind since 6.18 only, for shadow stacks, which are not built",
  KVM_SET_ONE_REG: "x86 has registers of this kind since 6.18 only, for shadow stacks, which are not built",
  KVM_GET_REG_LIST: "x86 has registers of this kind since 6.18 only, for shadow stacks, which are not built",
  KVM_KVMCLOCK_CTRL: PV,
  KVM_SMI: SMM,
  KVM_MEMORY_ENCRYPT_OP: CONFIDENTIAL,
  KVM_MEMORY_ENCRYPT_REG_REGION: CONFIDENTIAL,
  KVM_MEMORY_ENCRYPT_UNREG_REGION: CONFIDENTIAL,
  KVM_HYPERV_EVENTFD: HYPERV,
  KVM_GET_NESTED_STATE: NESTED,
  KVM_SET_NESTED_STATE: NESTED,
  KVM_GET_SUPPORTED_HV_CPUID: HYPERV,
  KVM_RESET_DIRTY_RINGS: "the dirty log is a bitmap: KVM_GET_DIRTY_LOG",
  KVM_XEN_HVM_GET_ATTR: XEN,
  KVM_XEN_HVM_SET_ATTR: XEN,
  KVM_XEN_VCPU_GET_ATTR: XEN,
  KVM_XEN_VCPU_SET_ATTR: XEN,
  KVM_XEN_HVM_EVTCHN_SEND: XEN,
  KVM_GET_STATS_FD: "kvm.host.ledger has the statistics",
  KVM_SET_MEMORY_ATTRIBUTES: CONFIDENTIAL,
  KVM_CREATE_GUEST_MEMFD: CONFIDENTIAL,
  KVM_PRE_FAULT_MEMORY: "an EPT violation costs nothing that a guest could see",
};

/** Throws what the kernel gives for an ioctl that it was built without. */
export function unsupported(call: string): never {
  throw new KvmError(call, "ENOTTY", `unsupported: ${UNSUPPORTED_IOCTLS[call] ?? "not built"}`);
}

/** Capabilities that programs ask for and KVM_CHECK_EXTENSION denies, and why. */
export const ABSENT_CAPABILITIES: readonly {
  readonly number: number;
  readonly name: string;
  readonly why: string;
}[] = [
  { number: 2, name: "KVM_CAP_MMU_SHADOW_CACHE_CONTROL", why: EPT_ONLY },
  { number: 6, name: "KVM_CAP_VAPIC", why: "KVM_TPR_ACCESS_REPORTING is not built" },
  { number: 8, name: "KVM_CAP_CLOCKSOURCE", why: PV },
  { number: 11, name: "KVM_CAP_PIT", why: "KVM_CREATE_PIT is not built, KVM_CREATE_PIT2 is" },
  { number: 15, name: "KVM_CAP_COALESCED_MMIO", why: "every access exits" },
  { number: 31, name: "KVM_CAP_MCE", why: MCE },
  { number: 32, name: "KVM_CAP_IRQFD", why: FILES },
  { number: 34, name: "KVM_CAP_SET_BOOT_CPU_ID", why: "vCPU 0 is the boot processor" },
  { number: 36, name: "KVM_CAP_IOEVENTFD", why: FILES },
  { number: 38, name: "KVM_CAP_XEN_HVM", why: XEN },
  { number: 39, name: "KVM_CAP_ADJUST_CLOCK", why: PV },
  { number: 44, name: "KVM_CAP_HYPERV", why: HYPERV },
  { number: 55, name: "KVM_CAP_XSAVE", why: FPU },
  { number: 56, name: "KVM_CAP_XCRS", why: FPU },
  { number: 59, name: "KVM_CAP_ASYNC_PF", why: PV },
  { number: 89, name: "KVM_CAP_DEVICE_CTRL", why: "KVM_CREATE_DEVICE is not built" },
  { number: 117, name: "KVM_CAP_X86_SMM", why: SMM },
  { number: 118, name: "KVM_CAP_MULTI_ADDRESS_SPACE", why: SMM },
  { number: 129, name: "KVM_CAP_X2APIC_API", why: "APIC IDs above 255 are not built" },
  { number: 143, name: "KVM_CAP_X86_DISABLE_EXITS", why: "HLT, MWAIT and PAUSE of a guest never own a host CPU" },
  { number: 157, name: "KVM_CAP_NESTED_STATE", why: NESTED },
  { number: 173, name: "KVM_CAP_PMU_EVENT_FILTER", why: "there are no performance counters" },
  { number: 192, name: "KVM_CAP_DIRTY_LOG_RING", why: "the dirty log is a bitmap" },
  { number: 193, name: "KVM_CAP_X86_BUS_LOCK_EXIT", why: "the processor has no bus-lock detection" },
  { number: 203, name: "KVM_CAP_BINARY_STATS_FD", why: "kvm.host.ledger has the statistics" },
  { number: 208, name: "KVM_CAP_XSAVE2", why: FPU },
  { number: 219, name: "KVM_CAP_X86_NOTIFY_VMEXIT", why: "the processor has no notify exits" },
  { number: 231, name: "KVM_CAP_USER_MEMORY2", why: "guest_memfd is not built" },
  { number: 232, name: "KVM_CAP_MEMORY_FAULT_INFO", why: "guest_memfd is not built" },
  { number: 236, name: "KVM_CAP_PRE_FAULT_MEMORY", why: "an EPT violation costs nothing that a guest could see" },
];
