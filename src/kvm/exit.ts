/** Why Vcpu.run returned: KVM_EXIT_* with its payload. */
export type KvmExit =
  | {
      readonly reason: "io";
      readonly direction: "in" | "out";
      readonly port: number;
      /** Bytes of one item: 1, 2 or 4. */
      readonly size: number;
      readonly count: number;
      /** size * count bytes of the run page. For "in" the caller fills them before the next run. */
      readonly data: Uint8Array;
    }
  | {
      readonly reason: "mmio";
      readonly physAddr: bigint;
      /** Bytes of this access: 1 to 8, inside one page. */
      readonly length: number;
      readonly isWrite: boolean;
      /** `length` bytes of the run page. For a read the caller fills them before the next run. */
      readonly data: Uint8Array;
    }
  | {
      /** Guest debug: single step, breakpoint. */
      readonly reason: "debug";
      /** 1 #DB, 3 #BP. */
      readonly exception: number;
      readonly pc: bigint;
      readonly dr6: bigint;
      readonly dr7: bigint;
    }
  | MsrExit
  | { readonly reason: "hlt" }
  | { readonly reason: "irqWindowOpen" }
  | { readonly reason: "shutdown" }
  | {
      /** The VM entry failed: the guest state that user space gave breaks a rule of the processor. */
      readonly reason: "failEntry";
      /** Exit reason with bit 31, or the VM-instruction error. */
      readonly hardwareEntryFailureReason: bigint;
      /** Host CPU of the attempt. */
      readonly cpu: number;
      /** All fields of the VMCS, a line each. */
      readonly vmcs: string;
    }
  /** -1 with EINTR. */
  | {
      readonly reason: "intr";
      /**
       * "signal": an abort, or a slice of 0. "bound": what the caller allowed is used up. "immediateExit": asked for; the
       * run page keeps its exit reason then. "idle": every vCPU waits and no timer is set, so nothing would ever come.
       */
      readonly why: "signal" | "bound" | "immediateExit" | "idle";
    }
  | { readonly reason: "setTpr" }
  /** With the split irqchip: the guest ended a level-triggered interrupt of user space's I/O APIC. */
  | { readonly reason: "ioapicEoi"; readonly vector: number }
  | {
      readonly reason: "internalError";
      /** 1 emulation, 2 simultaneous exceptions, 3 delivery, 4 unexpected exit. */
      readonly suberror: number;
      readonly data: readonly bigint[];
      readonly message: string;
      /** All fields of the VMCS, a line each. */
      readonly vmcs: string;
    }
  | { readonly reason: "unknown"; readonly hardwareExitReason: bigint };

/** An MSR access that user space asked to see. `reply` answers it before the next run. */
export interface MsrExit {
  readonly reason: "x86Rdmsr" | "x86Wrmsr";
  /** KVM_MSR_EXIT_REASON_INVAL 1, UNKNOWN 2, FILTER 4. */
  readonly msrReason: number;
  readonly index: number;
  /** What WRMSR wrote; 0 for RDMSR. */
  readonly data: bigint;
  /** `error` not 0 raises #GP(0); `data` is what RDMSR reads. */
  reply(answer: { readonly error?: number; readonly data?: bigint }): void;
}

export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;
