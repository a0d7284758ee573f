// A processor in VMX root operation, driven through the exports that the host uses.
import * as layout from "../../assembly/abi/layout.ts";
import { Callback, COMM_VALUE, RunCode, VmxResult } from "../../assembly/abi/run.ts";
import * as state from "../../assembly/abi/state.ts";
import { type Field, fields } from "../../scripts/vmx-tables.ts";
import type { CoreExports, CoreImports } from "../../src/core/exports.ts";
import { hostInit } from "../../src/core/hostInit.ts";
import { instantiateCore } from "../../src/core/wasm.ts";

export const NONE = 0xffff_ffff_ffff_ffffn;
const PAGE = 4096n;
const FRAMES = 128;

const byName = new Map<string, Field>(fields().map((field) => [field.name, field]));

export function field(name: string): Field {
  const found = byName.get(name);
  if (!found) throw new Error(`no VMCS field ${name}`);
  return found;
}

/** What a VMX instruction answered. */
export interface Outcome {
  readonly result: VmxResult;
  /** VM-instruction error after VMfailValid. */
  readonly error?: number;
  /** Vector of a fault. */
  readonly vector?: number;
}

/** What VM entry came to. */
export interface Entry extends Outcome {
  /** The guest runs. */
  readonly entered: boolean;
  readonly reason?: number;
  readonly qualification?: bigint;
}

export class Vmx {
  readonly core: CoreExports;
  readonly base: number;
  readonly vmxon = 0x1000n;
  readonly vmcs = 0x2000n;
  /** Free physical memory for lists and bitmaps. */
  readonly scratch = 0x10000n;
  ports: { port: number; size: number; value?: number }[] = [];
  /** INTA cycle of an interrupt controller. */
  acknowledge: () => number = () => 0;

  constructor() {
    const imports: CoreImports = {
      call: (callback, port, size, value) => {
        if (callback === Callback.PortIn) this.ports.push({ port, size });
        if (callback === Callback.PortOut) this.ports.push({ port, size, value });
        return callback === Callback.PortIn ? -1 : callback === Callback.Acknowledge ? this.acknowledge() : 0;
      },
      callWide: () => 0,
      mmioRead: () => -1n,
    };
    this.core = instantiateCore(imports, FRAMES, FRAMES).exports;
    this.core.init(FRAMES);
    this.base = this.core.allocFrames(FRAMES);
    this.core.mapRegion(0n, FRAMES, this.base, layout.RegionFlag.Ram);
    this.restart();
  }

  /** Root operation again, with no current VMCS; memory keeps its contents. */
  restart(): void {
    this.core.reset(0);
    this.write32(state.STOP, 0);
    const result = hostInit(this.core, this.vmxon);
    if (result !== VmxResult.Succeed) throw new Error(`VMXON answered ${result}`);
    this.formatRegion(this.vmcs);
  }

  get view(): DataView {
    return new DataView(this.core.memory.buffer);
  }
  read32(address: number): number {
    return this.view.getUint32(address, true);
  }
  write32(address: number, value: number): void {
    this.view.setUint32(address, value, true);
  }
  read64(address: number): bigint {
    return this.view.getBigUint64(address, true);
  }
  write64(address: number, value: bigint): void {
    this.view.setBigUint64(address, value, true);
  }
  host(physical: bigint): number {
    return this.base + Number(physical);
  }
  poke(physical: bigint, bytes: ArrayLike<number>): void {
    new Uint8Array(this.core.memory.buffer).set(bytes, this.host(physical));
    this.core.noteHostWrite(this.host(physical), bytes.length);
  }
  poke64(physical: bigint, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.poke(physical, bytes);
  }
  fill(physical: bigint, bytes: number, value = 0): void {
    this.poke(physical, new Uint8Array(bytes).fill(value));
  }

  msr(index: number): bigint | "#GP" {
    return this.core.rdmsr(index) === 0 ? this.read64(COMM_VALUE) : "#GP";
  }

  get revision(): number {
    return Number((this.msr(0x480) as bigint) & 0x7fffffffn);
  }

  /** Zeroes a page and writes the revision identifier, as software does before VMCLEAR. */
  formatRegion(physical: bigint, revision = this.revision): void {
    this.fill(physical, Number(PAGE));
    this.poke64(physical, BigInt(revision >>> 0));
  }

  outcome(result: number): Outcome {
    if (result === VmxResult.Fault) return { result, vector: Number(this.read64(COMM_VALUE)) };
    if (result !== VmxResult.FailValid) return { result };
    this.core.vmread(field("VM_INSTRUCTION_ERROR").encoding);
    return { result, error: Number(this.read64(COMM_VALUE)) };
  }

  /** VMCLEAR and VMPTRLD of the VMCS at `physical`. */
  select(physical = this.vmcs): void {
    for (const result of [this.core.vmclear(physical), this.core.vmptrld(physical)]) {
      if (result !== VmxResult.Succeed) throw new Error(`${JSON.stringify(this.outcome(result))}`);
    }
  }

  read(name: string): bigint {
    const result = this.core.vmread(field(name).encoding);
    if (result !== VmxResult.Succeed) throw new Error(`VMREAD ${name}: ${JSON.stringify(this.outcome(result))}`);
    return BigInt.asUintN(64, this.read64(COMM_VALUE));
  }

  write(name: string, value: bigint): void {
    const result = this.core.vmwrite(field(name).encoding, value);
    if (result !== VmxResult.Succeed) throw new Error(`VMWRITE ${name}: ${JSON.stringify(this.outcome(result))}`);
  }

  enter(launch = true): Entry {
    const result = launch ? this.core.vmlaunch() : this.core.vmresume();
    if (result !== VmxResult.Succeed) return { ...this.outcome(result), entered: false };
    if (this.read32(state.VMX_STATE) & state.VmxBit.NonRoot) return { result, entered: true };
    this.write32(state.STOP, 0);
    return {
      result,
      entered: false,
      reason: Number(this.read("EXIT_REASON")),
      qualification: this.read("EXIT_QUALIFICATION"),
    };
  }

  /** Puts code at physical `address`. */
  code(bytes: readonly number[], address = 0x7000n): void {
    this.poke(address, bytes);
  }
  gpr(index: number): bigint {
    return this.read64(state.GPR + 8 * index);
  }
  setGpr(index: number, value: bigint): void {
    this.write64(state.GPR + 8 * index, value);
  }

  /** Runs until a VM exit; anything else is an error. */
  runToExit(maxInstructions = 1000n): { reason: number; qualification: bigint } {
    const code = this.core.run(maxInstructions, 1_000_000n);
    if (code !== RunCode.VmExit) throw new Error(`run code ${code} instead of a VM exit`);
    return { reason: Number(this.read("EXIT_REASON")), qualification: this.read("EXIT_QUALIFICATION") };
  }
}
