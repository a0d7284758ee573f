/** What KVM's tracepoints report, with the fields they print. */
export type TraceEvent =
  | {
      readonly name: "kvm_entry";
      readonly vcpu: number;
      readonly rip: bigint;
      /** VM-entry interruption information, and the error code where it has one. */
      readonly intrInfo: number;
      readonly errorCode: number;
    }
  | {
      readonly name: "kvm_exit";
      readonly vcpu: number;
      /** All 32 bits. */
      readonly reason: number;
      readonly reasonName: string;
      readonly rip: bigint;
      readonly qualification: bigint;
      readonly idtVectoringInfo: number;
      /** VM-exit interruption information, and the error code where it has one. */
      readonly intrInfo: number;
      readonly errorCode: number;
    }
  | {
      readonly name: "kvm_cpuid";
      readonly function: number;
      readonly index: number;
      readonly eax: number;
      readonly ebx: number;
      readonly ecx: number;
      readonly edx: number;
      readonly found: boolean;
      /** The answer is that of the highest basic leaf. */
      readonly usedMaxBasic: boolean;
    }
  | {
      readonly name: "kvm_msr";
      readonly write: boolean;
      readonly index: number;
      readonly data: bigint;
      readonly exception: boolean;
    }
  | { readonly name: "kvm_inj_virq"; readonly vector: number; readonly soft: boolean; readonly reinjected: boolean }
  | {
      readonly name: "kvm_inj_exception";
      readonly vector: number;
      readonly errorCode: number | undefined;
      readonly reinjected: boolean;
    }
  | {
      readonly name: "kvm_pio";
      readonly write: boolean;
      readonly port: number;
      readonly size: number;
      readonly count: number;
      /** The first item. */
      readonly value: number;
    }
  | {
      readonly name: "kvm_mmio";
      readonly type: "unsatisfied-read" | "read" | "write";
      readonly address: bigint;
      readonly size: number;
      readonly value: bigint;
    }
  | {
      readonly name: "kvm_page_fault";
      readonly vcpu: number;
      readonly rip: bigint;
      readonly address: bigint;
      readonly errorCode: bigint;
    }
  /** `error`: the errno of a KVM_RUN that failed, 0 of one that did not; `reason` is KVM_EXIT_*. */
  | {
      readonly name: "kvm_userspace_exit";
      readonly reason: number;
      readonly reasonName: string;
      readonly error: number;
    }
  /** Not a tracepoint of the kernel: a host access to 0x140. */
  | { readonly name: "host_msr"; readonly write: boolean; readonly value: bigint; readonly cause: string };

export type TraceSink = (event: TraceEvent) => void;
