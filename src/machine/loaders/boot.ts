// What a boot loader leaves in memory besides the kernel: modules, command line, memory map.
// Sources: Multiboot Specification 0.6.96, "Boot information format"; Xen public/arch-x86/hvm/start_info.h
import { checkBytes, GuestImageError } from "../../core/index.ts";
import { LOW_MEMORY_END, type MemoryRange, memoryRanges, RangeType } from "../../devices/index.ts";
import type { RegisterUpdate } from "../registers.ts";
import { checkImage, type GuestImage } from "./image.ts";

export interface BootModule {
  readonly data: Uint8Array;
  /** Text that goes with it; default none. */
  readonly commandLine?: string;
}

/** For kernels of a boot protocol. */
export interface BootOptions {
  readonly commandLine?: string;
  readonly modules?: readonly BootModule[];
  /** Physical address of the ACPI RSDP, for PVH; default none. */
  readonly rsdp?: number;
}

export interface BootInformation {
  readonly memory: readonly { readonly address: number; readonly data: Uint8Array }[];
  readonly registers: RegisterUpdate;
}

/** Conventional memory for the information, where most kernels leave it alone. */
const INFORMATION = 0x9000;
const PAGE = 4096;
const MULTIBOOT_MAGIC = 0x2bad_b002;
const MULTIBOOT_BYTES = 120;
const MODULE_BYTES = 16;
const MMAP_BYTES = 24;
const START_INFO_MAGIC = 0x336e_c578;
const START_INFO_BYTES = 56;
const PVH_ENTRY_BYTES = { module: 32, range: 24 } as const;

const align = (value: number, to: number) => Math.ceil(value / to) * to;

interface Placed {
  readonly start: number;
  readonly end: number;
  readonly commandLine: string;
}

/** Bytes at a fixed address, filled from the front. */
class Block {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #next = 0;

  constructor(
    readonly address: number,
    size: number,
  ) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  take(size: number): number {
    const at = align(this.#next, 8);
    this.#next = at + size;
    return this.address + at;
  }
  text(value: string): number {
    const bytes = new TextEncoder().encode(`${value}\0`);
    const at = this.take(bytes.length);
    this.bytes.set(bytes, at - this.address);
    return at;
  }
  u32(at: number, value: number): void {
    this.#view.setUint32(at - this.address, value, true);
  }
  u64(at: number, value: number): void {
    this.#view.setBigUint64(at - this.address, BigInt(value), true);
  }
}

/** Modules lie one after the other behind the kernel, each at a page. */
function placeModules(image: GuestImage, modules: readonly BootModule[], ramSize: number): Placed[] {
  let next = Math.max(...image.segments.map(({ address, memorySize }) => address + memorySize));
  return modules.map(({ data, commandLine = "" }, index) => {
    checkBytes("data of a module", data);
    const start = align(next, PAGE);
    next = start + data.length;
    if (next > ramSize) {
      throw new GuestImageError(
        `module ${index} (${data.length} bytes at 0x${start.toString(16)}) does not fit into the ${ramSize} bytes of RAM; give the guest more memory`,
      );
    }
    return { start, end: next, commandLine };
  });
}

/** Room for the information: low memory, or behind the modules when the kernel lies there. */
function placeInformation(image: GuestImage, modules: readonly Placed[], size: number, ramSize: number): number {
  const free = (start: number) =>
    image.segments.every(({ address, memorySize }) => start + size <= address || start >= address + memorySize);
  if (INFORMATION + size <= Math.min(LOW_MEMORY_END, ramSize) && free(INFORMATION)) return INFORMATION;
  const kernelEnd = Math.max(...image.segments.map(({ address, memorySize }) => address + memorySize));
  const start = align(Math.max(kernelEnd, ...modules.map(({ end }) => end)), PAGE);
  if (start + size > ramSize) {
    throw new GuestImageError(
      `no room for ${size} bytes of boot information behind the kernel and its modules (0x${start.toString(16)}) in ${ramSize} bytes of RAM`,
    );
  }
  return start;
}

function fillMultiboot(block: Block, options: BootOptions, modules: readonly Placed[], ranges: readonly MemoryRange[]) {
  const FLAGS = { memory: 1, commandLine: 4, modules: 8, map: 64, loader: 512 };
  const info = block.take(MULTIBOOT_BYTES);
  const list = block.take(modules.length * MODULE_BYTES);
  const map = block.take(ranges.length * MMAP_BYTES);
  const ram = ranges.filter(({ type }) => type === RangeType.Ram);
  block.u32(info, FLAGS.memory | FLAGS.commandLine | FLAGS.modules | FLAGS.map | FLAGS.loader);
  block.u32(info + 4, (ram[0]?.size ?? 0) >> 10);
  block.u32(info + 8, (ram[1]?.size ?? 0) / 1024);
  block.u32(info + 16, block.text(options.commandLine ?? ""));
  block.u32(info + 20, modules.length);
  block.u32(info + 24, list);
  modules.forEach(({ start, end, commandLine }, i) => {
    block.u32(list + i * MODULE_BYTES, start);
    block.u32(list + i * MODULE_BYTES + 4, end);
    block.u32(list + i * MODULE_BYTES + 8, block.text(commandLine));
  });
  block.u32(info + 44, ranges.length * MMAP_BYTES);
  block.u32(info + 48, map);
  ranges.forEach(({ address, size, type }, i) => {
    const at = map + i * MMAP_BYTES;
    block.u32(at, MMAP_BYTES - 4);
    block.u64(at + 4, address);
    block.u64(at + 12, size);
    block.u32(at + 20, type);
  });
  block.u32(info + 64, block.text("wasm-vmx"));
  return { rax: MULTIBOOT_MAGIC, rbx: info };
}

function fillStartInfo(block: Block, options: BootOptions, modules: readonly Placed[], ranges: readonly MemoryRange[]) {
  const info = block.take(START_INFO_BYTES);
  const list = block.take(modules.length * PVH_ENTRY_BYTES.module);
  const map = block.take(ranges.length * PVH_ENTRY_BYTES.range);
  block.u32(info, START_INFO_MAGIC);
  block.u32(info + 4, 1);
  block.u32(info + 12, modules.length);
  block.u64(info + 16, modules.length > 0 ? list : 0);
  block.u64(info + 24, block.text(options.commandLine ?? ""));
  block.u64(info + 32, options.rsdp ?? 0);
  block.u64(info + 40, map);
  block.u32(info + 48, ranges.length);
  modules.forEach(({ start, end, commandLine }, i) => {
    const at = list + i * PVH_ENTRY_BYTES.module;
    block.u64(at, start);
    block.u64(at + 8, end - start);
    block.u64(at + 16, commandLine === "" ? 0 : block.text(commandLine));
  });
  ranges.forEach(({ address, size, type }, i) => {
    const at = map + i * PVH_ENTRY_BYTES.range;
    block.u64(at, address);
    block.u64(at + 8, size);
    block.u32(at + 16, type);
  });
  return { rbx: info };
}

/** Memory and registers that the image's boot protocol asks for; nothing for an image of none. */
export function bootInformation(image: GuestImage, ramSize: number, options: BootOptions): BootInformation {
  if (image.boot === undefined) {
    if (options.commandLine !== undefined || options.modules?.length) {
      throw new GuestImageError(
        `a command line and modules are for Multiboot and PVH kernels; this guest (${image.format}) has no boot protocol`,
      );
    }
    return { memory: [], registers: {} };
  }
  checkImage(image, ramSize);
  const modules = options.modules ?? [];
  const placed = placeModules(image, modules, ramSize);
  const ranges = memoryRanges(ramSize);
  const texts = [options.commandLine ?? "", "wasm-vmx", ...placed.map(({ commandLine }) => commandLine)];
  const text = texts.reduce((sum, line) => sum + align(new TextEncoder().encode(line).length + 1, 8), 0);
  const size = 256 + text + modules.length * 32 + ranges.length * 32;
  const block = new Block(placeInformation(image, placed, size, ramSize), size);
  const fill = image.boot.protocol === "multiboot" ? fillMultiboot : fillStartInfo;
  const registers = fill(block, options, placed, ranges);
  return {
    registers,
    memory: [
      ...placed.map(({ start }, i) => ({ address: start, data: modules[i]!.data })),
      { address: block.address, data: block.bytes },
    ],
  };
}
