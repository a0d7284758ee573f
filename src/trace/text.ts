import type { TraceEvent } from "./events.ts";

const EXCEPTIONS = [
  ...["#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#9", "#TS", "#NP", "#SS", "#GP", "#PF", "#15"],
  ...["#MF", "#AC", "#MC", "#XM"],
];

function exceptionName(vector: number): string {
  return EXCEPTIONS[vector] ?? `#${vector}`;
}

const hex = (value: bigint | number): string => value.toString(16);

/** One event as trace-cmd prints it, without the task and time columns. */
export function formatTraceEvent(event: TraceEvent): string {
  return `${`${event.name}:`.padEnd(22)}${fields(event)}`;
}

function fields(event: TraceEvent): string {
  switch (event.name) {
    case "kvm_entry":
      return `vcpu ${event.vcpu}, rip 0x${hex(event.rip)}`;
    case "kvm_exit":
      return `reason ${event.reasonName} rip 0x${hex(event.rip)} info ${hex(event.info1)} ${hex(event.info2)}`;
    case "kvm_cpuid":
      return (
        `func ${hex(event.function)} idx ${hex(event.index)} rax ${hex(event.eax)} rbx ${hex(event.ebx)} ` +
        `rcx ${hex(event.ecx)} rdx ${hex(event.edx)}, cpuid entry ${event.found ? "found" : "not found"}`
      );
    case "kvm_msr":
      return (
        `msr_${event.write ? "write" : "read"} ${hex(event.index)} = 0x${hex(event.data)}` +
        (event.exception ? " (#GP)" : "")
      );
    case "kvm_inj_virq":
      return `IRQ 0x${hex(event.vector)}`;
    case "kvm_inj_exception":
      return `${exceptionName(event.vector)} (0x${hex(event.errorCode ?? 0)})`;
    case "kvm_pio":
      return `pio_${event.write ? "write" : "read"} at 0x${hex(event.port)} size ${event.size} count ${event.count}`;
    case "kvm_mmio":
      return `mmio ${event.write ? "write" : "read"} len ${event.size} gpa 0x${hex(event.address)} val 0x${hex(event.value)}`;
    case "kvm_page_fault":
      return `address ${hex(event.address)} error_code ${hex(event.errorCode)}`;
    case "host_msr":
      return `${event.write ? "wrmsr" : "rdmsr"} 140 = 0x${hex(event.value)} by ${event.cause}`;
  }
}
