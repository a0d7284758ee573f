// Runs one instruction of a guest with a page of what it touches taken away, by the guest's page tables or by EPT. Every
// exception exits, so that the VMCS holds the whole state of the guest as the fault found it.
import { RunCode, VmxResult } from "../../assembly/abi/run.ts";
import { CR2, STOP, VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { allFeatures } from "../../scripts/oracle/kernel.ts";
import { BASE, CODE, CODE_AT, READ_ONLY } from "../../scripts/oracle/layout.ts";
import { initialImage } from "../../scripts/oracle/state.ts";
import { fields } from "../../scripts/vmx-tables.ts";
import { Core, GPR_NAMES, hostInit } from "../../src/core/index.ts";
import { applyModel } from "../../src/machine/models.ts";
import {
  ACCESSED,
  AT,
  build,
  DIRTY,
  EPT_RWX,
  EPT_WRITE,
  type GuestPage,
  guestPages,
  type Mode,
  PAGE,
  PRESENT,
  upperTables,
  VMCALL,
  vmcsOf,
  WRITE,
} from "./guestWorld.ts";

const EXCEPTION = 0;
const INIT = 3;
const VMCALL_EXIT = 18;
const EPT_VIOLATION = 48;
const RF = 0x10000n;
const INT3 = 0xcc;
const MAX_CODE = 15;
const MAX_WORK = 1_000_000n;

export type Denial = "not present" | "read-only" | "not present in EPT" | "read-only in EPT";

export interface Start extends Mode {
  readonly gpr: ArrayLike<bigint>;
  readonly rflags: number;
  readonly fsBase: bigint;
  readonly gsBase: bigint;
  readonly code: Uint8Array;
  /** Bytes to lay over the pages of the image, by physical address. */
  readonly patches: readonly { readonly at: number; readonly bytes: Uint8Array }[];
  /** Exceptions that are delivered in the guest, by vector. */
  readonly delivered?: readonly number[];
}

export interface End {
  /** "end": the instruction completed; else how it was kept from it. */
  readonly kind: "end" | "page fault" | "EPT violation" | "other";
  /** Vector of an exception, or exit reason. */
  readonly number: number;
  readonly error: number;
  readonly qualification: bigint;
  readonly physical: bigint;
  /** Registers and the rest of the guest's state by name; RFLAGS without RF. */
  readonly state: ReadonlyMap<string, bigint>;
  readonly memory: Uint8Array;
}

const STATE = fields().filter((f) => f.name.startsWith("GUEST_") && f.supported && !f.readOnly);
const encodings = new Map(fields().map((f) => [f.name, f.encoding]));
const FIRST = AT.gdt;

export class GuestBench {
  readonly #core = new Core(AT.end / PAGE);
  readonly #image = new Uint8Array(AT.end - FIRST);
  #vmcs: Record<string, bigint> = {};
  #launched = false;
  #start: Start | undefined;

  constructor() {
    const core = this.#core;
    core.mapRam(0n, AT.end / PAGE);
    applyModel(core, allFeatures({ vmx: true }));
    core.exports.reset(0);
    this.#expect(hostInit(core.exports, BigInt(AT.vmxon)), "VMXON");
    upperTables((at, entry) => this.#entry(at, entry));
    this.#image.fill(INT3, AT.window + CODE - FIRST, AT.window + CODE - FIRST + 2 * PAGE);
    this.#image.set(initialImage(), AT.window + READ_ONLY - FIRST);
    build((at, bytes) => this.#image.set(bytes, at - FIRST));
    core.writePhysical(BigInt(FIRST), this.#image);
    core.rdmsr(0x480);
    const revision = new Uint8Array(new Uint32Array([Number(core.value & 0x7fffffffn)]).buffer);
    core.writePhysical(BigInt(AT.vmcs), revision);
    this.#expect(core.exports.vmclear(BigInt(AT.vmcs)), "VMCLEAR");
    this.#expect(core.exports.vmptrld(BigInt(AT.vmcs)), "VMPTRLD");
  }

  #expect(result: number, what: string): void {
    if (result === VmxResult.Succeed) return;
    throw new Error(
      `${what} answered ${result}, error ${result === VmxResult.FailValid ? this.#read("VM_INSTRUCTION_ERROR") : "none"}`,
    );
  }

  #entry(at: number, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.#core.writePhysical(BigInt(at), bytes);
  }

  #peek(at: number): bigint {
    return new DataView(this.#core.readPhysical(BigInt(at), 8).buffer).getBigUint64(0, true);
  }

  #read(name: string): bigint {
    if (this.#core.exports.vmread(encodings.get(name)!) !== VmxResult.Succeed) throw new Error(`VMREAD ${name}`);
    return this.#core.value;
  }

  #write(name: string, value: bigint): void {
    if (this.#vmcs[name] === value) return;
    this.#expect(this.#core.exports.vmwrite(encodings.get(name)!, value), `VMWRITE ${name}`);
    this.#vmcs[name] = value;
  }

  /** Page tables with every page there but one. */
  #tables(denied?: GuestPage, how?: Denial): void {
    for (const page of guestPages) {
      const mask = page !== denied ? 0n : how === "not present" ? PRESENT : how === "read-only" ? WRITE : 0n;
      const entry = page.entry & ~mask;
      if (this.#peek(page.entryAt) !== entry) this.#entry(page.entryAt, entry);
      const eptMask =
        page !== denied ? 0n : how === "not present in EPT" ? EPT_RWX : how === "read-only in EPT" ? EPT_WRITE : 0n;
      const at = AT.eptTable + (page.physical / PAGE) * 8;
      const ept = BigInt(page.physical) | 0x30n | (EPT_RWX & ~eptMask);
      if (this.#peek(at) !== ept) this.#entry(at, ept);
    }
  }

  /** Memory as it is to be before the instruction; pages that hold the right bytes are left alone. */
  #memory(start: Start): Uint8Array {
    const bytes = this.#image.slice();
    for (const patch of start.patches) bytes.set(patch.bytes, patch.at - FIRST);
    const code = AT.window + CODE_AT - FIRST;
    bytes.set(start.code, code);
    bytes.set(VMCALL, code + start.code.length);
    for (let at = 0; at < bytes.length; at += PAGE) {
      const page = bytes.subarray(at, at + PAGE);
      const now = this.#core.readPhysical(BigInt(FIRST + at), PAGE);
      if (Buffer.compare(page, now) !== 0) this.#core.writePhysical(BigInt(FIRST + at), page);
    }
    return bytes;
  }

  #load(start: Start): void {
    if (start.code.length > MAX_CODE) throw new Error(`${start.code.length} bytes of code`);
    const { core } = { core: this.#core };
    const delivered = (start.delivered ?? []).reduce((bits, v) => bits | (1 << v), 0);
    const all = {
      ...vmcsOf(start, start.fsBase, start.gsBase),
      EXCEPTION_BITMAP: BigInt(~delivered >>> 0),
      GUEST_RSP: start.gpr[4]!,
      GUEST_RIP: BigInt(CODE_AT + (start.bits === 16 ? 0 : BASE)),
      GUEST_RFLAGS: BigInt(start.rflags),
    };
    // the last exit has changed what it saved
    this.#vmcs = {};
    for (const [name, value] of Object.entries(all)) this.#write(name, value);
    core.write64(CR2, 0n);
    this.#enter();
    for (let r = 0; r < 16; r++) if (r !== 4) core.setGpr(r, start.gpr[r]!);
  }

  #enter(): void {
    const { exports } = this.#core;
    this.#expect(this.#launched ? exports.vmresume() : exports.vmlaunch(), "VM entry");
    this.#launched = true;
    if (this.#core.read32(VMX_STATE) & VmxBit.NonRoot) return;
    this.#core.write32(STOP, 0);
    throw new Error(`VM entry failed: ${this.#read("EXIT_REASON").toString(16)} ${this.#read("EXIT_QUALIFICATION")}`);
  }

  #run(): void {
    const code = this.#core.run(1000n, MAX_WORK);
    if (code !== RunCode.VmExit) throw new Error(`run() gave code ${code}`);
  }

  #state(): Map<string, bigint> {
    const state = new Map(STATE.map((f) => [f.name, this.#read(f.name)]));
    GPR_NAMES.forEach((name, r) => {
      if (r !== 4) state.set(name, this.#core.gpr(r));
    });
    state.set("GUEST_RFLAGS", state.get("GUEST_RFLAGS")! & ~RF);
    return state;
  }

  #end(): End {
    const reason = Number(this.#read("EXIT_REASON"));
    const info = Number(this.#read("EXIT_INTERRUPTION_INFO"));
    const vector = info & 0xff;
    const fault = reason === EXCEPTION && vector === 14;
    const done = reason === VMCALL_EXIT || (reason === EXCEPTION && vector === 3);
    return {
      kind: done ? "end" : fault ? "page fault" : reason === EPT_VIOLATION ? "EPT violation" : "other",
      number: reason === EXCEPTION ? vector : reason,
      error: Number(this.#read("EXIT_INTERRUPTION_ERROR_CODE")),
      qualification: this.#read("EXIT_QUALIFICATION"),
      physical: this.#read("GUEST_PHYSICAL_ADDRESS"),
      state: this.#state(),
      memory: this.#core.readPhysical(BigInt(FIRST), AT.end - FIRST),
    };
  }

  /** Registers and memory before the instruction. */
  #before(start: Start): { state: ReadonlyMap<string, bigint>; memory: Uint8Array } {
    const memory = this.#memory(start);
    this.#load(start);
    this.#core.exports.reset(1);
    this.#run();
    if (this.#read("EXIT_REASON") !== BigInt(INIT))
      throw new Error(`exit ${this.#read("EXIT_REASON")} instead of INIT`);
    const state = this.#state();
    return { state, memory };
  }

  /** With all pages there: the end, and the pages that served it. */
  whole(start: Start): { end: End; touched: GuestPage[]; written: GuestPage[] } {
    this.#start = start;
    // the first run lets code be generated, the second uses it
    for (let i = 0; ; i++) {
      this.#tables();
      this.#memory(start);
      this.#load(start);
      this.#run();
      if (i === 0) continue;
      const used = (bit: bigint): GuestPage[] =>
        guestPages.filter((p) => p.data && (this.#peek(p.entryAt) & bit) !== 0n);
      return { end: this.#end(), touched: used(ACCESSED), written: used(DIRTY) };
    }
  }

  /** With one page denied, and then with the page back, from where the fault left the guest. */
  denied(
    start: Start,
    page: GuestPage,
    how: Denial,
  ): { before: Pick<End, "state" | "memory">; end: End; resumed: End | undefined } {
    if (this.#start !== start) throw new Error("whole() comes first");
    this.#tables();
    const before = this.#before(start);
    this.#tables(page, how);
    this.#load(start);
    this.#run();
    const end = this.#end();
    this.#tables();
    if (end.kind !== "page fault" && end.kind !== "EPT violation") return { before, end, resumed: undefined };
    this.#enter();
    this.#run();
    return { before, end, resumed: this.#end() };
  }
}

/** Words that say how two states differ; bytes of memory by physical address. */
export function differences(a: Pick<End, "state" | "memory">, b: Pick<End, "state" | "memory">): string[] {
  const out: string[] = [];
  for (const [name, value] of a.state) {
    const other = b.state.get(name)!;
    if (value !== other) out.push(`${name} ${value.toString(16)} and ${other.toString(16)}`);
  }
  if (Buffer.compare(a.memory, b.memory) === 0) return out;
  for (let i = 0; i < a.memory.length && out.length < 20; i++) {
    if (a.memory[i] !== b.memory[i]) out.push(`byte ${(FIRST + i).toString(16)} ${a.memory[i]} and ${b.memory[i]}`);
  }
  return out;
}
