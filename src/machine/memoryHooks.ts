// Hooks on code and memory ranges, over the processor's traps.
import { TrapKind } from "../../assembly/abi/layout.ts";
import { type Core, checkFunction, checkInteger, checkU64, U64_MAX } from "../core/index.ts";
import { littleEndian } from "./breakpoints.ts";
import { HookList, type RemoveHook } from "./hookList.ts";
import { type AddressSpace, type Trap, type TrapSet, trapList } from "./traps.ts";

/** One address, or `size` bytes from it on. */
export type AddressRange =
  | bigint
  | number
  | { readonly address: bigint | number; readonly size: number; readonly space?: AddressSpace };

/** Called before an instruction. Return "stop" to end run() before it; move RIP to put another one in its place. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type CodeHook = (address: bigint) => "stop" | void;

export interface MemoryAccess {
  /** Linear and physical address of the first byte. */
  readonly address: bigint;
  readonly physical: bigint;
  /** Bytes, at most 64. */
  readonly size: number;
}

/** Before a read: the value to read instead (little-endian when it is a number), or undefined for what memory holds. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type ReadHook = (access: MemoryAccess) => bigint | number | Uint8Array | undefined | void;
/**
 * Before memory changes: the value to write instead, false to leave memory as it is, or undefined. The registers are those
 * after the instruction.
 */
export type WriteHook = (
  access: MemoryAccess & { readonly value: bigint },
  // biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
) => bigint | number | Uint8Array | false | undefined | void;

interface Ranged<T> {
  readonly trap: Trap;
  readonly hook: T;
}

export function checkRange(range: AddressRange): { first: bigint; last: bigint; space: AddressSpace } {
  const { address, size, space = "linear" } = typeof range === "object" ? range : { address: range, size: 1 };
  const first = checkU64("address", address);
  const last = first + BigInt(checkInteger("size", size, 1, Number.MAX_SAFE_INTEGER)) - 1n;
  if (last > U64_MAX) throw new RangeError(`address 0x${first.toString(16)} + ${size} bytes lies beyond 2**64`);
  return { first, last, space };
}

function toBytes(name: string, value: bigint | number | Uint8Array, size: number): Uint8Array {
  if (value instanceof Uint8Array) {
    if (value.length !== size) throw new RangeError(`${name} must have ${size} bytes, not ${value.length}`);
    return value;
  }
  if (typeof value !== "bigint" && !(typeof value === "number" && Number.isSafeInteger(value))) {
    throw new TypeError(`${name} must be a bigint, a whole number or a Uint8Array, not ${String(value)}`);
  }
  let rest = BigInt.asUintN(8 * size, BigInt(value));
  if (rest !== BigInt(value)) throw new RangeError(`${name} must fit ${size} bytes, not ${value}`);
  return Uint8Array.from({ length: size }, () => {
    const byte = Number(rest & 0xffn);
    rest >>= 8n;
    return byte;
  });
}

function meets({ trap }: Ranged<unknown>, linear: bigint, physical: bigint, size: number): boolean {
  const at = trap.list & 1 ? physical : linear; // TrapList: odd ones are physical
  return at <= trap.last && trap.first < at + BigInt(size);
}

export class MemoryHooks {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #code: HookList<Ranged<CodeHook>>;
  readonly #reads: HookList<Ranged<ReadHook>>;
  readonly #writes: HookList<Ranged<WriteHook>>;

  constructor(core: Core, traps: TrapSet) {
    this.#core = core;
    this.#traps = traps;
    this.#code = new HookList((any) => {
      core.setHandler("code", any ? (linear, kinds) => this.#runCode(linear, kinds) : undefined);
    });
    this.#reads = new HookList((any) => {
      core.setHandler("memoryRead", any ? (linear, physical, size) => this.#read(linear, physical, size) : undefined);
    });
    this.#writes = new HookList((any) => {
      core.setHandler("memoryWrite", any ? (linear, physical, data) => this.#write(linear, physical, data) : undefined);
    });
  }

  onCode(range: AddressRange, hook: CodeHook): RemoveHook {
    return this.#add(this.#code, "code", range, TrapKind.CodeHook, hook);
  }

  onBlock(range: AddressRange, hook: CodeHook): RemoveHook {
    return this.#add(this.#code, "code", range, TrapKind.BlockHook, hook);
  }

  onRead(range: AddressRange, hook: ReadHook): RemoveHook {
    return this.#add(this.#reads, "data", range, TrapKind.ReadHook, hook);
  }

  onWrite(range: AddressRange, hook: WriteHook): RemoveHook {
    return this.#add(this.#writes, "data", range, TrapKind.WriteHook, hook);
  }

  #add<T>(list: HookList<Ranged<T>>, what: "code" | "data", range: AddressRange, kinds: number, hook: T): RemoveHook {
    checkFunction("hook", hook);
    const { first, last, space } = checkRange(range);
    const trap = { list: trapList(space, what), first, last, kinds };
    this.#traps.add(trap);
    const remove = list.add({ trap, hook });
    return () => {
      remove();
      this.#traps.delete(trap);
    };
  }

  #runCode(linear: bigint, kinds: number): boolean {
    const physical = this.#core.translate(linear, 2) ?? -1n;
    const { rip } = this.#core;
    for (const ranged of this.#code) {
      if (!(ranged.trap.kinds & kinds) || !meets(ranged, linear, physical, 1)) continue;
      const answer = ranged.hook(linear);
      if (answer === "stop") return true;
      if (answer !== undefined) throw new TypeError(`a code hook must return "stop" or nothing, not ${String(answer)}`);
      if (this.#core.rip !== rip) return false;
    }
    return false;
  }

  #read(address: bigint, physical: bigint, size: number): Uint8Array | undefined {
    for (const ranged of this.#reads) {
      if (!meets(ranged, address, physical, size)) continue;
      const answer = ranged.hook({ address, physical, size });
      if (answer !== undefined) return toBytes("value of a read hook", answer, size);
    }
    return undefined;
  }

  #write(address: bigint, physical: bigint, data: Uint8Array): Uint8Array | false | undefined {
    const size = data.length;
    let changed: Uint8Array | undefined;
    for (const ranged of this.#writes) {
      if (!meets(ranged, address, physical, size)) continue;
      const answer = ranged.hook({ address, physical, size, value: littleEndian(changed ?? data) });
      if (answer === false) return false;
      if (answer !== undefined) changed = toBytes("value of a write hook", answer, size);
    }
    return changed;
  }
}
