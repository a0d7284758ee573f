// Copies of a processor's memory and back, of the pages that changed only. A frame that is unchanged since the last copy carries
// PageFlag.DirtyLog: it has no write entry in the TLB, and the first store to it takes the flag away.
import { PageFlag } from "../../assembly/abi/layout.ts";
import { VMCS_HOST } from "../../assembly/abi/state.ts";
import type { Core } from "../core/index.ts";
import { PAGE, type Page, PageStore } from "./pages.ts";

/** A region with contents, by its place in the Wasm memory. */
export interface Backed {
  readonly host: number;
  readonly pages: number;
}

/** Contents of regions when they were copied last. */
export interface Tracked {
  readonly regions: readonly Backed[];
  readonly base: readonly PageStore[] | undefined;
}

export class TrackedMemory {
  readonly #core: Core;
  #regions: readonly Backed[];
  #base: readonly PageStore[] | undefined;

  constructor(core: Core, { regions, base }: Tracked = { regions: [], base: undefined }) {
    this.#core = core;
    this.#regions = regions;
    this.#base = base;
  }

  get tracked(): Tracked {
    return { regions: this.#regions, base: this.#base };
  }

  /** The memory map has changed: everything counts as changed. */
  forget(): void {
    this.#base = undefined;
  }

  /** Nothing has been written yet: all frames are zeros. */
  beginWithZeros(regions: readonly Backed[]): void {
    this.#settle(
      regions,
      regions.map(({ pages }) => PageStore.zeros(pages)),
    );
  }

  /** Present contents; pages that did not change since the last call, or the last restore, are shared with it. */
  capture(regions: readonly Backed[]): PageStore[] {
    const base = this.#baseOf(regions);
    const stores = regions.map((region, i) => {
      const changes = new Map<number, Page | undefined>();
      for (const page of this.#dirty(region, base === undefined)) {
        const host = region.host + page * PAGE;
        changes.set(page, this.#core.exports.zeroPage(host) ? undefined : this.#core.u8.slice(host, host + PAGE));
      }
      return (base?.[i] ?? PageStore.zeros(region.pages)).with(changes);
    });
    this.#settle(regions, stores);
    return stores;
  }

  /** Puts contents back. Returns how many pages were copied. */
  restore(regions: readonly Backed[], stores: readonly PageStore[]): number {
    const base = this.#baseOf(regions);
    let copied = 0;
    regions.forEach((region, i) => {
      const store = stores[i]!;
      const pages = new Set(this.#dirty(region, base === undefined));
      if (base) for (const page of store.differences(base[i]!)) pages.add(page);
      for (const page of pages) {
        const host = region.host + page * PAGE;
        const contents = store.get(page);
        if (contents) this.#core.u8.set(contents, host);
        else if (base || !this.#core.exports.zeroPage(host)) this.#core.u8.fill(0, host, host + PAGE);
        else continue;
        this.#core.exports.noteHostWrite(host, PAGE);
        copied++;
      }
    });
    this.#settle(regions, stores);
    return copied;
  }

  /** Pages that changed since the last capture or restore. */
  changed(regions: readonly Backed[]): number {
    const all = this.#baseOf(regions) === undefined;
    return regions.reduce((sum, region) => sum + this.#dirty(region, all).length, 0);
  }

  #baseOf(regions: readonly Backed[]): readonly PageStore[] | undefined {
    const same =
      regions.length === this.#regions.length && regions.every((region, i) => region.host === this.#regions[i]!.host);
    return same ? this.#base : undefined;
  }

  #dirty({ host, pages }: Backed, all: boolean): number[] {
    if (all) return Array.from({ length: pages }, (_, page) => page);
    const flags = this.#core.exports.frameFlags(host);
    const { u8 } = this.#core;
    const found: number[] = [];
    for (let page = 0; page < pages; page++) if (!(u8[flags + page]! & PageFlag.DirtyLog)) found.push(page);
    return found;
  }

  #settle(regions: readonly Backed[], stores: readonly PageStore[]): void {
    const { u8 } = this.#core;
    for (const { host, pages } of regions) {
      const flags = this.#core.exports.frameFlags(host);
      for (let at = flags; at < flags + pages; at++) u8[at]! |= PageFlag.DirtyLog;
    }
    // the processor writes the current VMCS without a look at flags
    const vmcs = this.#core.read32(VMCS_HOST);
    if (vmcs !== 0) u8[this.#core.exports.frameFlags(vmcs)]! &= ~PageFlag.DirtyLog;
    this.#core.exports.dropTranslations();
    this.#regions = regions;
    this.#base = stores;
  }
}
