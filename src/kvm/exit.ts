import type { UnimplementedInstruction } from "../core/index.ts";

/** Why Vcpu.run returned: KVM_EXIT_* with its payload. */
export type KvmExit =
  | {
      readonly reason: "io";
      readonly direction: "in" | "out";
      readonly port: number;
      /** Bytes of one item: 1, 2 or 4. */
      readonly size: number;
      readonly count: number;
      /** size * count bytes. For "in" the caller fills it before the next run. */
      readonly data: Uint8Array;
    }
  | { readonly reason: "hlt" }
  | { readonly reason: "irqWindowOpen" }
  | { readonly reason: "shutdown" }
  | { readonly reason: "failEntry"; readonly hardwareEntryFailureReason: bigint }
  /** A signal, or the bound given to run() was reached. */
  | { readonly reason: "intr" }
  | { readonly reason: "setTpr" }
  | {
      readonly reason: "internalError";
      /** 1 emulation, 2 simultaneous exceptions, 3 delivery, 4 unexpected exit. */
      readonly suberror: number;
      readonly data: readonly bigint[];
      readonly message: string;
      /** Set when the guest reached an instruction that exists but is not built. */
      readonly unimplemented?: UnimplementedInstruction;
    }
  | { readonly reason: "unknown"; readonly hardwareExitReason: bigint };

export const KVM_INTERNAL_ERROR_EMULATION = 1;
export const KVM_INTERNAL_ERROR_SIMUL_EX = 2;
export const KVM_INTERNAL_ERROR_DELIVERY_EV = 3;
export const KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON = 4;
