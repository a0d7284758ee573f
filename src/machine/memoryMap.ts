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

/** Read of an MMIO window. `offset` counts from the start of the window; size is 1, 2, 4 or 8. */
export type MmioRead = (offset: number, size: number) => bigint | number;
export type MmioWrite = (offset: number, size: number, value: bigint) => void;

interface RegionBase {
  /** Guest-physical address, a multiple of 4096. */
  readonly address: bigint | number;
  /** Bytes, a multiple of 4096. */
  readonly size: number;
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

interface Mapped extends MappedRegion {
  readonly host: number;
  readonly read?: MmioRead | undefined;
  readonly write?: MmioWrite | undefined;
}

const hex = (value: bigint) => `0x${value.toString(16)}`;

/** The physical address space of a machine. */
export class MemoryMap {
  readonly #core: Core;
  #regions: Mapped[] = [];

  constructor(core: Core) {
    this.#core = core;
    core.setHandler("mmioRead", (address, size) => {
      const region = this.#find(address);
      if (region?.read === undefined) return -1n;
      const value = region.read(Number(address - region.address), size);
      return checkU64("value of an MMIO read", value);
    });
    core.setHandler("mmioWrite", (address, size, value) => {
      const region = this.#find(address);
      region?.write?.(Number(address - region.address), size, value);
    });
  }

  get regions(): MappedRegion[] {
    return this.#regions.map(({ address, size, kind }) => ({ address, size, kind }));
  }

  map(region: Region): void {
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
    this.#core.unmapRegion(start);
    if (region.host !== 0) this.#core.freeFrames(region.host, region.size / PAGE);
    this.#regions = this.#regions.filter((r) => r !== region);
  }

  #find(address: bigint): Mapped | undefined {
    return this.#regions.find((r) => address >= r.address && address - r.address < BigInt(r.size));
  }
}
