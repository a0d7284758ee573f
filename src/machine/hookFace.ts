import type { Core } from "../core/index.ts";
import {
  type Breakpoint,
  type BreakpointOptions,
  Breakpoints,
  type Watchpoint,
  type WatchpointOptions,
} from "./breakpoints.ts";
import {
  type EventHook,
  EventHooks,
  type InvalidOpcodeHook,
  type RdtscHook,
  type VectorRange,
  type VmcallHook,
  type VmEntryHook,
  type VmExitHook,
} from "./eventHooks.ts";
import type { RemoveHook } from "./hookList.ts";
import {
  type CpuidHook,
  Hooks,
  type IndexRange,
  type PortInHook,
  type PortOutHook,
  type PortRange,
  type RdmsrHook,
  type WrmsrHook,
} from "./hooks.ts";
import { type AddressRange, type CodeHook, MemoryHooks, type ReadHook, type WriteHook } from "./memoryHooks.ts";
import type { TrapSet } from "./traps.ts";

/**
 * Every hook and breakpoint of a machine. A hook is called before the effect of what it is about, with the registers and the instruction
 * count as they are before the instruction (but for onWrite), and may change registers and memory. The newest is asked first. Each
 * method returns a function that removes the hook again. Where no hook is set nothing is paid, in generated code either.
 */
export abstract class HookFace {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #bytesAtRip: () => Uint8Array;
  // made when they are asked for first: most machines have none
  #instructionHooks: Hooks | undefined;
  #memoryHooks: MemoryHooks | undefined;
  #eventHooks: EventHooks | undefined;
  protected readonly points: Breakpoints;

  protected constructor(core: Core, traps: TrapSet, bytesAtRip: () => Uint8Array) {
    this.#core = core;
    this.#traps = traps;
    this.#bytesAtRip = bytesAtRip;
    this.points = new Breakpoints(core, traps);
  }

  get #hooks(): Hooks {
    this.#instructionHooks ??= new Hooks(this.#core);
    return this.#instructionHooks;
  }

  get #memory(): MemoryHooks {
    this.#memoryHooks ??= new MemoryHooks(this.#core, this.#traps);
    return this.#memoryHooks;
  }

  get #events(): EventHooks {
    this.#eventHooks ??= new EventHooks(this.#core, this.#bytesAtRip);
    return this.#eventHooks;
  }

  /** IN and INS. */
  onPortIn(range: PortRange, hook: PortInHook): RemoveHook {
    return this.#hooks.onPortIn(range, hook);
  }

  /** OUT and OUTS. */
  onPortOut(range: PortRange, hook: PortOutHook): RemoveHook {
    return this.#hooks.onPortOut(range, hook);
  }

  /** CPUID, of every leaf or of a range of leaves. */
  onCpuid(hook: CpuidHook): RemoveHook;
  onCpuid(range: IndexRange, hook: CpuidHook): RemoveHook;
  onCpuid(first: IndexRange | CpuidHook, second?: CpuidHook): RemoveHook {
    return this.#hooks.onCpuid(first as IndexRange, second as CpuidHook);
  }

  /** RDMSR that the privilege checks let pass, of every MSR or of a range. */
  onRdmsr(hook: RdmsrHook): RemoveHook;
  onRdmsr(range: IndexRange, hook: RdmsrHook): RemoveHook;
  onRdmsr(first: IndexRange | RdmsrHook, second?: RdmsrHook): RemoveHook {
    return this.#hooks.onRdmsr(first as IndexRange, second as RdmsrHook);
  }

  /** WRMSR that the privilege checks let pass, of every MSR or of a range. */
  onWrmsr(hook: WrmsrHook): RemoveHook;
  onWrmsr(range: IndexRange, hook: WrmsrHook): RemoveHook;
  onWrmsr(first: IndexRange | WrmsrHook, second?: WrmsrHook): RemoveHook {
    return this.#hooks.onWrmsr(first as IndexRange, second as WrmsrHook);
  }

  /** RDTSC and RDTSCP that may be executed. */
  onRdtsc(hook: RdtscHook): RemoveHook {
    return this.#events.onRdtsc(hook);
  }

  /** Every instruction that begins in the range: its fetch and execution. */
  onCode(range: AddressRange, hook: CodeHook): RemoveHook {
    return this.#memory.onCode(range, hook);
  }

  /**
   * The first instruction of each block in the range: where a branch or an event leads, and what follows a branch that is not
   * taken or an instruction that ends a block for another reason (I/O, moves to segment and control registers, flags as a whole).
   */
  onBlock(range: AddressRange, hook: CodeHook): RemoveHook {
    return this.#memory.onBlock(range, hook);
  }

  /** Reads of memory by instructions and by the delivery of events; not page walks. */
  onRead(range: AddressRange, hook: ReadHook): RemoveHook {
    return this.#memory.onRead(range, hook);
  }

  /** Writes of memory by instructions and by the delivery of events; not accessed and dirty bits. */
  onWrite(range: AddressRange, hook: WriteHook): RemoveHook {
    return this.#memory.onWrite(range, hook);
  }

  /** Exceptions and interrupts, before a VM exit or delivery; not those that a delivery itself raises. */
  onEvent(range: VectorRange, hook: EventHook): RemoveHook {
    return this.#events.onEvent(range, hook);
  }

  /** VMCALL outside VMX non-root operation, where it would be #UD or fail. */
  onVmcall(hook: VmcallHook): RemoveHook {
    return this.#events.onVmcall(hook);
  }

  /** VM exits of a guest's guest. */
  onVmExit(hook: VmExitHook): RemoveHook {
    return this.#events.onVmExit(hook);
  }

  /** VMLAUNCH and VMRESUME of a guest. */
  onVmEntry(hook: VmEntryHook): RemoveHook {
    return this.#events.onVmEntry(hook);
  }

  /** Opcodes that raise #UD, or that a real processor knows and this one does not. */
  onInvalidOpcode(hook: InvalidOpcodeHook): RemoveHook {
    return this.#events.onInvalidOpcode(hook);
  }

  // --- breakpoints ---

  /**
   * Ends run() with "breakpoint" before the instruction at the address, which then goes on with it. Code elsewhere runs as fast as
   * without; nothing of the guest changes.
   */
  addBreakpoint(address: bigint | number, options: BreakpointOptions = {}): Breakpoint {
    return this.points.addBreakpoint(address, options);
  }

  /** Ends run() with "watchpoint" after an instruction that reads or writes one of the bytes. */
  addWatchpoint(address: bigint | number, options: WatchpointOptions = {}): Watchpoint {
    return this.points.addWatchpoint(address, options);
  }

  /** Removes a breakpoint or watchpoint; false when there is none with this number. */
  removeBreakpoint(id: number | { readonly id: number }): boolean {
    return this.points.remove(typeof id === "number" ? id : id.id);
  }

  get breakpoints(): Breakpoint[] {
    return this.points.breakpoints;
  }

  get watchpoints(): Watchpoint[] {
    return this.points.watchpoints;
  }
}
