// VMREAD and VMWRITE by the host. Where they are no more than a load or a store, that is done here in the processor's memory:
// a call of the processor takes several times as long. Everything else, failures too, goes to assembly/vmx/instructions.ts.
import { COMM_VALUE, VmxResult } from "../../assembly/abi/run.ts";
import { VMCS_HOST, VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { VMCS_XSS_EXITING_BITMAP } from "../../assembly/abi/vmcs.ts";
import type { CoreExports } from "./exports.ts";

/** The processor's memory, as Core has it. */
interface Processor {
  readonly exports: CoreExports;
  readonly u32: Uint32Array;
  readonly u64: BigUint64Array;
}

const ENCODINGS = 0x8000;
/** 64-bit and natural width. */
const WIDE = 0x2000;
const WIDTHS = 0x6000;
const HIGH = 1;

const OFFSET = 0xfff;
/** In the answer of vmcsOffset(): VMWRITE only stores. */
const PLAIN = 0x1000;
/** By encoding what vmcsOffset() answered, 0: not known or not for quick access. All processors have the same of them. */
const answers = new Uint16Array(ENCODINGS);

export class VmcsAccess {
  readonly #core: Processor;

  constructor(core: Processor) {
    this.#core = core;
  }

  /**
   * Index in u32 of a field of the current VMCS; 0: the processor has to be asked. The host is 64-bit code at CPL 0, so that
   * nothing faults in root operation. Its RFLAGS, which an instruction would set, stay: no code of it looks at them.
   */
  #at(answer: number | undefined): number {
    const { u32 } = this.#core;
    if (!answer || (u32[VMX_STATE >> 2]! & (VmxBit.On | VmxBit.NonRoot)) !== VmxBit.On) return 0;
    const region = u32[VMCS_HOST >> 2]!;
    return region === 0 ? 0 : (region + (answer & OFFSET)) >>> 2;
  }

  #learn(field: number): void {
    // this one not every model has
    if (field === VMCS_XSS_EXITING_BITMAP) return;
    if (field >= 0 && field < ENCODINGS && field & WIDTHS && !(field & HIGH)) {
      answers[field] = this.#core.exports.vmcsOffset(field);
    }
  }

  /** The value is in COMM_VALUE. */
  #vmread(field: number): boolean {
    this.#learn(field);
    return this.#core.exports.vmread(field) === VmxResult.Succeed;
  }

  /** VMREAD; undefined: it does not succeed, exports.vmread() says how. */
  read(field: number): bigint | undefined {
    const at = field & WIDE ? this.#at(answers[field]) : 0;
    if (at !== 0) return this.#core.u64[at >>> 1]!;
    return this.#vmread(field) ? this.#core.u64[COMM_VALUE >> 3]! : undefined;
  }

  /** Bits 31:0 of what read() gives, without a bigint. */
  readLow(field: number): number | undefined {
    const at = this.#at(answers[field]);
    return at === 0 ? this.#half(field, 0) : this.#core.u32[at];
  }

  /** Bits 63:32. */
  readHigh(field: number): number | undefined {
    const at = field & WIDE ? this.#at(answers[field]) : 0;
    return at === 0 ? this.#half(field, 1) : this.#core.u32[at + 1];
  }

  #half(field: number, half: number): number | undefined {
    return this.#vmread(field) ? this.#core.u32[(COMM_VALUE >> 2) + half] : undefined;
  }

  /** What read() would give in root operation, whatever runs; nothing changes. */
  peek(field: number): bigint | undefined {
    const { exports, u32, u64 } = this.#core;
    const region = u32[VMCS_HOST >> 2]!;
    const offset = exports.vmcsOffset(field) & OFFSET;
    if (region === 0 || offset === 0) return undefined;
    const value = u64[(region + offset) >>> 3]!;
    if (field & HIGH) return value >> 32n;
    return field & WIDE ? value : BigInt.asUintN(field & WIDTHS ? 32 : 16, value);
  }

  /** VMWRITE of a value in two halves. */
  write(field: number, low: number, high: number): VmxResult {
    const answer = answers[field] ?? 0;
    const at = answer & PLAIN ? this.#at(answer) : 0;
    if (at === 0) return this.#vmwrite(field, low, high);
    this.#core.u32[at] = low;
    this.#core.u32[at + 1] = field & WIDE ? high : 0;
    return VmxResult.Succeed;
  }

  #vmwrite(field: number, low: number, high: number): VmxResult {
    this.#learn(field);
    return this.#core.exports.vmwriteHalves(field, low, high);
  }
}
