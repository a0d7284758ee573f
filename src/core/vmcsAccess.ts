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
   * The current VMCS in memory; 0: the processor has to be asked. The host is 64-bit code at CPL 0, so that nothing faults in
   * root operation. Its RFLAGS, which an instruction would set, stay: no code of it looks at them.
   */
  #region(u32: Uint32Array): number {
    return (u32[VMX_STATE >> 2]! & (VmxBit.On | VmxBit.NonRoot)) === VmxBit.On ? u32[VMCS_HOST >> 2]! : 0;
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
    const { u32, u64 } = this.#core;
    const answer = answers[field]!;
    const region = this.#region(u32);
    if (answer && region && field & WIDE) return u64[(region + (answer & OFFSET)) >>> 3];
    return this.#vmread(field) ? this.#core.u64[COMM_VALUE >> 3]! : undefined;
  }

  /** Bits 31:0 of what read() gives, without a bigint. */
  readLow(field: number): number | undefined {
    const { u32 } = this.#core;
    const answer = answers[field]!;
    const region = this.#region(u32);
    return answer && region ? u32[(region + (answer & OFFSET)) >>> 2] : this.#half(field, 0);
  }

  /** Bits 63:32. */
  readHigh(field: number): number | undefined {
    const { u32 } = this.#core;
    const answer = answers[field]!;
    const region = this.#region(u32);
    return answer && region && field & WIDE ? u32[((region + (answer & OFFSET)) >>> 2) + 1] : this.#half(field, 1);
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
    const { u32 } = this.#core;
    const answer = answers[field]!;
    const region = this.#region(u32);
    if (!(answer & PLAIN && region)) return this.#vmwrite(field, low, high);
    const at = (region + (answer & OFFSET)) >>> 2;
    u32[at] = low;
    u32[at + 1] = field & WIDE ? high : 0;
    return VmxResult.Succeed;
  }

  #vmwrite(field: number, low: number, high: number): VmxResult {
    this.#learn(field);
    return this.#core.exports.vmwriteHalves(field, low, high);
  }
}
