/** Where a preemption may come in the middle of vmx_set_msr. */
export type Race = "none" | "preempt" | "migrate";

/** One step of a schedule. `vcpu` is the number of the VMM thread it happens to. */
export type CheckEvent =
  /** KVM_RUN, or the next entry of one that goes on: the guest runs and exits. */
  | { readonly op: "run"; readonly vcpu: number }
  /** The guest runs and writes 0x140. */
  | { readonly op: "wrmsr"; readonly vcpu: number; readonly value: bigint; readonly race: Race }
  /** KVM_RUN returns to user space. */
  | { readonly op: "user"; readonly vcpu: number }
  /** Another thread takes the CPU and runs in user space. */
  | { readonly op: "preempt"; readonly vcpu: number }
  /** A kernel thread takes the CPU. */
  | { readonly op: "kthread"; readonly vcpu: number }
  /** Preempted, and the other host CPU goes on with the thread. */
  | { readonly op: "migrate"; readonly vcpu: number }
  /** A put and a load between two VMCSs. */
  | { readonly op: "vmcs"; readonly vcpu: number }
  /** An ioctl that does not enter the guest; only outside KVM_RUN. */
  | { readonly op: "ioctl"; readonly vcpu: number }
  | { readonly op: "setMsrs"; readonly vcpu: number; readonly value: bigint }
  /** arch_prctl(ARCH_SET_CPUID) of the VMM thread; `nocpuid` turns TIF_NOCPUID on. */
  | { readonly op: "prctl"; readonly vcpu: number; readonly nocpuid: boolean };

export interface Schedule {
  /** 0x140 of the VMM threads at the start, 0 to 3; bit 1 is the CPUs'. */
  readonly host: number;
  readonly events: readonly CheckEvent[];
}

/** Everything that can happen to one vCPU. */
export function alphabet(vcpu: number): CheckEvent[] {
  const bits = [0n, 1n];
  const races: readonly Race[] = ["none", "preempt", "migrate"];
  return [
    { op: "run", vcpu },
    { op: "user", vcpu },
    ...races.flatMap((race) => bits.map((value): CheckEvent => ({ op: "wrmsr", vcpu, value, race }))),
    { op: "preempt", vcpu },
    { op: "kthread", vcpu },
    { op: "migrate", vcpu },
    { op: "vmcs", vcpu },
    { op: "ioctl", vcpu },
    ...bits.map((value): CheckEvent => ({ op: "setMsrs", vcpu, value })),
    ...[true, false].map((nocpuid): CheckEvent => ({ op: "prctl", vcpu, nocpuid })),
  ];
}

/** One line, as a person would tell it. */
export function eventText(event: CheckEvent): string {
  const who = `vCPU ${event.vcpu}`;
  switch (event.op) {
    case "run":
      return `${who}: enters the guest, which runs and exits`;
    case "wrmsr": {
      const race = {
        none: "",
        preempt: "; preempted between the loaded test and the write",
        migrate: "; preempted between the loaded test and the write, and moved to the other CPU",
      }[event.race];
      return `${who}: the guest writes ${event.value} to 0x140${race}`;
    }
    case "user":
      return `${who}: KVM_RUN returns to user space`;
    case "preempt":
      return `${who}: preempted by a thread that runs in user space`;
    case "kthread":
      return `${who}: preempted by a kernel thread`;
    case "migrate":
      return `${who}: preempted and moved to the other CPU`;
    case "vmcs":
      return `${who}: put and load between two VMCSs`;
    case "ioctl":
      return `${who}: an ioctl that does not enter the guest`;
    case "setMsrs":
      return `${who}: KVM_SET_MSRS sets 0x140 to ${event.value}`;
    case "prctl":
      return `${who}: the VMM thread turns CPUID ${event.nocpuid ? "off" : "on"} for itself (arch_prctl)`;
  }
}
