import type { TraceEvent } from "./events.ts";

/** Kernels whose texts there are: the names of `KvmOptions.kernel`. */
export type TraceKernel = "5.0" | "6.19" | "7.1";

const OLD_EXCEPTIONS = new Map(
  Object.entries({
    ...{ DE: 0, DB: 1, BP: 3, OF: 4, BR: 5, UD: 6, NM: 7, DF: 8, TS: 10, NP: 11, SS: 12, GP: 13, PF: 14, MF: 16 },
    ...{ AC: 17, MC: 18 },
  }).map(([name, vector]) => [vector, `#${name}`]),
);
const EXCEPTIONS = new Map([
  ...OLD_EXCEPTIONS,
  ...Object.entries({ XM: 19, VE: 20, CP: 21, HV: 28, VC: 29, SX: 30 }).map(([name, vector]): [number, string] => [
    vector,
    `#${name}`,
  ]),
]);

const EINTR = 4;
const FAILED_ENTRY = 0x8000_0000;

const hex = (value: bigint | number): string => value.toString(16);
const hex32 = (value: number): string => `0x${(value >>> 0).toString(16).padStart(8, "0")}`;
const hex64 = (value: bigint): string => `0x${value.toString(16).padStart(16, "0")}`;

/**
 * One event as that kernel prints it, without the task and time columns: the formats of arch/x86/kvm/trace.h and
 * include/trace/events/kvm.h. Those of 6.18 are recorded (fixtures/kvm/tracepoints.json) and stand for 6.19 and 7.1; those
 * of 5.0 follow its source and were not seen on a running 5.0.
 */
export function formatTraceEvent(event: TraceEvent, kernel: TraceKernel = "6.19"): string {
  return `${`${event.name}:`.padEnd(22)}${(kernel === "5.0" && old(event)) || fields(event)}`;
}

/** What 5.0 prints differently. */
function old(event: TraceEvent): string | undefined {
  switch (event.name) {
    case "kvm_entry":
      return `vcpu ${event.vcpu}`;
    case "kvm_exit": {
      const { reasonName, rip, qualification, intrInfo } = event;
      return `reason ${reasonName} rip 0x${hex(rip)} info ${hex(qualification)} ${hex(intrInfo >>> 0)}`;
    }
    case "kvm_cpuid":
      return `func ${hex(event.function)} ${cpuidRegisters(event)}`;
    case "kvm_inj_virq":
      return `irq ${event.vector}`;
    case "kvm_inj_exception":
      return `${OLD_EXCEPTIONS.get(event.vector) ?? `0x${hex(event.vector)}`} (0x${hex(event.errorCode ?? 0)})`;
    case "kvm_page_fault":
      return `address ${hex(event.address)} error_code ${hex(event.errorCode)}`;
    default:
      return undefined;
  }
}

function cpuidRegisters({ eax, ebx, ecx, edx, found }: TraceEvent & { name: "kvm_cpuid" }): string {
  const registers = `rax ${hex(eax)} rbx ${hex(ebx)} rcx ${hex(ecx)} rdx ${hex(edx)}`;
  return `${registers}, cpuid entry ${found ? "found" : "not found"}`;
}

function fields(event: TraceEvent): string {
  switch (event.name) {
    case "kvm_entry": {
      const { vcpu, rip, intrInfo, errorCode } = event;
      return `vcpu ${vcpu}, rip 0x${hex(rip)} intr_info ${hex32(intrInfo)} error_code ${hex32(errorCode)}`;
    }
    case "kvm_exit": {
      const failed = event.reason & FAILED_ENTRY ? " FAILED_VMENTRY" : "";
      return (
        `vcpu ${event.vcpu} reason ${event.reasonName}${failed} rip 0x${hex(event.rip)} ` +
        `info1 ${hex64(event.qualification)} info2 ${hex64(BigInt(event.idtVectoringInfo >>> 0))} ` +
        // there are no KVM_REQ_* here: what they stand for is done at once
        `intr_info ${hex32(event.intrInfo)} error_code ${hex32(event.errorCode)} requests ${hex64(0n)}`
      );
    }
    case "kvm_cpuid": {
      const basic = event.usedMaxBasic ? ", used max basic" : "";
      return `func ${hex(event.function)} idx ${hex(event.index)} ${cpuidRegisters(event)}${basic}`;
    }
    case "kvm_msr":
      return (
        `msr_${event.write ? "write" : "read"} ${hex(event.index)} = 0x${hex(event.data)}` +
        (event.exception ? " (#GP)" : "")
      );
    case "kvm_inj_virq":
      return `${event.soft ? "Soft/INTn" : "IRQ"} 0x${hex(event.vector)}${again(event)}`;
    case "kvm_inj_exception": {
      const { vector, errorCode } = event;
      const code = errorCode === undefined ? "" : ` (0x${hex(errorCode)})`;
      return `${EXCEPTIONS.get(vector) ?? `0x${hex(vector)}`}${code}${again(event)}`;
    }
    case "kvm_pio": {
      const { write, port, size, count, value } = event;
      const what = `pio_${write ? "write" : "read"} at 0x${hex(port)} size ${size} count ${count}`;
      return `${what} val 0x${hex(value)} ${count > 1 ? "(...)" : ""}`;
    }
    case "kvm_mmio":
      return `mmio ${event.type} len ${event.size} gpa 0x${hex(event.address)} val 0x${hex(event.value)}`;
    case "kvm_page_fault": {
      const { vcpu, rip, address, errorCode } = event;
      return `vcpu ${vcpu} rip 0x${hex(rip)} address ${hex64(address)} error_code 0x${hex(errorCode)}`;
    }
    case "kvm_userspace_exit": {
      const { reason, reasonName, error } = event;
      if (error === 0) return `reason ${reasonName} (${reason})`;
      return `reason ${error === EINTR ? "restart" : "error"} (${error})`;
    }
    case "host_msr":
      return `${event.write ? "wrmsr" : "rdmsr"} 140 = 0x${hex(event.value)} by ${event.cause}`;
  }
}

const again = ({ reinjected }: { readonly reinjected: boolean }): string => (reinjected ? " [reinjected]" : "");
