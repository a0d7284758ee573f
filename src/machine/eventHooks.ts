// Hooks on what happens to the processor: exceptions and interrupts, VMCALL, VM exits and entries, opcodes it does not know.
import { EV_ERROR, EV_HAS_ERROR, EV_PAYLOAD, XR_QUALIFICATION } from "../../assembly/abi/state.ts";
import { type CodeMode, type Core, checkFunction, checkInteger } from "../core/index.ts";
import { HookList, type RemoveHook } from "./hookList.ts";

/** One vector, or the vectors from the first to the last, both included. */
export type VectorRange = number | readonly [first: number, last: number];

export type EventKind = "external" | "nmi" | "exception" | "softwareInterrupt" | "int1" | "softwareException" | "trap";

/** An exception or interrupt before the guest gets it. */
export interface GuestEvent {
  readonly vector: number;
  readonly kind: EventKind;
  readonly errorCode: number | undefined;
  /** Of a page fault: the linear address. */
  readonly address: bigint | undefined;
}

/** True: the guest does not get it. A fault whose hook does not move RIP happens again; INT n is stepped over. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type EventHook = (event: GuestEvent) => boolean | void;
/** True: VMCALL is done; RIP goes on after it. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type VmcallHook = () => boolean | void;
/** The value instead of the counter's, or undefined. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type RdtscHook = () => bigint | undefined | void;
/** True: there is no exit. The hook has done what was to do and moved RIP, else the instruction runs again. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type VmExitHook = (exit: { readonly reason: number; readonly qualification: bigint }) => boolean | void;
/** True: there is no entry; RIP goes on after the instruction. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type VmEntryHook = (entry: { readonly launch: boolean }) => boolean | void;

export interface InvalidOpcode {
  readonly rip: bigint;
  /** Up to 15 bytes from RIP on, fewer where memory ends. */
  readonly bytes: Uint8Array;
  readonly mode: CodeMode;
}

/** The length of the instruction, which the hook has carried out; undefined for what would happen without it. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type InvalidOpcodeHook = (opcode: InvalidOpcode) => number | undefined | void;

const KINDS: Readonly<Record<number, EventKind>> = {
  0: "external",
  2: "nmi",
  3: "exception",
  4: "softwareInterrupt",
  5: "int1",
  6: "softwareException",
  8: "trap",
};
const UD = 6;
const PF = 14;

interface Vectors {
  readonly first: number;
  readonly last: number;
  readonly hook: EventHook;
}

export class EventHooks {
  readonly #core: Core;
  readonly #bytesAtRip: () => Uint8Array;
  readonly #events: HookList<Vectors>;
  readonly #vmcall: HookList<VmcallHook>;
  readonly #rdtsc: HookList<RdtscHook>;
  readonly #exits: HookList<VmExitHook>;
  readonly #entries: HookList<VmEntryHook>;
  readonly #opcodes: HookList<InvalidOpcodeHook>;

  /** @param bytesAtRip the bytes of the instruction at RIP, as far as they can be read */
  constructor(core: Core, bytesAtRip: () => Uint8Array) {
    this.#core = core;
    this.#bytesAtRip = bytesAtRip;
    const follow = () => {
      const any = this.#events.size + this.#opcodes.size > 0;
      core.setHandler("event", any ? (type, vector) => this.#event(type, vector) : undefined);
    };
    this.#events = new HookList(follow);
    this.#opcodes = new HookList(follow);
    this.#vmcall = new HookList((any) => {
      core.setHandler("vmcall", any ? () => [...this.#vmcall].some((hook) => hook() === true) : undefined);
    });
    this.#rdtsc = new HookList((any) => {
      core.setHandler("rdtsc", any ? () => this.#answerRdtsc() : undefined);
    });
    this.#exits = new HookList((any) => {
      core.setHandler("vmExit", any ? (reason) => this.#exit(reason) : undefined);
    });
    this.#entries = new HookList((any) => {
      const ask = (launch: boolean) => [...this.#entries].some((hook) => hook({ launch }) === true);
      core.setHandler("vmEntry", any ? ask : undefined);
    });
  }

  onEvent(range: VectorRange, hook: EventHook): RemoveHook {
    checkFunction("hook", hook);
    const [first, last] = typeof range === "number" ? [range, range] : range;
    checkInteger("first vector", first, 0, 255);
    checkInteger("last vector", last, first, 255);
    return this.#events.add({ first, last, hook });
  }

  onVmcall(hook: VmcallHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#vmcall.add(hook);
  }

  onRdtsc(hook: RdtscHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#rdtsc.add(hook);
  }

  onVmExit(hook: VmExitHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#exits.add(hook);
  }

  onVmEntry(hook: VmEntryHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#entries.add(hook);
  }

  onInvalidOpcode(hook: InvalidOpcodeHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#opcodes.add(hook);
  }

  /** Asks about the opcode at RIP, which raises #UD; true: a hook has carried it out. */
  #opcode(): boolean {
    if (this.#opcodes.size === 0) return false;
    const { rip, codeMode: mode } = this.#core;
    const bytes = this.#bytesAtRip();
    for (const hook of this.#opcodes) {
      const length = hook({ rip, bytes, mode });
      if (length === undefined) continue;
      checkInteger("length of an opcode hook", length, 0, 15);
      if (this.#core.rip === rip) this.#core.rip = rip + BigInt(length);
      this.#core.exports.retire(1);
      return true;
    }
    return false;
  }

  #event(type: number, vector: number): boolean {
    const kind = KINDS[type]!;
    const event: GuestEvent = {
      vector,
      kind,
      errorCode: this.#core.read32(EV_HAS_ERROR) ? this.#core.read32(EV_ERROR) : undefined,
      address: kind === "exception" && vector === PF ? this.#core.read64(EV_PAYLOAD) : undefined,
    };
    for (const { first, last, hook } of this.#events) {
      if (vector >= first && vector <= last && hook(event) === true) return true;
    }
    return kind === "exception" && vector === UD && this.#opcode();
  }

  #answerRdtsc(): bigint | undefined {
    for (const hook of this.#rdtsc) {
      const value = hook();
      if (value !== undefined) return value as bigint;
    }
    return undefined;
  }

  #exit(reason: number): boolean {
    const qualification = this.#core.read64(XR_QUALIFICATION);
    return [...this.#exits].some((hook) => hook({ reason, qualification }) === true);
  }
}
