import { Callback } from "../../assembly/abi/run.ts";
import { HookBit } from "../../assembly/abi/state.ts";
import { InternalError } from "./errors.ts";
import type { CoreImports } from "./exports.ts";

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
  // one function for each, by hand: arguments that a function in here captured would cost an allocation a call, and what one
  // wrapper of them all calls would not be inlined (a quarter of the speed of port accesses)
  return {
    call(callback, a, b, c) {
      const owner = seat.owner!;
      try {
        if (owner.interpose) return interposed(owner, call, seat, callback, a, b, c);
        if (callback === Callback.PortOut) {
          seat.handlers.portOut?.(a & 0xffff, b, c >>> 0);
          return 0;
        }
        return call(seat, callback, a, b, c);
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
    callWide(callback, a, b, c) {
      const owner = seat.owner!;
      try {
        if (owner.interpose) return interposed(owner, callWide, seat, callback, a, b, c);
        return callWide(seat, callback, a, b, c);
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
    mmioRead(address, size) {
      const owner = seat.owner!;
      try {
        if (owner.interpose) return interposed(owner, mmioRead, seat, address, size);
        return mmioRead(seat, address, size);
      } catch (error) {
        owner.callbackThrew(error);
        return 0n;
      }
    },
  };
}

function interposed<A extends unknown[], R>(owner: CallbackOwner, body: (...args: A) => R, ...args: A): R {
  return owner.interpose!(() => body(...args));
}

function mmioRead({ handlers }: Seat, address: bigint, size: number): bigint {
  return handlers.mmioRead?.(u64(address), size) ?? -1n;
}

/** 1: the value is in COMM_VALUE. */
function answered(seat: Seat, value: bigint | undefined): number {
  if (value === undefined) return 0;
  seat.owner!.setValue(value);
  return 1;
}

function call(seat: Seat, callback: Callback, a: number, b: number, c: number): number {
  const { handlers } = seat;
  switch (callback) {
    case Callback.PortIn:
      return handlers.portIn?.(a & 0xffff, b) ?? -1;
    case Callback.PortOut:
      handlers.portOut?.(a & 0xffff, b, c >>> 0);
      return 0;
    case Callback.Cpuid:
      return handlers.cpuid?.(a >>> 0, b >>> 0) ? 1 : 0;
    case Callback.Rdmsr: {
      const answer = handlers.rdmsr?.(a >>> 0);
      return answer === "#GP" ? 2 : answered(seat, answer);
    }
    case Callback.Acknowledge:
      return handlers.acknowledgeInterrupt?.() ?? 0;
    case Callback.ApicRead:
      return answered(seat, handlers.apicRead?.(a >>> 0));
    case Callback.Event:
      return handlers.event?.(a, b & 0xff) ? 1 : 0;
    case Callback.Vmcall:
      return handlers.vmcall?.() ? 1 : 0;
    case Callback.Rdtsc:
      return answered(seat, handlers.rdtsc?.());
    case Callback.VmExit:
      return handlers.vmExit?.(a >>> 0) ? 1 : 0;
    case Callback.VmEntry:
      return handlers.vmEntry?.(a !== 0) ? 1 : 0;
    default:
      throw new InternalError(`the processor asked for callback ${callback}, which there is not`);
  }
}

function callWide(seat: Seat, callback: Callback, a: number, signedB: bigint, signedC: bigint): number {
  const { handlers } = seat;
  const b = u64(signedB);
  const c = u64(signedC);
  switch (callback) {
    case Callback.MmioWrite:
      handlers.mmioWrite?.(b, a, BigInt.asUintN(8 * a, c));
      return 0;
    case Callback.Wrmsr: {
      const answer = handlers.wrmsr?.(a >>> 0, b);
      return answer === "#GP" ? 2 : answer ? 1 : 0;
    }
    case Callback.ApicWrite:
      return handlers.apicWrite?.(a >>> 0, b) === false ? 0 : 1;
    case Callback.Code:
      return handlers.code?.(b, a) ? 1 : 0;
    case Callback.MemoryRead:
      return exchanged(seat, handlers.memoryRead?.(b, c, a));
    case Callback.MemoryWrite:
      return exchanged(seat, handlers.memoryWrite?.(b, c, seat.owner!.commData(a)));
    default:
      throw new InternalError(`the processor asked for callback ${callback}, which there is not`);
  }
}

/** 1: the bytes are in COMM_DATA. */
function exchanged(seat: Seat, answer: Uint8Array | false | undefined): number {
  if (answer === undefined) return 0;
  if (answer === false) return 2;
  seat.owner!.setCommData(answer);
  return 1;
}
