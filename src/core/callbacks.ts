import { TrapKind } from "../../assembly/abi/layout.ts";
import { HookBit } from "../../assembly/abi/state.ts";
import type { CoreImports, NarrowImport, WideImport } from "./exports.ts";

/** Callbacks of one processor. Each runs before the effect of the instruction that caused it. */
export interface CoreHandlers {
  portIn?: (port: number, size: number) => number;
  portOut?: (port: number, size: number, value: number) => void;
  mmioRead?: (address: bigint, size: number) => bigint;
  mmioWrite?: (address: bigint, size: number, value: bigint) => void;
  /** True: the callback has put the four registers into COMM_CPUID. */
  cpuid?: (leaf: number, subleaf: number) => boolean;
  /** A value, "#GP", or undefined for what the processor would do. */
  rdmsr?: (index: number) => bigint | "#GP" | undefined;
  /** True: taken; "#GP": raise it; undefined or false: what the processor would do. */
  wrmsr?: (index: number, value: bigint) => boolean | "#GP" | undefined;
  /** An instruction that a code trap stands at; kinds: TrapKind. True: stop before it. */
  code?: (linear: bigint, kinds: number) => boolean;
  /** Little-endian bytes to read instead, or undefined. */
  memoryRead?: (linear: bigint, physical: bigint, size: number) => Uint8Array | undefined;
  /** Bytes to write instead, false to leave memory as it is, or undefined. `data` is a copy. */
  memoryWrite?: (linear: bigint, physical: bigint, data: Uint8Array) => Uint8Array | false | undefined;
  /** An exception or interrupt about to be intercepted or delivered (EV_*). True: it is not. */
  event?: (type: number, vector: number) => boolean;
  /** True: VMCALL is done. */
  vmcall?: () => boolean;
  rdtsc?: () => bigint | undefined;
  /** A VM exit about to be taken (XR_*). True: it is not. */
  vmExit?: (reason: number) => boolean;
  /** VMLAUNCH or VMRESUME of guest code. True: it is done. */
  vmEntry?: (launch: boolean) => boolean;
  /** INTA: the vector of the interrupt that setInterruptLine() announced. The line's level afterwards must be set again. */
  acknowledgeInterrupt?: () => number;
  /** Local-APIC register by MSR number (0x800-0x8FF in x2APIC mode, IA32_TSC_DEADLINE); undefined: #GP(0). */
  apicRead?: (index: number) => bigint | undefined;
  /** The same, and IA32_TSC, IA32_TSC_ADJUST, IA32_APIC_BASE and CR8 (as TPR) after they have changed. False: #GP(0). */
  apicWrite?: (index: number, value: bigint) => boolean;
}

/** What the wrapper needs of a core. */
export interface CallbackOwner {
  /** Called with the exception a callback threw; must stop the instruction. */
  callbackThrew(error: unknown): void;
  setValue(value: bigint): void;
  /** Carries out a callback, or answers in its place: for recordings. */
  interpose: (<T>(body: () => T) => T) | undefined;
  /** COMM_DATA: a copy of its first bytes, and writing it. */
  commData(size: number): Uint8Array;
  setCommData(data: Uint8Array): void;
}

/** Where a processor's imports find who owns it: cores can have it one after the other. */
export interface Seat {
  owner: CallbackOwner | undefined;
  readonly handlers: CoreHandlers;
}

const u64 = (value: bigint) => BigInt.asUintN(64, value);

/** HOOKS: the processor calls out only where a callback is set. */
export function hookBits(handlers: CoreHandlers): number {
  return (
    (handlers.cpuid ? HookBit.Cpuid : 0) |
    (handlers.rdmsr ? HookBit.Rdmsr : 0) |
    (handlers.wrmsr ? HookBit.Wrmsr : 0) |
    (handlers.portIn ? HookBit.PortIn : 0) |
    (handlers.portOut ? HookBit.PortOut : 0) |
    (handlers.event ? HookBit.Event : 0) |
    (handlers.vmcall ? HookBit.Vmcall : 0) |
    (handlers.rdtsc ? HookBit.Rdtsc : 0) |
    (handlers.vmExit ? HookBit.VmExit : 0) |
    (handlers.vmEntry ? HookBit.VmEntry : 0) |
    (handlers.apicWrite ? HookBit.Apic : 0)
  );
}

/**
 * Imports for the Wasm module: values become unsigned, and no exception crosses the Wasm frames: it is handed to
 * `callbackThrew` and an arbitrary value goes back, which the abandoned instruction does not use.
 */
export function wrapCallbacks(seat: Seat): CoreImports {
  const { handlers } = seat;
  const guarded = <T>(body: () => T, none: T): T => {
    const owner = seat.owner!;
    try {
      return owner.interpose ? owner.interpose(body) : body();
    } catch (error) {
      owner.callbackThrew(error);
      return none;
    }
  };
  const narrow =
    (body: NarrowImport): NarrowImport =>
    (a, b, c) =>
      guarded(() => body(a, b, c), 0);
  const wide =
    (body: WideImport): WideImport =>
    (a, b, c) =>
      guarded(() => body(a, u64(b), u64(c)), 0);
  const answered = (value: bigint | undefined): number => {
    if (value === undefined) return 0;
    seat.owner!.setValue(value);
    return 1;
  };
  return {
    portIn: narrow((port, size) => (handlers.portIn ? handlers.portIn(port & 0xffff, size) : -1)),
    portOut: narrow((port, size, value) => {
      handlers.portOut?.(port & 0xffff, size, value >>> 0);
      return 0;
    }),
    mmioRead: (address, size) => guarded(() => (handlers.mmioRead ? handlers.mmioRead(u64(address), size) : -1n), 0n),
    mmioWrite: wide((size, address, value) => {
      handlers.mmioWrite?.(address, size, BigInt.asUintN(8 * size, value));
      return 0;
    }),
    cpuidHook: narrow((leaf, subleaf) => (handlers.cpuid?.(leaf >>> 0, subleaf >>> 0) ? 1 : 0)),
    rdmsrHook: narrow((index) => {
      const answer = handlers.rdmsr?.(index >>> 0);
      return answer === "#GP" ? 2 : answered(answer);
    }),
    wrmsrHook: wide((index, value) => {
      const answer = handlers.wrmsr?.(index >>> 0, value);
      return answer === "#GP" ? 2 : answer ? 1 : 0;
    }),
    codeHook: wide((kinds, linear) => (handlers.code?.(linear, kinds) ? 1 : 0)),
    memoryHook: wide((what, linear, physical) => {
      const [kind, size] = [what & 0xffff, what >>> 16];
      const answer =
        kind === TrapKind.ReadHook
          ? handlers.memoryRead?.(linear, physical, size)
          : handlers.memoryWrite?.(linear, physical, seat.owner!.commData(size));
      if (answer === undefined) return 0;
      if (answer === false) return 2;
      seat.owner!.setCommData(answer);
      return 1;
    }),
    eventHook: narrow((type, vector) => (handlers.event?.(type, vector & 0xff) ? 1 : 0)),
    vmcallHook: narrow(() => (handlers.vmcall?.() ? 1 : 0)),
    rdtscHook: narrow(() => answered(handlers.rdtsc?.())),
    vmExitHook: narrow((reason) => (handlers.vmExit?.(reason >>> 0) ? 1 : 0)),
    vmEntryHook: narrow((launch) => (handlers.vmEntry?.(launch !== 0) ? 1 : 0)),
    acknowledgeInterrupt: narrow(() => handlers.acknowledgeInterrupt?.() ?? 0),
    apicRead: narrow((index) => answered(handlers.apicRead?.(index >>> 0))),
    apicWrite: wide((index, value) => (handlers.apicWrite?.(index >>> 0, value) === false ? 0 : 1)),
  };
}
