import { PAGE, RegionFlag } from "../../assembly/abi/layout.ts";
import {
  type Core,
  checkBytes,
  checkFunction,
  checkInteger,
  checkPageAligned,
  checkU64,
  MemoryMapError,
} from "../core/index.ts";
import type { Backed } from "../snapshot/index.ts";
import { HookList, type RemoveHook } from "./hookList.ts";
import type { PermissionMap, Permissions } from "./permissions.ts";

/** Read of an MMIO window. `offset` counts from the start of the window; size is 1, 2, 4 or 8. */
export type MmioRead = (offset: number, size: number) => bigint | number;
export type MmioWrite = (offset: number, size: number, value: bigint) => void;

interface RegionBase {
  /** Guest-physical address, a multiple of 4096. */
  readonly address: bigint | number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
  /** What the guest may do there; default everything. An access beyond it ends run() with "denied". */
  readonly permissions?: Permissions;
}

export type Region = RegionBase &
  (
    | { readonly kind: "ram" /** First bytes; the rest is zero. */; readonly data?: Uint8Array }
    | { readonly kind: "rom"; readonly data?: Uint8Array }
    | { readonly kind: "mmio"; readonly read?: MmioRead; readonly write?: MmioWrite }
  );

/** What is mapped, lowest address first. */
export interface MappedRegion {
  readonly address: bigint;
  readonly size: number;
  readonly kind: Region["kind"];
}

/** A region and its place in the Wasm memory, 0 for a window. */
export interface Mapped extends MappedRegion {
  readonly host: number;
  readonly read?: MmioRead | undefined;
  readonly write?: MmioWrite | undefined;
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

/** Before the window's own callback: the value to read, or undefined to pass it on. */
export type MmioReadHook = (address: bigint, size: number) => bigint | number | undefined;
/** Before the window's own callback; return false to pass it on. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that returns nothing has taken the write
export type MmioWriteHook = (address: bigint, size: number, value: bigint) => boolean | void;

export interface MmioHooks {
  readonly read?: MmioReadHook;
  readonly write?: MmioWriteHook;
}

interface RangedMmio {
  readonly first: bigint;
  readonly last: bigint;
  readonly hooks: MmioHooks;
}

export interface Overlay {
  readonly address: bigint;
  readonly read: MmioRead;
  readonly write: MmioWrite;
}

/** A region without one of its pages. */
function pieces(region: MappedRegion, page: bigint): { start: bigint; size: number }[] {
  const before = Number(page - region.address);
  return [
    { start: region.address, size: before },
    { start: page + BigInt(PAGE), size: region.size - before - PAGE },
  ].filter(({ size }) => size > 0);
}

/** The physical address space of a machine. */
export class MemoryMap {
  readonly #core: Core;
  readonly #permissions: PermissionMap;
  readonly #mmioHooks = new HookList<RangedMmio>();
  #regions: Mapped[];
  #overlay: Overlay | undefined;

  /** @param regions RAM and ROM that the processor has mapped already */
  constructor(core: Core, permissions: PermissionMap, regions: readonly Mapped[] = []) {
    this.#core = core;
    this.#regions = [...regions];
    this.#permissions = permissions;
    core.setHandler("mmioRead", (address, size) => {
      for (const { first, last, hooks } of this.#mmioHooks) {
        const value = address >= first && address <= last ? hooks.read?.(address, size) : undefined;
        if (value !== undefined) return checkU64("value of an MMIO hook", value);
      }
      const region = this.#window(address);
      if (region?.read === undefined) return -1n;
      const value = region.read(Number(address - region.address), size);
      return checkU64("value of an MMIO read", value);
    });
    core.setHandler("mmioWrite", (address, size, value) => {
      for (const { first, last, hooks } of this.#mmioHooks) {
        if (address >= first && address <= last && hooks.write && hooks.write(address, size, value) !== false) return;
      }
      const region = this.#window(address);
      region?.write?.(Number(address - region.address), size, value);
    });
  }

  get regions(): MappedRegion[] {
    return this.#regions.map(({ address, size, kind }) => ({ address, size, kind }));
  }

  /** Regions with contents, by their place in the Wasm memory. */
  get backed(): Backed[] {
    return this.#regions.flatMap(({ host, size, kind }) => (kind === "mmio" ? [] : [{ host, pages: size / PAGE }]));
  }

  /** Takes the windows away; the RAM and ROM that stay mapped. */
  leave(): readonly Mapped[] {
    this.overlay(undefined);
    for (const { kind, address } of this.#regions) if (kind === "mmio") this.#core.unmapRegion(address);
    return this.#regions.filter(({ kind }) => kind !== "mmio");
  }

  map(region: Region): void {
    this.#withoutOverlay(() => this.#mapRegion(region));
  }

  /**
   * One page of a device that lies over whatever is mapped there, as the local APIC's does; undefined takes it away. It is
   * no region: what lies under it keeps its contents.
   */
  overlay(page: Overlay | undefined): void {
    if (this.#overlay) {
      const { address } = this.#overlay;
      this.#overlay = undefined;
      this.#core.unmapRegion(address);
      const under = this.#find(address);
      if (under) {
        for (const { start } of pieces(under, address)) this.#core.unmapRegion(start);
        this.#mapPiece(under, under.address, under.size);
      }
    }
    if (page === undefined) return;
    const under = this.#find(page.address);
    if (under) {
      this.#core.unmapRegion(under.address);
      for (const { start, size } of pieces(under, page.address)) this.#mapPiece(under, start, size);
    }
    this.#core.mapRegion(page.address, 1, 0, RegionFlag.Mmio);
    this.#overlay = page;
  }

  #mapPiece({ kind, host, address }: Mapped, start: bigint, size: number): void {
    const flags = { ram: RegionFlag.Ram, rom: RegionFlag.Ram | RegionFlag.ReadOnly, mmio: RegionFlag.Mmio }[kind];
    this.#core.mapRegion(start, size / PAGE, host === 0 ? 0 : host + Number(start - address), flags);
  }

  #withoutOverlay(change: () => void): void {
    const page = this.#overlay;
    if (page) this.overlay(undefined);
    try {
      change();
    } finally {
      if (page) this.overlay(page);
    }
  }

  #mapRegion(region: Region): void {
    const address = checkU64("address", region.address);
    checkPageAligned("address", address);
    const size = checkInteger("size", region.size, PAGE, 2 ** 52);
    checkPageAligned("size", BigInt(size));
    if (address + BigInt(size) > 1n << 52n) {
      throw new RangeError(`address ${hex(address)} + size ${size} lies beyond the 52 bits of a physical address`);
    }
    const clash = this.#regions.find((r) => address < r.address + BigInt(r.size) && r.address < address + BigInt(size));
    if (clash) {
      throw new MemoryMapError(
        `${hex(address)} + ${size} bytes overlaps the ${clash.kind} at ${hex(clash.address)} (${clash.size} bytes); unmap that first`,
        address,
        size,
      );
    }
    const pages = size / PAGE;
    let mapped: Mapped;
    switch (region.kind) {
      case "ram":
      case "rom": {
        if (region.data !== undefined) {
          checkBytes("data", region.data);
          if (region.data.length > size) {
            throw new RangeError(`data has ${region.data.length} bytes, the region only ${size}`);
          }
        }
        const flags = region.kind === "ram" ? RegionFlag.Ram : RegionFlag.Ram | RegionFlag.ReadOnly;
        const host = this.#core.mapRam(address, pages, flags);
        if (region.data) this.#core.writePhysical(address, region.data);
        mapped = { address, size, kind: region.kind, host };
        break;
      }
      case "mmio":
        if (region.read !== undefined) checkFunction("read", region.read);
        if (region.write !== undefined) checkFunction("write", region.write);
        this.#core.mapRegion(address, pages, 0, RegionFlag.Mmio);
        mapped = { address, size, kind: "mmio", host: 0, read: region.read, write: region.write };
        break;
      default:
        throw new TypeError(`kind must be "ram", "rom" or "mmio", not ${String((region as { kind: unknown }).kind)}`);
    }
    if (region.permissions) this.#permissions.set(address, address + BigInt(size) - 1n, region.permissions);
    this.#regions.push(mapped);
    this.#regions.sort((a, b) => (a.address < b.address ? -1 : 1));
  }

  /** Removes the whole region that starts at the address. */
  unmap(address: bigint | number): void {
    const start = checkU64("address", address);
    const region = this.#regions.find((r) => r.address === start);
    if (region === undefined) {
      const starts = this.#regions.map((r) => hex(r.address)).join(", ") || "nothing";
      throw new MemoryMapError(`no region starts at ${hex(start)}; mapped: ${starts}`, start, 0);
    }
    this.#withoutOverlay(() => this.#unmapRegion(region));
  }

  #unmapRegion(region: Mapped): void {
    const start = region.address;
    this.#core.unmapRegion(start);
    this.#permissions.clear(start, start + BigInt(region.size) - 1n);
    if (region.host !== 0) this.#core.freeFrames(region.host, region.size / PAGE);
    this.#regions = this.#regions.filter((r) => r !== region);
  }

  /** Replaces what the guest may do with these physical bytes. */
  protect(address: bigint | number, size: number, permissions: Permissions): void {
    const first = checkU64("address", address);
    checkInteger("size", size, 1, 2 ** 52);
    this.#permissions.set(first, first + BigInt(size) - 1n, permissions);
  }

  onMmio(address: bigint | number, size: number, hooks: MmioHooks): RemoveHook {
    const first = checkU64("address", address);
    checkInteger("size", size, 1, 2 ** 52);
    if (hooks.read !== undefined) checkFunction("read", hooks.read);
    if (hooks.write !== undefined) checkFunction("write", hooks.write);
    return this.#mmioHooks.add({ first, last: first + BigInt(size) - 1n, hooks });
  }

  #window(address: bigint): Overlay | Mapped | undefined {
    const page = this.#overlay;
    return page && address >= page.address && address - page.address < BigInt(PAGE) ? page : this.#find(address);
  }

  #find(address: bigint): Mapped | undefined {
    return this.#regions.find((r) => address >= r.address && address - r.address < BigInt(r.size));
  }
}
