// QEMU's firmware configuration device, without DMA. Source: QEMU docs/specs/fw_cfg.
import type { PortDevice } from "../bus.ts";
import { type MemoryRange, RangeType } from "./memoryRanges.ts";

const SELECTOR = 0x510;
const DATA = 0x511;

const Item = {
  Signature: 0x00,
  Id: 0x01,
  RamSize: 0x03,
  NbCpus: 0x05,
  MaxCpus: 0x0f,
  CommandLineSize: 0x14,
  CommandLine: 0x15,
  FileDirectory: 0x19,
  FirstFile: 0x20,
} as const;
/** Bit 0: the interface of selector and data register. */
const ID_TRADITIONAL = 1;
const NAME_BYTES = 56;
const ENTRY_BYTES = 64;
const E820_BYTES = 20;

export interface FwCfgOptions {
  readonly ramSize: number;
  readonly cpus: number;
  readonly ranges: readonly MemoryRange[];
  readonly commandLine?: string;
  /** More files by name, at most 55 ASCII characters each. */
  readonly files?: Readonly<Record<string, Uint8Array>>;
}

export interface FwCfgState {
  readonly selected: number;
  readonly offset: number;
}

function little(bytes: number, value: number | bigint): Uint8Array {
  const out = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i++) out[i] = Number((BigInt(value) >> BigInt(8 * i)) & 0xffn);
  return out;
}

/** The memory map as e820 entries: address, length, type. */
function e820(ranges: readonly MemoryRange[]): Uint8Array {
  const out = new Uint8Array(ranges.length * E820_BYTES);
  const view = new DataView(out.buffer);
  ranges.forEach(({ address, size, type }, i) => {
    view.setBigUint64(i * E820_BYTES, BigInt(address), true);
    view.setBigUint64(i * E820_BYTES + 8, BigInt(size), true);
    view.setUint32(i * E820_BYTES + 16, type, true);
  });
  return out;
}

/** Big-endian count, then size, selector, 0 and name of each file. */
function directory(files: readonly (readonly [string, Uint8Array])[]): Uint8Array {
  const out = new Uint8Array(4 + files.length * ENTRY_BYTES);
  const view = new DataView(out.buffer);
  view.setUint32(0, files.length);
  files.forEach(([name, data], i) => {
    const at = 4 + i * ENTRY_BYTES;
    view.setUint32(at, data.length);
    view.setUint16(at + 4, Item.FirstFile + i);
    out.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1), at + 8);
  });
  return out;
}

export class FwCfg implements PortDevice {
  readonly ports = [[SELECTOR, DATA]] as const;
  readonly #items = new Map<number, Uint8Array>();
  #selected = 0;
  #offset = 0;

  constructor(options: FwCfgOptions) {
    const { ramSize, cpus, ranges, commandLine = "", files = {} } = options;
    const text = new TextEncoder();
    const set = (item: number, data: Uint8Array) => this.#items.set(item, data);
    set(Item.Signature, text.encode("QEMU"));
    set(Item.Id, little(4, ID_TRADITIONAL));
    set(Item.RamSize, little(8, ramSize));
    set(Item.NbCpus, little(2, cpus));
    set(Item.MaxCpus, little(2, cpus));
    const line = text.encode(`${commandLine}\0`);
    set(Item.CommandLineSize, little(4, line.length));
    set(Item.CommandLine, line);
    for (const name of Object.keys(files)) {
      if (!/^[\x21-\x7e]{1,55}$/.test(name)) {
        throw new RangeError(`fw_cfg file name ${JSON.stringify(name)} must be 1 to 55 printable ASCII characters`);
      }
    }
    const known = ranges.filter(({ type }) => type === RangeType.Ram || type === RangeType.Reserved);
    const all = Object.entries({ "etc/e820": e820(known), ...files }).sort(([a], [b]) => (a < b ? -1 : 1));
    set(Item.FileDirectory, directory(all));
    all.forEach(([, data], i) => {
      set(Item.FirstFile + i, data);
    });
  }

  read(port: number, size: number): number {
    if (port !== DATA || size !== 1) return 0xffff_ffff;
    return this.#items.get(this.#selected)?.[this.#offset++] ?? 0;
  }

  write(port: number, value: number, size: number): void {
    if (port !== SELECTOR || size !== 2) return;
    this.#selected = value;
    this.#offset = 0;
  }

  reset(): void {
    this.#selected = 0;
    this.#offset = 0;
  }

  save(): FwCfgState {
    return { selected: this.#selected, offset: this.#offset };
  }

  restore(state: FwCfgState): void {
    this.#selected = state.selected;
    this.#offset = state.offset;
  }
}
