import { TRAP_LIST_BYTES, TRAP_MAX, TRAP_RANGE, TRAPS, TrapKind, TrapList } from "../../assembly/abi/layout.ts";
import type { Core } from "../core/index.ts";

/** Linear addresses are what the guest's segments give, before paging; physical ones are what paging (and EPT) gives. */
export type AddressSpace = "linear" | "physical";

/** Something asked of the bytes from first to last, both included. */
export interface Trap {
  readonly list: TrapList;
  readonly first: bigint;
  readonly last: bigint;
  readonly kinds: number;
}

export interface Merged {
  readonly first: bigint;
  readonly last: bigint;
  readonly kinds: number;
}

/** Disjoint sorted ranges with the union of what is asked of each. */
export function mergeTraps(traps: readonly Pick<Trap, "first" | "last" | "kinds">[]): Merged[] {
  const edges = [...new Set(traps.flatMap(({ first, last }) => [first, last + 1n]))].sort((a, b) => (a < b ? -1 : 1));
  const sorted = [...traps].sort((a, b) => (a.first < b.first ? -1 : 1));
  const merged: Merged[] = [];
  let open: Pick<Trap, "first" | "last" | "kinds">[] = [];
  let next = 0;
  for (let i = 0; i + 1 < edges.length; i++) {
    const first = edges[i]!;
    const last = edges[i + 1]! - 1n;
    open = open.filter((trap) => trap.last >= first);
    while (next < sorted.length && sorted[next]!.first <= first) open.push(sorted[next++]!);
    const kinds = open.reduce((bits, trap) => bits | trap.kinds, 0);
    if (kinds === 0) continue;
    const before = merged[merged.length - 1];
    if (before && before.kinds === kinds && before.last + 1n === first) {
      merged[merged.length - 1] = { first: before.first, last, kinds };
    } else merged.push({ first, last, kinds });
  }
  return merged;
}

const LISTS = [TrapList.LinearCode, TrapList.PhysicalCode, TrapList.LinearData, TrapList.PhysicalData] as const;

/** Kinds that stop the processor and change nothing else. */
export const STOPS: number = TrapKind.Break | TrapKind.WatchRead | TrapKind.WatchWrite;

/** The traps of a machine, kept in step with the processor's lists. */
export class TrapSet {
  readonly #core: Core;
  readonly #traps = new Set<Trap>();
  readonly #lengths = [0, 0, 0, 0];
  #stale = false;
  #ignored = 0;
  #changes = 0;

  constructor(core: Core) {
    this.#core = core;
  }

  /** RangeError, with nothing changed, when there are more ranges than the processor holds. */
  add(trap: Trap): void {
    this.#traps.add(trap);
    const same = [...this.#traps].filter(({ list }) => list === trap.list);
    // overlaps make at most two ranges of one: look closer only near the limit
    if (2 * same.length > TRAP_MAX && mergeTraps(same).length > TRAP_MAX) {
      this.#traps.delete(trap);
      throw new RangeError(
        `the processor holds at most ${TRAP_MAX} separate ranges of breakpoints or hooks of one kind`,
      );
    }
    this.#note(trap);
  }

  delete(trap: Trap): void {
    if (this.#traps.delete(trap)) this.#note(trap);
  }

  /** Kinds that count for nothing until this is called again with others. */
  ignore(kinds: number): void {
    if (kinds === this.#ignored) return;
    this.#ignored = kinds;
    this.#stale = true;
  }

  /** Rises when a trap is set or removed that can change what the guest does: not a breakpoint or watchpoint. */
  get changes(): number {
    return this.#changes;
  }

  #note(trap: Trap): void {
    if (trap.kinds & ~STOPS) this.#changes++;
    this.#changed();
  }

  #changed(): void {
    this.#stale = true;
    if (this.#core.running) this.apply();
  }

  /** Must come before the processor runs. */
  apply(): void {
    if (!this.#stale) return;
    this.#stale = false;
    for (const list of LISTS) {
      const traps = [...this.#traps].filter((trap) => trap.list === list);
      const ranges = mergeTraps(traps.map((trap) => ({ ...trap, kinds: trap.kinds & ~this.#ignored })));
      ranges.forEach(({ first, last, kinds }, i) => {
        const at = TRAPS + list * TRAP_LIST_BYTES + i * TRAP_RANGE;
        this.#core.write64(at, first);
        this.#core.write64(at + 8, last);
        this.#core.write32(at + 16, kinds);
      });
      this.#lengths[list] = ranges.length;
    }
    const [a, b, c, d] = this.#lengths as [number, number, number, number];
    this.#core.exports.trapsChanged(a, b, c, d);
  }
}

/** The list for an address space. */
export function trapList(space: AddressSpace, what: "code" | "data"): TrapList {
  if (space !== "linear" && space !== "physical") {
    throw new TypeError(`space must be "linear" or "physical", not ${String(space)}`);
  }
  if (what === "code") return space === "linear" ? TrapList.LinearCode : TrapList.PhysicalCode;
  return space === "linear" ? TrapList.LinearData : TrapList.PhysicalData;
}
