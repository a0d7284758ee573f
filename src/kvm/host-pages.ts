import type { Core } from "../core/index.ts";

const PAGE = 4096;
const PAGE_SIZE = 4096n;
const LARGE = 0x20_0000n;

/** Physical addresses of the host's own frames: VMCSs, bitmaps, EPT tables. */
const HOST_PAGES = 0x8_0000_0000n;
/** Physical addresses of guest memory's backing. */
const BACKING = 0xc_0000_0000n;
const FIRST_CHUNK = 32;

/**
 * The host's physical memory. Nothing in it has an address that a guest can name: guest-physical addresses reach it
 * only through EPT entries.
 */
export class HostPages {
  private next = HOST_PAGES;
  private end = HOST_PAGES;
  private chunk = FIRST_CHUNK;
  private nextBacking = BACKING;
  private readonly free: bigint[] = [];
  private readonly backing: { readonly address: bigint; readonly pages: number }[] = [];

  constructor(readonly core: Core) {}

  /** A zeroed 4 KiB frame of the host's own. */
  alloc(): bigint {
    const spare = this.free.pop();
    if (spare !== undefined) {
      this.core.writePhysical(spare, new Uint8Array(PAGE));
      return spare;
    }
    if (this.next === this.end) {
      this.core.mapRam(this.end, this.chunk);
      this.end += BigInt(this.chunk) * PAGE_SIZE;
      this.chunk *= 2;
    }
    const page = this.next;
    this.next += PAGE_SIZE;
    return page;
  }

  release(page: bigint): void {
    this.free.push(page);
  }

  /** Zeroed backing for guest memory, aligned to 2 MiB so that large pages can map it. Returns its physical address. */
  allocBacking(pages: number): bigint {
    const base = this.nextBacking;
    this.core.mapRam(base, pages);
    this.backing.push({ address: base, pages });
    this.nextBacking = (base + BigInt(pages) * PAGE_SIZE + LARGE - 1n) & ~(LARGE - 1n);
    return base;
  }

  /** All that was given out: guests' memory, and the host's own frames. */
  get ranges(): { backing: readonly { address: bigint; pages: number }[]; own: { address: bigint; pages: number } } {
    return { backing: this.backing, own: { address: HOST_PAGES, pages: Number((this.next - HOST_PAGES) / PAGE_SIZE) } };
  }
}
