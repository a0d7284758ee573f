import { KVM_GUESTDBG_VALID_MASK } from "./guest-debug.ts";
import { KVM_X86_VALID_QUIRKS } from "./quirks.ts";
import type { KernelRules } from "./version.ts";

/** One row a capability that KVM_CHECK_EXTENSION affirms. */
export interface Capability {
  readonly number: number;
  readonly name: string;
  /** What KVM_CHECK_EXTENSION answers; a number, or what depends on the kernel. */
  readonly value: number | ((rules: KernelRules) => number);
  /** Program of fixtures/kvm/programs.txt or test that shows it. */
  readonly proof: string;
}

export const KVM_CAP_USER_MEMORY = 3;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT = 166;
export const KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168;
export const KVM_CAP_DISABLE_QUIRKS = 116;
export const KVM_CAP_SPLIT_IRQCHIP = 121;
export const KVM_CAP_MSR_PLATFORM_INFO = 159;
export const KVM_CAP_EXCEPTION_PAYLOAD = 164;
export const KVM_CAP_X86_USER_SPACE_MSR = 188;
export const KVM_CAP_X86_MSR_FILTER = 189;
export const KVM_CAP_DISABLE_QUIRKS2 = 213;
export const KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218;

export const KVM_MAX_VCPUS = 1024;
export const KVM_MAX_VCPU_IDS: number = KVM_MAX_VCPUS * 4;
/** KVM_USER_MEM_SLOTS of x86: 32767 since 5.10, 509 before. */
export const memSlots = (rules: KernelRules): number => (rules.userSpaceMsr ? 32764 : 509);

const modern =
  (value: number) =>
  (rules: KernelRules): number =>
    rules.userSpaceMsr ? value : 0;

export const CAPABILITIES: readonly Capability[] = [
  { number: 0, name: "KVM_CAP_IRQCHIP", value: 1, proof: "irqchip-initial" },
  { number: 1, name: "KVM_CAP_HLT", value: 1, proof: "halt-then-interrupt" },
  { number: 3, name: "KVM_CAP_USER_MEMORY", value: 1, proof: "exits.test.ts: memory slots" },
  { number: 4, name: "KVM_CAP_SET_TSS_ADDR", value: 1, proof: "api.test.ts: KVM_SET_TSS_ADDR" },
  { number: 7, name: "KVM_CAP_EXT_CPUID", value: 1, proof: "cpuid records of kvm-real-results.json" },
  { number: 9, name: "KVM_CAP_NR_VCPUS", value: 1, proof: "api.test.ts: vCPU ids" },
  { number: 10, name: "KVM_CAP_NR_MEMSLOTS", value: memSlots, proof: "api.test.ts: slot ids" },
  { number: 14, name: "KVM_CAP_MP_STATE", value: 1, proof: "mp-state" },
  { number: 16, name: "KVM_CAP_SYNC_MMU", value: 1, proof: "api.test.ts: the VMM's writes are the guest's" },
  { number: 21, name: "KVM_CAP_DESTROY_MEMORY_REGION_WORKS", value: 1, proof: "slot-rules" },
  { number: 22, name: "KVM_CAP_USER_NMI", value: 1, proof: "nmi" },
  { number: 23, name: "KVM_CAP_SET_GUEST_DEBUG", value: 1, proof: "single-step" },
  { number: 24, name: "KVM_CAP_REINJECT_CONTROL", value: 1, proof: "pit-reinject" },
  { number: 25, name: "KVM_CAP_IRQ_ROUTING", value: 1, proof: "gsi-routing" },
  { number: 26, name: "KVM_CAP_IRQ_INJECT_STATUS", value: 1, proof: "gsi-routing" },
  { number: 30, name: "KVM_CAP_JOIN_MEMORY_REGIONS_WORKS", value: 1, proof: "slot-rules" },
  { number: 33, name: "KVM_CAP_PIT2", value: 1, proof: "pit-timer" },
  { number: 35, name: "KVM_CAP_PIT_STATE2", value: 1, proof: "pit-one-shot" },
  { number: 37, name: "KVM_CAP_SET_IDENTITY_MAP_ADDR", value: 1, proof: "api.test.ts: KVM_SET_IDENTITY_MAP_ADDR" },
  { number: 40, name: "KVM_CAP_INTERNAL_ERROR_DATA", value: 1, proof: "fetch-from-hole" },
  { number: 41, name: "KVM_CAP_VCPU_EVENTS", value: 1, proof: "exception-from-user-space" },
  { number: 49, name: "KVM_CAP_INTR_SHADOW", value: 1, proof: "interrupt-shadow" },
  { number: 50, name: "KVM_CAP_DEBUGREGS", value: 1, proof: "debug-registers" },
  { number: 51, name: "KVM_CAP_X86_ROBUST_SINGLESTEP", value: 1, proof: "single-step" },
  { number: 60, name: "KVM_CAP_TSC_CONTROL", value: 1, proof: "tsc.test.ts: a guest's TSC runs at its frequency" },
  { number: 61, name: "KVM_CAP_GET_TSC_KHZ", value: 1, proof: "tsc.test.ts: the frequency that was set is got" },
  { number: 66, name: "KVM_CAP_MAX_VCPUS", value: KVM_MAX_VCPUS, proof: "api.test.ts: vCPU ids" },
  { number: 72, name: "KVM_CAP_TSC_DEADLINE_TIMER", value: 1, proof: "x2apic-deadline" },
  { number: 74, name: "KVM_CAP_SYNC_REGS", value: 7, proof: "api.test.ts: sync regs" },
  { number: 77, name: "KVM_CAP_SIGNAL_MSI", value: 1, proof: "msi" },
  { number: 81, name: "KVM_CAP_READONLY_MEM", value: 1, proof: "rom-read-and-write" },
  { number: 98, name: "KVM_CAP_ENABLE_CAP_VM", value: 1, proof: "msr-platform-info" },
  { number: 105, name: "KVM_CAP_CHECK_EXTENSION_VM", value: 1, proof: "capabilities" },
  { number: 116, name: "KVM_CAP_DISABLE_QUIRKS", value: 1, proof: "api.test.ts: quirks" },
  { number: 121, name: "KVM_CAP_SPLIT_IRQCHIP", value: 1, proof: "interrupt-split" },
  { number: 128, name: "KVM_CAP_MAX_VCPU_ID", value: KVM_MAX_VCPU_IDS, proof: "api.test.ts: vCPU ids" },
  { number: 136, name: "KVM_CAP_IMMEDIATE_EXIT", value: 1, proof: "immediate-exit" },
  { number: 153, name: "KVM_CAP_GET_MSR_FEATURES", value: 1, proof: "records of kvm-real-results.json" },
  { number: 159, name: "KVM_CAP_MSR_PLATFORM_INFO", value: 1, proof: "msr-platform-info" },
  { number: 164, name: "KVM_CAP_EXCEPTION_PAYLOAD", value: 1, proof: "api.test.ts: exception payload" },
  { number: 168, name: "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2", value: modern(3), proof: "dirty-log-manual" },
  { number: 188, name: "KVM_CAP_X86_USER_SPACE_MSR", value: modern(1), proof: "msr-user-space" },
  { number: 189, name: "KVM_CAP_X86_MSR_FILTER", value: modern(1), proof: "msr-filter" },
  {
    number: 195,
    name: "KVM_CAP_SET_GUEST_DEBUG2",
    value: modern(KVM_GUESTDBG_VALID_MASK),
    proof: "debug-blockirq",
  },
  { number: 200, name: "KVM_CAP_SREGS2", value: modern(1), proof: "sregs2" },
  { number: 213, name: "KVM_CAP_DISABLE_QUIRKS2", value: modern(KVM_X86_VALID_QUIRKS), proof: "quirk record" },
  {
    number: 214,
    name: "KVM_CAP_VM_TSC_CONTROL",
    value: modern(1),
    proof: "tsc.test.ts: of the VM is that of new vCPUs",
  },
  { number: 218, name: "KVM_CAP_X86_TRIPLE_FAULT_EVENT", value: modern(1), proof: "api.test.ts: triple fault event" },
];

/** KVM_CHECK_EXTENSION: 0 for what is not built. */
export function checkExtension(rules: KernelRules, number: number): number {
  const value = CAPABILITIES.find((capability) => capability.number === number)?.value ?? 0;
  return typeof value === "number" ? value : value(rules);
}
