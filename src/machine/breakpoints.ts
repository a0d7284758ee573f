// Breakpoints and watchpoints: what is set, and what a stop of the processor has to do with it.
import { TrapKind } from "../../assembly/abi/layout.ts";
import {
  COMM_WATCH,
  COMM_WATCH_COUNT,
  WA_DATA,
  WA_IS_RAM,
  WA_KIND,
  WA_LINEAR,
  WA_PHYSICAL,
  WA_SIZE,
  WATCH_ENTRY,
} from "../../assembly/abi/run.ts";
import { type Core, checkInteger, checkU64, U64_MAX } from "../core/index.ts";
import { type AddressSpace, type Trap, type TrapSet, trapList } from "./traps.ts";

export interface Breakpoint {
  readonly id: number;
  readonly address: bigint;
  readonly space: AddressSpace;
}

export type WatchAccess = "read" | "write" | "access";

export interface Watchpoint {
  readonly id: number;
  readonly address: bigint;
  readonly size: number;
  readonly access: WatchAccess;
  readonly space: AddressSpace;
}

export interface BreakpointOptions {
  /** Default "linear". */
  readonly space?: AddressSpace;
}

export interface WatchpointOptions {
  /** Bytes, default 1. */
  readonly size?: number;
  /** What is watched; "access" is both. Default "write". */
  readonly access?: WatchAccess;
  /** Default "linear". */
  readonly space?: AddressSpace;
}

/** One access of an instruction that met a watchpoint. */
export interface WatchHit {
  /** Linear and physical address of the first byte accessed. */
  readonly address: bigint;
  readonly physical: bigint;
  /** Bytes accessed. */
  readonly size: number;
  readonly access: "read" | "write";
  /** Little-endian contents before and after the instruction; undefined where no RAM is. */
  readonly before: bigint | undefined;
  readonly after: bigint | undefined;
  /** The watchpoints it met. */
  readonly ids: readonly number[];
}

const WATCH_KINDS: Readonly<Record<WatchAccess, number>> = {
  read: TrapKind.WatchRead,
  write: TrapKind.WatchWrite,
  access: TrapKind.WatchRead | TrapKind.WatchWrite,
};

export function littleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value;
}

export class Breakpoints {
  readonly #core: Core;
  readonly #traps: TrapSet;
  readonly #breakpoints = new Map<number, { breakpoint: Breakpoint; trap: Trap }>();
  readonly #watchpoints = new Map<number, { watchpoint: Watchpoint; trap: Trap }>();
  readonly #until = new Map<bigint, Trap>();
  #nextId = 1;

  constructor(core: Core, traps: TrapSet) {
    this.#core = core;
    this.#traps = traps;
  }

  get breakpoints(): Breakpoint[] {
    return [...this.#breakpoints.values()].map(({ breakpoint }) => breakpoint);
  }

  get watchpoints(): Watchpoint[] {
    return [...this.#watchpoints.values()].map(({ watchpoint }) => watchpoint);
  }

  addBreakpoint(address: bigint | number, options: BreakpointOptions): Breakpoint {
    const { space = "linear" } = options;
    const at = checkU64("address", address);
    const trap = { list: trapList(space, "code"), first: at, last: at, kinds: TrapKind.Break };
    this.#traps.add(trap);
    const breakpoint = { id: this.#nextId++, address: at, space };
    this.#breakpoints.set(breakpoint.id, { breakpoint, trap });
    return breakpoint;
  }

  addWatchpoint(address: bigint | number, options: WatchpointOptions): Watchpoint {
    const { size = 1, access = "write", space = "linear" } = options;
    const first = checkU64("address", address);
    checkInteger("size", size, 1, 2 ** 40);
    const last = first + BigInt(size) - 1n;
    if (last > U64_MAX) throw new RangeError(`address 0x${first.toString(16)} + ${size} bytes lies beyond 2**64`);
    const kinds = WATCH_KINDS[access];
    if (kinds === undefined) throw new TypeError(`access must be "read", "write" or "access", not ${String(access)}`);
    const trap = { list: trapList(space, "data"), first, last, kinds };
    this.#traps.add(trap);
    const watchpoint = { id: this.#nextId++, address: first, size, access, space };
    this.#watchpoints.set(watchpoint.id, { watchpoint, trap });
    return watchpoint;
  }

  /** False: there is none with this number. */
  remove(id: number): boolean {
    for (const map of [this.#breakpoints, this.#watchpoints]) {
      const entry = map.get(id);
      if (entry === undefined) continue;
      map.delete(id);
      this.#traps.delete(entry.trap);
      return true;
    }
    return false;
  }

  /** The addresses of the next run's `until`. They stay set until other ones come, so that a loop over run() changes nothing. */
  setUntil(addresses: readonly bigint[]): void {
    if (addresses.length === 0 || addresses.every((address) => this.#until.has(address))) return;
    for (const [address, trap] of this.#until) {
      if (addresses.includes(address)) continue;
      this.#until.delete(address);
      this.#traps.delete(trap);
    }
    for (const address of addresses) {
      if (this.#until.has(address)) continue;
      const trap = { list: trapList("linear", "code"), first: address, last: address, kinds: TrapKind.Break };
      this.#traps.add(trap);
      this.#until.set(address, trap);
    }
  }

  dropUntil(address: bigint): void {
    const trap = this.#until.get(address);
    if (trap === undefined) return;
    this.#until.delete(address);
    this.#traps.delete(trap);
  }

  /** Numbers of the breakpoints at a place. */
  at(linear: bigint, physical: bigint | undefined): number[] {
    return this.breakpoints
      .filter(({ address, space }) => address === (space === "linear" ? linear : physical))
      .map(({ id }) => id);
  }

  /** After RunCode.Watchpoint. */
  hits(): WatchHit[] {
    const core = this.#core;
    return Array.from({ length: core.read32(COMM_WATCH_COUNT) }, (_, i) => {
      const at = COMM_WATCH + i * WATCH_ENTRY;
      const address = core.read64(at + WA_LINEAR);
      const physical = core.read64(at + WA_PHYSICAL);
      const size = core.read32(at + WA_SIZE);
      const access = core.read32(at + WA_KIND) === TrapKind.WatchRead ? "read" : "write";
      const known = core.read32(at + WA_IS_RAM) !== 0;
      const before = known ? littleEndian(core.u8.subarray(at + WA_DATA, at + WA_DATA + size)) : undefined;
      const after = access === "read" ? before : known ? this.#contents(address, physical, size) : undefined;
      return { address, physical, size, access, before, after, ids: this.#met(address, physical, size, access) };
    });
  }

  #contents(linear: bigint, physical: bigint, size: number): bigint | undefined {
    const first = Math.min(size, 4096 - Number(physical & 0xfffn));
    const bytes = new Uint8Array(size);
    bytes.set(this.#core.readPhysical(physical, first));
    if (size > first) {
      const next = this.#core.translate(linear + BigInt(first), 0, 1);
      if (next === undefined) return undefined;
      bytes.set(this.#core.readPhysical(next, size - first), first);
    }
    return littleEndian(bytes);
  }

  #met(linear: bigint, physical: bigint, size: number, access: "read" | "write"): number[] {
    return this.watchpoints
      .filter((watchpoint) => {
        if (watchpoint.access !== "access" && watchpoint.access !== access) return false;
        const at = watchpoint.space === "linear" ? linear : physical;
        return at < watchpoint.address + BigInt(watchpoint.size) && watchpoint.address < at + BigInt(size);
      })
      .map(({ id }) => id);
  }
}
