// verifyTiers() for the bare machine.
import { checkInteger, type JitOptions } from "../core/index.ts";
import type { Exit } from "./exits.ts";
import type { Machine } from "./machine.ts";
import {
  COMPARED_MSRS,
  REP_BOUND,
  type VerifiedGuest,
  type VerifyResult,
  type VerifyTiersOptions,
  verifyTiers,
} from "./verifyTiers.ts";

/** One of the two machines, with what else is to be compared. */
export interface VerifiedMachine {
  readonly machine: Machine;
  /** What the guest put out so far. */
  readonly output?: () => string;
}

export interface VerifyJitOptions extends VerifyTiersOptions {
  /**
   * Makes a machine with the guest loaded and hooks set, to be given the option `jit` as it is. Called twice, and again
   * to look closer at a difference: what it makes must behave alike each time.
   */
  readonly make: (jit: false | JitOptions) => Machine | VerifiedMachine;
}

/** What verifyJit() found. An exit with the reason "aborted": the signal came. */
export type VerifyJitResult = Omit<VerifyResult<Exit>, "aborted">;

function codeBytes(machine: Machine): Uint8Array {
  const { registers } = machine;
  const mask = machine.codeMode === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  const bytes: number[] = [];
  for (let i = 0n; i < 15n; i++) {
    const physical = machine.translate((registers.cs.base + registers.rip + i) & mask, "execute");
    if (physical === undefined) break;
    try {
      bytes.push(machine.readMemory(physical, 1)[0]!);
    } catch {
      break;
    }
  }
  return Uint8Array.from(bytes);
}

function guestOf(made: Machine | VerifiedMachine): VerifiedGuest<Exit> {
  const { machine, output }: VerifiedMachine = "machine" in made ? made : { machine: made };
  return {
    get count() {
      return machine.instructionCount;
    },
    get functions() {
      return machine.jitStatistics.functions;
    },
    advance(maxInstructions) {
      const exit = machine.run({ maxInstructions, maxWork: 2 * maxInstructions + REP_BOUND });
      return { exit, ended: exit.reason !== "instructions" && exit.reason !== "slice" };
    },
    *values() {
      yield* Object.entries(machine.registers.read());
      for (const msr of COMPARED_MSRS) yield [`msr 0x${msr.toString(16)}`, machine.readMsr(msr)];
      yield ["output", output?.()];
    },
    *memory() {
      for (const { kind, address, size } of machine.regions) {
        if (kind === "ram") yield { address: BigInt(address), bytes: machine.readMemory(address, size) };
      }
    },
    registers: () => machine.registers.read(),
    next: () => ({ rip: machine.registers.rip, mode: machine.codeMode, bytes: codeBytes(machine) }),
  };
}

/**
 * Runs a guest on the interpreter and with generated code in lock-step, compares registers, MSRs, exits and now and then
 * memory, and finds the first difference. There is none unless this package is broken.
 *
 * ```ts
 * const { difference } = await verifyJit({
 *   make: (jit) => {
 *     const machine = new Machine({ jit });
 *     loadImage(machine, parseFlat(Uint8Array.of(0xb0, 0x2a, 0xf4))); // mov al, 42; hlt
 *     return machine;
 *   },
 * });
 * difference; // undefined
 * ```
 */
export async function verifyJit(options: VerifyJitOptions): Promise<VerifyJitResult> {
  const { make, maxInstructions, step } = options;
  if (maxInstructions !== undefined) checkInteger("maxInstructions", maxInstructions, 1, Number.MAX_SAFE_INTEGER);
  if (step !== undefined) checkInteger("step", step, 1, 2 ** 30);
  const { aborted, ...result } = await verifyTiers((jit) => guestOf(make(jit)), options);
  if (!aborted) return result;
  return { ...result, exit: { reason: "aborted", instructions: Number(result.instructions) } };
}
