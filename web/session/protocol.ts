// What the page and its worker say to each other. Everything here survives structured cloning.
import type { CostKind, Interval } from "../../src/cost/index.ts";
import type { StartMode } from "../../src/machine/index.ts";

/** A guest as it is loaded. */
export interface Program {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Of a flat binary; an ELF file says it itself. */
  readonly mode?: StartMode;
  readonly load?: number;
}

export interface MachineSettings {
  /** On the bare processor, or as a guest of KVM in VMX non-root operation. */
  readonly under: "bare" | "kvm";
  readonly policy: string;
  /** 0x140 of the host thread. */
  readonly hostValue: number;
  readonly kernel: string;
  readonly cost: string;
}

export type Status = "empty" | "ready" | "running" | "paused" | "ended";

/** One register as the page shows it. */
export interface RegisterView {
  readonly name: string;
  readonly value: bigint;
  /** Bits shown. */
  readonly width: number;
}

export interface ListedInstruction {
  readonly address: number;
  readonly bytes: string;
  readonly text: string;
}

/** What a VM exit was, in short. */
export interface ExitSummary {
  /** Ordinal in this run, from 0. */
  readonly id: number;
  readonly reason: string;
  /** Reason and qualification in words. */
  readonly text: string;
  readonly rip: bigint;
  /** Guest instructions completed at the entry before it, and at the exit. */
  readonly from: number;
  readonly to: number;
  /** 0x140 of the processor and of the virtual machine while the guest ran. */
  readonly physical: number;
  readonly virtual: number;
  /** Host accesses to 0x140 between the exit and the next entry. */
  readonly writes: number;
  readonly reads: number;
  /** The exit went on to user space. */
  readonly userSpace: boolean;
  /** The handler raised an exception in the guest. */
  readonly injected: boolean;
}

export interface ChangedField {
  readonly name: string;
  readonly before: string;
  readonly after: string;
}

export interface ExitDetail extends ExitSummary {
  readonly qualification: bigint;
  readonly interruption: number;
  /** What KVM and the VMM did about it. */
  readonly handling: readonly string[];
  /** VMCS fields that differ from the exit before. */
  readonly changed: readonly ChangedField[];
}

export interface CycleBars {
  readonly model: string;
  readonly byCause: Readonly<Record<CostKind, Interval>>;
  readonly total: Interval;
}

/** What only a guest under KVM has. */
export interface KvmView {
  readonly policy: string;
  readonly policySummary: string;
  readonly hostValue: number;
  readonly byReason: readonly (readonly [reason: string, count: number])[];
  readonly cycles: CycleBars;
  readonly counts: {
    readonly exits: number;
    readonly userSpace: number;
    readonly wrmsr: number;
    readonly rdmsr: number;
    readonly faults: number;
  };
  /** Entries with the host's faulting bit on against the guest's wish. */
  readonly leaks: number;
}

export interface VmxView {
  /** Now in non-root operation; undefined where it is not told. */
  readonly inGuest: boolean | undefined;
  readonly physical: number;
  readonly virtual: number;
  readonly exits: readonly ExitSummary[];
  /** Exits in all; `exits` keeps the first and the last of them. */
  readonly total: number;
  /** undefined: the hypervisor is a guest on the bare processor. */
  readonly kvm: KvmView | undefined;
}

export interface MachineState {
  readonly status: Status;
  /** Why it stands, in words; "" while it runs. */
  readonly reason: string;
  readonly failed: boolean;
  readonly count: number;
  /** Instructions a second over the last moments of running. */
  readonly speed: number;
  readonly codeMode: 16 | 32 | 64;
  readonly cpl: number;
  readonly rip: number;
  readonly general: readonly RegisterView[];
  readonly system: readonly RegisterView[];
  readonly rflags: bigint;
  readonly listing: readonly ListedInstruction[];
  readonly memory: MemoryView;
  /** Console output in all; the page has the part before `consoleFrom`. */
  readonly console: string;
  readonly consoleFrom: number;
  readonly vmx: VmxView | undefined;
}

export interface MemoryView {
  readonly address: number;
  /** undefined: no page there. */
  readonly bytes: readonly (number | undefined)[];
}

/** Page to worker. */
export type Request =
  | { readonly kind: "load"; readonly program: Program; readonly settings: MachineSettings; readonly ticket: number }
  /** Runs from the start to that many instructions. */
  | { readonly kind: "goto"; readonly count: number }
  | { readonly kind: "settings"; readonly settings: MachineSettings }
  | { readonly kind: "run" | "pause" | "reset" }
  | { readonly kind: "step" | "back"; readonly times: number }
  | { readonly kind: "breakpoints"; readonly addresses: readonly number[] }
  | { readonly kind: "input"; readonly text: string }
  | { readonly kind: "memory"; readonly address: number; readonly rows: number }
  | { readonly kind: "exit"; readonly id: number };

/** Worker to page. */
export type Message =
  | { readonly kind: "state"; readonly state: MachineState }
  | { readonly kind: "exit"; readonly detail: ExitDetail | undefined }
  /** The answer to a "load"; the guest before stays when it failed. */
  | { readonly kind: "loaded"; readonly ticket: number; readonly error?: string }
  | { readonly kind: "error"; readonly message: string };
