// Forks that were disposed of, for the next forks: the processor, its memory and its generated code are taken over, so that a
// loop of fork, run, dispose makes no WebAssembly memory, for which engines collect garbage. They are held weakly: whenever
// the engine collects, or has no room for another memory, they go.
import type { Processor } from "../core/index.ts";
import { sameRegions, type Tracked } from "../snapshot/index.ts";
import type { Mapped, MappedRegion } from "./memoryMap.ts";
import type { MachineOptions } from "./options.ts";

/** What a machine leaves. */
export interface Estate {
  readonly processor: Processor;
  readonly regions: readonly Mapped[];
  readonly tracked: Tracked;
}

/** In the options of a machine: what it takes over. */
export const ESTATE: unique symbol = Symbol("estate");

export interface Inheriting extends MachineOptions {
  readonly [ESTATE]?: Estate | undefined;
}

/** Held at most. */
const MOST = 8;

/** Of one machine and its forks, which have the same CPU model and options. */
export class Spares {
  #left: WeakRef<Estate>[] = [];

  add(estate: Estate): void {
    this.#left = this.#left.filter((ref) => ref.deref());
    if (this.#left.length < MOST) this.#left.push(new WeakRef(estate));
  }

  /** One with this RAM and ROM. Others are of an earlier memory map. */
  take(map: readonly MappedRegion[]): Estate | undefined {
    const wanted = map.filter(({ kind }) => kind !== "mmio");
    for (let ref = this.#left.pop(); ref; ref = this.#left.pop()) {
      const estate = ref.deref();
      if (estate && sameRegions(estate.regions, wanted)) return estate;
    }
    return undefined;
  }
}
