/** What KVM's tracepoints report, with the fields they print. */
export type TraceEvent =
  | { readonly name: "kvm_entry"; readonly vcpu: number; readonly rip: bigint }
  | {
      readonly name: "kvm_exit";
      readonly vcpu: number;
      readonly reason: number;
      readonly reasonName: string;
      readonly rip: bigint;
      readonly info1: bigint;
      readonly info2: bigint;
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
    }
  | {
      readonly name: "kvm_msr";
      readonly write: boolean;
      readonly index: number;
      readonly data: bigint;
      readonly exception: boolean;
    }
  | { readonly name: "kvm_inj_virq"; readonly vector: number }
  | { readonly name: "kvm_inj_exception"; readonly vector: number; readonly errorCode: number | undefined }
  | {
      readonly name: "kvm_pio";
      readonly write: boolean;
      readonly port: number;
      readonly size: number;
      readonly count: number;
    }
  | {
      readonly name: "kvm_mmio";
      readonly write: boolean;
      readonly address: bigint;
      readonly size: number;
      readonly value: bigint;
    }
  | { readonly name: "kvm_page_fault"; readonly address: bigint; readonly errorCode: bigint }
  /** Not a tracepoint of the kernel: a host access to 0x140. */
  | { readonly name: "host_msr"; readonly write: boolean; readonly value: bigint; readonly cause: string };

export type TraceSink = (event: TraceEvent) => void;
