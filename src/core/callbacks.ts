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
}

/** What the wrapper needs of a core. */
export interface CallbackOwner {
  readonly handlers: CoreHandlers;
  /** Called with the exception a callback threw; must stop the instruction. */
  callbackThrew(error: unknown): void;
  setValue(value: bigint): void;
}

/**
 * Imports for the Wasm module: values become unsigned, and no exception crosses the Wasm frames: it is handed to
 * `callbackThrew` and an arbitrary value goes back, which the abandoned instruction does not use.
 */
export function wrapCallbacks(owner: CallbackOwner): CoreImports {
  const { handlers } = owner;
  return {
    portIn(port, size) {
      try {
        return handlers.portIn ? handlers.portIn(port & 0xffff, size) : -1;
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
    portOut(port, size, value) {
      try {
        handlers.portOut?.(port & 0xffff, size, value >>> 0);
      } catch (error) {
        owner.callbackThrew(error);
      }
    },
    mmioRead(address, size) {
      try {
        return handlers.mmioRead ? handlers.mmioRead(BigInt.asUintN(64, address), size) : -1n;
      } catch (error) {
        owner.callbackThrew(error);
        return 0n;
      }
    },
    mmioWrite(address, size, value) {
      try {
        handlers.mmioWrite?.(BigInt.asUintN(64, address), size, BigInt.asUintN(8 * size, value));
      } catch (error) {
        owner.callbackThrew(error);
      }
    },
    cpuidHook(leaf, subleaf) {
      try {
        return handlers.cpuid?.(leaf >>> 0, subleaf >>> 0) ? 1 : 0;
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
    rdmsrHook(index) {
      try {
        const answer = handlers.rdmsr?.(index >>> 0);
        if (answer === undefined) return 0;
        if (answer === "#GP") return 2;
        owner.setValue(answer);
        return 1;
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
    wrmsrHook(index, value) {
      try {
        const answer = handlers.wrmsr?.(index >>> 0, BigInt.asUintN(64, value));
        return answer === "#GP" ? 2 : answer ? 1 : 0;
      } catch (error) {
        owner.callbackThrew(error);
        return 0;
      }
    },
  };
}
