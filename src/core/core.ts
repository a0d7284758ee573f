import { RegionFlag } from "../../assembly/abi/layout.ts";
import { COMM_CPUID, COMM_DATA, COMM_TEXT, COMM_VALUE, RunCode } from "../../assembly/abi/run.ts";
import {
  ACTIVITY,
  COUNT,
  CPL,
  GPR,
  HOOKS,
  MODE,
  ModeBit,
  RIP,
  SEG_CS,
  SEG_SIZE,
  SEG_SS,
  SEGS,
  SG_ATTR,
  SG_BASE,
  SG_EFFECTIVE,
  SG_LIMIT,
  SG_SELECTOR,
  STOP,
  STOP_CODE,
  StopBit,
  VMX_ABORT,
  WORK,
} from "../../assembly/abi/state.ts";
import { type CallbackOwner, type CoreHandlers, hookBits, type Seat, wrapCallbacks } from "./callbacks.ts";
import { InternalError, MemoryMapError, StateError } from "./errors.ts";
import type { CoreExports } from "./exports.ts";
import type { JitOptions, Linker } from "./jit.ts";
import { Timing } from "./timing.ts";
import type { CodeMode, CpuidResult, SegmentRegister } from "./types.ts";
import { VmcsAccess } from "./vmcsAccess.ts";
import { instantiateCore, type Processor } from "./wasm.ts";

const PAGE = 4096;
const ACTIVITY_HLT = 1;
const u64 = (value: bigint) => BigInt.asUintN(64, value);

interface Extent {
  readonly host: number;
  readonly pages: number;
}

/** What processors made from now on start with. For tests and the command line. */
export interface CoreDefaults {
  readonly jit?: JitOptions;
  /** Entries of the TLB, a power of two up to 1024. */
  readonly tlbEntries?: number;
}

let defaults: CoreDefaults = {};

export function setCoreDefaults(value: CoreDefaults): void {
  defaults = value;
}

/**
 * One processor in Wasm with typed access to its state block. It gives no policy: Machine and Kvm build on it.
 * `u8`, `u32` and `u64` are views of the whole Wasm memory and are remade when it grows: never hold them across
 * `allocFrames` or `mapRam`.
 */
export class Core implements CallbackOwner {
  readonly exports: CoreExports;
  /** Generated code. */
  readonly linker: Linker;
  readonly handlers: CoreHandlers;
  interpose: CallbackOwner["interpose"];
  /** Told of writePhysical(), after it, by pieces of one frame. */
  onHostWrite: ((host: number, bytes: number) => void) | undefined;
  /** Time, deadlines and the interrupt line, for devices. */
  readonly timing = new Timing(this);
  /** VMREAD and VMWRITE by the host. */
  readonly vmcs = new VmcsAccess(this);
  u8!: Uint8Array;
  u32!: Uint32Array;
  u64!: BigUint64Array;
  #running = false;
  #callbackError: { readonly error: unknown } | undefined;
  readonly #free: Extent[] = [];
  readonly #seat: Seat;

  /**
   * @param maxFrames how many 4 KiB frames the memory map may ever hold; 13 bytes of metadata are reserved for each
   * @param frames how many of them there is room for at once; the memory grows for the others
   * @param left what another core has left: its RAM and ROM are mapped, and its state is there until another is put in its place
   */
  constructor(maxFrames: number, frames = 0, left?: Processor) {
    this.#seat = left?.seat ?? { owner: this, handlers: {} };
    this.#seat.owner = this;
    this.handlers = this.#seat.handlers;
    const { exports, linker } = left ?? instantiateCore(wrapCallbacks(this.#seat), frames, maxFrames);
    this.exports = exports;
    this.linker = linker;
    if (left) {
      this.#refreshViews();
      return;
    }
    const failed = this.exports.init(maxFrames);
    this.#refreshViews();
    if (defaults.jit) linker.configure(defaults.jit);
    if (defaults.tlbEntries !== undefined) exports.setTlbEntries(defaults.tlbEntries);
    if (failed !== 0) {
      const bytes = maxFrames * PAGE;
      throw new MemoryMapError(
        `there is no room for ${bytes} bytes of guest memory: memory and metadata must fit into one 4 GiB WebAssembly memory`,
        0n,
        bytes,
      );
    }
  }

  /** Lets go of the processor and its memory: whoever asks for them from now on gets a StateError. */
  release(): void {
    const gone = () => {
      throw new StateError("this machine has been disposed of");
    };
    for (const name of ["u8", "u32", "u64", "exports", "linker", "handlers"]) {
      Object.defineProperty(this, name, { get: gone });
    }
  }

  /**
   * release() that keeps the processor for another core, without what this one asked of it. Only RAM and ROM may be mapped;
   * undefined when some was unmapped before.
   */
  leave(): Processor | undefined {
    const { exports, linker, handlers } = this;
    const seat = this.#seat;
    const whole = this.#free.length === 0;
    exports.trapsChanged(0, 0, 0, 0);
    linker.forgetStatistics();
    for (const kind of Object.keys(handlers) as (keyof CoreHandlers)[]) delete handlers[kind];
    seat.owner = undefined;
    this.release();
    return whole ? { exports, linker, seat } : undefined;
  }

  #refreshViews(): void {
    const { buffer } = this.exports.memory;
    if (this.u8?.buffer === buffer) return;
    this.u8 = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.u64 = new BigUint64Array(buffer);
  }

  // --- state block and exchange page, by absolute address (assembly/abi/state.ts, run.ts) ---

  read32(address: number): number {
    return this.u32[address >> 2]!;
  }

  write32(address: number, value: number): void {
    this.u32[address >> 2] = value;
  }

  read64(address: number): bigint {
    return this.u64[address >> 3]!;
  }

  write64(address: number, value: bigint): void {
    this.u64[address >> 3] = value;
  }

  /** Result of rdmsr, vmread and other exports that answer through COMM_VALUE. */
  get value(): bigint {
    return this.read64(COMM_VALUE);
  }

  setValue(value: bigint): void {
    this.write64(COMM_VALUE, value);
  }

  commData(size: number): Uint8Array {
    return this.u8.slice(COMM_DATA, COMM_DATA + size);
  }

  setCommData(data: Uint8Array): void {
    this.u8.set(data, COMM_DATA);
  }

  // --- registers ---

  get in64BitMode(): boolean {
    return (this.read32(MODE) & ModeBit.Code64) !== 0;
  }

  get codeMode(): CodeMode {
    const mode = this.read32(MODE);
    return mode & ModeBit.Code64 ? 64 : mode & ModeBit.Code32 ? 32 : 16;
  }

  get cpl(): number {
    return this.read32(CPL);
  }

  /** index: RAX RCX RDX RBX RSP RBP RSI RDI R8..R15 */
  gpr(index: number): bigint {
    return this.u64[(GPR >> 3) + index]!;
  }

  /** Outside 64-bit mode the upper halves stay zero, as the execution tiers rely on. */
  setGpr(index: number, value: bigint): void {
    this.u64[(GPR >> 3) + index] = this.in64BitMode ? value : value & 0xffff_ffffn;
  }

  /** Bits 31:0 as an unsigned number. */
  gprLow(index: number): number {
    return this.u32[(GPR >> 2) + 2 * index]!;
  }

  /** Zero-extends, as a 32-bit operation does. */
  setGprLow(index: number, value: number): void {
    this.u32[(GPR >> 2) + 2 * index] = value;
    this.u32[(GPR >> 2) + 2 * index + 1] = 0;
  }

  get rip(): bigint {
    return this.read64(RIP);
  }

  /** Linear address of the next instruction. */
  get codeAddress(): bigint {
    const linear = this.read64(SEGS + SEG_CS + SG_EFFECTIVE) + this.rip;
    return this.in64BitMode ? u64(linear) : linear & 0xffff_ffffn;
  }

  set rip(value: bigint) {
    this.write64(RIP, this.in64BitMode ? value : value & 0xffff_ffffn);
  }

  get rflags(): bigint {
    return u64(this.exports.getRflags());
  }

  set rflags(value: bigint) {
    this.exports.setRflags(value);
    this.exports.stateChanged();
  }

  /** slot: SEG_ES .. SEG_TR of abi/state.ts */
  segment(slot: number): SegmentRegister {
    const at = SEGS + slot;
    return {
      selector: this.read32(at + SG_SELECTOR),
      base: this.read64(at + SG_BASE),
      limit: this.read32(at + SG_LIMIT),
      attributes: this.read32(at + SG_ATTR),
    };
  }

  /** Writes the hidden part as it is; CPL follows SS.DPL. Call stateChanged() after the last of a group of writes. */
  setSegment(slot: number, value: SegmentRegister): void {
    const at = SEGS + slot;
    this.write32(at + SG_SELECTOR, value.selector);
    this.write64(at + SG_BASE, value.base);
    this.write32(at + SG_LIMIT, value.limit);
    this.write32(at + SG_ATTR, value.attributes);
    if (slot === SEG_SS) this.write32(CPL, (value.attributes >> 5) & 3);
  }

  static readonly segmentSize: number = SEG_SIZE;

  stateChanged(): void {
    this.exports.stateChanged();
  }

  /** Completed instructions and deliveries since reset. */
  get count(): bigint {
    return this.read64(COUNT);
  }

  /** Units of work so far: instructions, deliveries and pieces of a REP (64 iterations, or 4 KiB moved at once). */
  get work(): bigint {
    return this.read64(WORK);
  }

  /** Ends HLT, as an interrupt would. */
  wake(): void {
    if (this.read32(ACTIVITY) === ACTIVITY_HLT) this.write32(ACTIVITY, 0);
  }

  get tsc(): bigint {
    return u64(this.exports.tsc());
  }

  /** Physical RDMSR; undefined: #GP(0). */
  rdmsr(index: number): bigint | undefined {
    return this.exports.rdmsr(index) === 0 ? this.value : undefined;
  }

  /** Physical WRMSR; false: #GP(0). */
  wrmsr(index: number, value: bigint): boolean {
    return this.exports.wrmsr(index, value) === 0;
  }

  /** CPUID as the model answers it. */
  cpuid(leaf: number, subleaf: number): CpuidResult {
    this.exports.cpuid(leaf, subleaf);
    return {
      eax: this.read32(COMM_CPUID),
      ebx: this.read32(COMM_CPUID + 4),
      ecx: this.read32(COMM_CPUID + 8),
      edx: this.read32(COMM_CPUID + 12),
    };
  }

  setCpuidResult(result: CpuidResult): void {
    this.write32(COMM_CPUID, result.eax);
    this.write32(COMM_CPUID + 4, result.ebx);
    this.write32(COMM_CPUID + 8, result.ecx);
    this.write32(COMM_CPUID + 12, result.edx);
  }

  /**
   * Linear to physical for the current context; undefined when the access would fault. Changes nothing.
   * access: 0 read, 1 write, 2 fetch; privilege: 0 the present one, 1 supervisor, 2 user.
   */
  translate(linear: bigint, access: 0 | 1 | 2, privilege: 0 | 1 | 2 = 0): bigint | undefined {
    const physical = u64(this.exports.translate(linear, access | (privilege << 2)));
    return physical === 0xffff_ffff_ffff_ffffn ? undefined : physical;
  }

  // --- physical memory ---

  /** Address of zeroed frames in the Wasm memory. */
  allocFrames(pages: number): number {
    const spare = this.#free.findIndex((extent) => extent.pages === pages);
    if (spare >= 0) {
      const [{ host }] = this.#free.splice(spare, 1) as [Extent];
      this.u8.fill(0, host, host + pages * PAGE);
      this.exports.noteHostWrite(host, pages * PAGE);
      return host;
    }
    const host = this.exports.allocFrames(pages) >>> 0;
    this.#refreshViews();
    if (host === 0) {
      throw new MemoryMapError(
        `no room for ${pages * PAGE} bytes: this processor's memory was sized when it was made, ask for more then`,
        0n,
        pages * PAGE,
      );
    }
    return host;
  }

  freeFrames(host: number, pages: number): void {
    this.#free.push({ host, pages });
  }

  /** Maps existing frames, or an MMIO window when host is 0. */
  mapRegion(base: bigint, pages: number, host: number, flags: RegionFlag): void {
    const code = this.exports.mapRegion(base, pages, host, flags);
    if (code === 0) return;
    const size = pages * PAGE;
    const range = `0x${base.toString(16)} + 0x${size.toString(16)}`;
    const why = ["overlaps a region that is mapped already", "would be region 65 of at most 64", "is no valid range"];
    throw new MemoryMapError(`${range} ${why[code - 1] ?? `was refused with code ${code}`}`, base, size);
  }

  /** Maps fresh zeroed RAM or ROM and returns its address in the Wasm memory. */
  mapRam(base: bigint, pages: number, flags: RegionFlag = RegionFlag.Ram): number {
    const host = this.allocFrames(pages);
    try {
      this.mapRegion(base, pages, host, flags);
    } catch (error) {
      this.freeFrames(host, pages);
      throw error;
    }
    return host;
  }

  unmapRegion(base: bigint): void {
    if (this.exports.unmapRegion(base) !== 0) {
      throw new MemoryMapError(`no region starts at 0x${base.toString(16)}`, base, 0);
    }
  }

  /** Address in the Wasm memory, 0 for a hole or an MMIO window. */
  physToHost(address: bigint): number {
    return this.exports.physToHost(address) >>> 0;
  }

  #eachPage(address: bigint, size: number, what: string, visit: (host: number, offset: number, n: number) => void) {
    for (let offset = 0; offset < size; ) {
      const at = address + BigInt(offset);
      const host = this.physToHost(at);
      if (host === 0) {
        throw new MemoryMapError(
          `cannot ${what} ${size} bytes at physical 0x${address.toString(16)}: nothing is mapped at 0x${at.toString(16)}`,
          address,
          size,
        );
      }
      const n = Math.min(size - offset, PAGE - (host & (PAGE - 1)));
      visit(host, offset, n);
      offset += n;
    }
  }

  /** A copy of guest-physical bytes. */
  readPhysical(address: bigint, size: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(size);
    this.#eachPage(address, size, "read", (host, offset, n) => {
      bytes.set(this.u8.subarray(host, host + n), offset);
    });
    return bytes;
  }

  /** Writes guest-physical bytes, ROM too; decoded code and cached translations follow. All or nothing. */
  writePhysical(address: bigint, bytes: Uint8Array): void {
    this.#eachPage(address, bytes.length, "write", () => {});
    this.#eachPage(address, bytes.length, "write", (host, offset, n) => {
      this.u8.set(bytes.subarray(offset, offset + n), host);
      this.exports.noteHostWrite(host, n);
      this.onHostWrite?.(host, n);
    });
  }

  // --- callbacks ---

  /** Sets or removes a callback; the processor calls out only where one is set. */
  setHandler<K extends keyof CoreHandlers>(kind: K, handler: CoreHandlers[K] | undefined): void {
    this.handlers[kind] = handler;
    this.applyHooks();
  }

  /** Puts HOOKS of the present state block in step with the handlers. */
  applyHooks(): void {
    this.write32(HOOKS, hookBits(this.handlers));
  }

  callbackThrew(error: unknown): void {
    this.#callbackError ??= { error };
    this.write32(STOP, this.read32(STOP) | StopBit.Host);
    this.write32(STOP_CODE, RunCode.HostError);
  }

  /** Inside a callback: ends run() after the current instruction, with RunCode.Instructions. */
  stopAfterInstruction(): void {
    this.timing.stopAfterInstruction();
  }

  // --- running ---

  get running(): boolean {
    return this.#running;
  }

  assertNotRunning(what: string): void {
    if (this.#running) throw new StateError(`${what} cannot be called inside a callback: the processor is running`);
  }

  /**
   * Runs until COUNT has risen by maxInstructions, `work` units are used, or something needs the host.
   * A callback's exception is rethrown here, after the processor stopped before that instruction.
   */
  run(maxInstructions: bigint, work: bigint): RunCode {
    this.assertNotRunning("run()");
    this.linker.settle();
    this.#running = true;
    try {
      return this.#check(this.exports.run(maxInstructions, work));
    } catch (error) {
      if (error instanceof WebAssembly.RuntimeError) {
        throw new InternalError(`the processor trapped: ${error.message}`, this.#where(), { cause: error });
      }
      throw error;
    } finally {
      this.#running = false;
    }
  }

  #check(code: RunCode): RunCode {
    if (this.#callbackError !== undefined || code === RunCode.Internal || code === RunCode.HostError) this.#fail(code);
    return code;
  }

  #fail(code: RunCode): never {
    const failed = this.#callbackError;
    this.#callbackError = undefined;
    if (failed !== undefined) throw failed.error;
    if (code !== RunCode.Internal) throw new InternalError("the processor stopped for a callback that did not fail");
    const number = this.read32(COMM_TEXT);
    const text = `the processor reached a state that must not exist (number ${number})`;
    throw new InternalError(text, { code: number, ...this.#where() });
  }

  #where(): { rip: bigint; mode: CodeMode } {
    return { rip: this.rip, mode: this.codeMode };
  }

  /** After RunCode.VmxAbort. */
  get vmxAbortCode(): number {
    return this.read32(VMX_ABORT);
  }
}
