// VM exits through a TypeScript hypervisor: the guest loops over one instruction that exits, the host reads the reason and
// the length, moves RIP past the instruction and resumes. One round trip is VM exit, host, VM entry and the guest's jump.

import * as controls from "../../assembly/abi/controls.ts";
import * as exits from "../../assembly/abi/exits.ts";
import { RegionFlag } from "../../assembly/abi/layout.ts";
import { COMM_VALUE, RunCode, VmxResult } from "../../assembly/abi/run.ts";
import * as f from "../../assembly/abi/vmcs.ts";
import { Core, hostInit } from "../core/index.ts";
import { applyModel, genericModel } from "../machine/models.ts";

const FRAMES = 64;
const VMXON = 0x1000n;
const VMCS = 0x2000n;
const PML4 = 0x4000n;
const PDPT = 0x5000n;
const EPT = 0x6000n;
const CODE = 0x9000n;
const STACK = 0xf000n;
/** Guest-physical address that EPT does not map. */
const UNMAPPED = 0x4000_0000n;

export interface ExitCase {
  readonly name: string;
  readonly reason: number;
  /** The instruction of the loop; a short jump back follows it. */
  readonly code: readonly number[];
}

export const EXIT_CASES: readonly ExitCase[] = [
  { name: "CPUID", reason: exits.REASON_CPUID, code: [0x0f, 0xa2] },
  { name: "RDMSR", reason: exits.REASON_RDMSR, code: [0x0f, 0x32] },
  { name: "OUT", reason: exits.REASON_IO_INSTRUCTION, code: [0xe6, 0x80] },
  { name: "HLT", reason: exits.REASON_HLT, code: [0xf4] },
  { name: "VMCALL", reason: exits.REASON_VMCALL, code: [0x0f, 0x01, 0xc1] },
  // mov eax, [rbx]
  { name: "EPT violation", reason: exits.REASON_EPT_VIOLATION, code: [0x8b, 0x03] },
];

export interface ExitTiming {
  readonly name: string;
  readonly exitsPerSecond: number;
  readonly nanoseconds: number;
}

const RBX = 3;

/** A 64-bit guest with EPT in a freshly started processor in root operation. */
export class ExitBench {
  readonly core: Core;
  readonly #places = new Map<string, bigint>();

  constructor() {
    this.core = new Core(FRAMES);
    applyModel(this.core, genericModel({ vmx: true }));
    this.core.exports.reset(0);
    this.core.mapRam(0n, FRAMES, RegionFlag.Ram);
    this.#must("VMXON", hostInit(this.core.exports, VMXON));
    this.core.writePhysical(VMCS, this.core.readPhysical(VMXON, 4));
    this.#must("VMCLEAR", this.core.exports.vmclear(VMCS));
    this.#must("VMPTRLD", this.core.exports.vmptrld(VMCS));
    this.#word(PML4, PDPT | 7n);
    this.#word(PDPT, 0x83n); // 1 GiB page at 0
    this.#word(PDPT + 8n, UNMAPPED | 0x83n);
    this.#word(EPT, (EPT + 0x1000n) | 7n);
    this.#word(EPT + 0x1000n, 0xb7n); // 1 GiB page at 0, the next one absent
    this.#vmcs();
  }

  #must(what: string, result: number): void {
    if (result !== VmxResult.Succeed) {
      this.core.exports.vmread(f.VMCS_VM_INSTRUCTION_ERROR);
      throw new Error(`${what} answered ${result}, VM-instruction error ${this.core.read64(COMM_VALUE)}`);
    }
  }

  #word(address: bigint, value: bigint): void {
    this.core.writePhysical(address, new Uint8Array(new BigUint64Array([value]).buffer));
  }

  #vmcs(): void {
    const write = (field: number, value: number | bigint): void =>
      this.#must(`VMWRITE ${field.toString(16)}`, this.core.exports.vmwrite(field, BigInt(value)));
    write(f.VMCS_PIN_BASED_CONTROLS, controls.PIN_REQUIRED >>> 0);
    write(
      f.VMCS_PRIMARY_PROC_BASED_CONTROLS,
      (controls.PRIMARY_REQUIRED |
        controls.PRIMARY_HLT_EXITING |
        controls.PRIMARY_UNCONDITIONAL_I_O_EXITING |
        controls.PRIMARY_ACTIVATE_SECONDARY_CONTROLS) >>>
        0,
    );
    write(f.VMCS_SECONDARY_PROC_BASED_CONTROLS, controls.SECONDARY_ENABLE_EPT | controls.SECONDARY_ENABLE_VPID);
    write(f.VMCS_VPID, 1);
    write(f.VMCS_EPT_POINTER, EPT | 0x1en);
    write(
      f.VMCS_PRIMARY_EXIT_CONTROLS,
      (controls.EXIT_REQUIRED | controls.EXIT_HOST_ADDRESS_SPACE_SIZE | controls.EXIT_LOAD_IA32_EFER) >>> 0,
    );
    write(
      f.VMCS_ENTRY_CONTROLS,
      (controls.ENTRY_REQUIRED | controls.ENTRY_IA_32E_MODE_GUEST | controls.ENTRY_LOAD_IA32_EFER) >>> 0,
    );
    write(f.VMCS_VMCS_LINK_POINTER, 0xffff_ffff_ffff_ffffn);
    for (const [cr0, cr3, cr4, efer] of [
      [f.VMCS_HOST_CR0, f.VMCS_HOST_CR3, f.VMCS_HOST_CR4, f.VMCS_HOST_IA32_EFER],
      [f.VMCS_GUEST_CR0, f.VMCS_GUEST_CR3, f.VMCS_GUEST_CR4, f.VMCS_GUEST_IA32_EFER],
    ] as const) {
      write(cr0, 0x8005_0033n);
      write(cr3, PML4);
      write(cr4, 0x2020n);
      write(efer, 0xd01n);
    }
    write(f.VMCS_HOST_CS_SELECTOR, 0x10);
    write(f.VMCS_HOST_SS_SELECTOR, 0x18);
    write(f.VMCS_HOST_TR_SELECTOR, 0x40);
    write(f.VMCS_HOST_RIP, CODE);
    // ES CS SS DS FS GS LDTR TR lie two encodings apart
    const rights = [0xc093, 0xa09b, 0xc093, 0xc093, 0xc093, 0xc093, 0x10000, 0x8b];
    rights.forEach((value, i) => {
      write(f.VMCS_GUEST_ES_SELECTOR + 2 * i, [0x18, 0x10, 0x18, 0x18, 0x18, 0x18, 0, 0x40][i]!);
      write(f.VMCS_GUEST_ES_LIMIT + 2 * i, i < 6 ? 0xffff_ffffn : 0x67n);
      write(f.VMCS_GUEST_ES_ACCESS_RIGHTS + 2 * i, value);
    });
    write(f.VMCS_GUEST_RFLAGS, 2);
    write(f.VMCS_GUEST_RSP, STACK);
  }

  /** Address of the code, written once: code that is written again and again is not measured here. */
  #place(name: string, code: readonly number[]): bigint {
    let at = this.#places.get(name);
    if (at === undefined) {
      at = CODE + 64n * BigInt(this.#places.size);
      this.#places.set(name, at);
      this.core.writePhysical(at, Uint8Array.from(code));
    }
    return at;
  }

  /** `count` exits of one kind. */
  time({ name, reason, code }: ExitCase, count: number): ExitTiming {
    const { core } = this;
    const at = this.#place(name, [...code, 0xeb, 256 - code.length - 2]);
    core.setGpr(RBX, UNMAPPED);
    core.exports.vmwrite(f.VMCS_GUEST_RIP, at);
    this.#must("VMCLEAR", core.exports.vmclear(VMCS));
    this.#must("VMPTRLD", core.exports.vmptrld(VMCS));
    this.#must("VMLAUNCH", core.exports.vmlaunch());
    this.#loop(reason, Math.ceil(count / 20));
    const start = process.cpuUsage();
    this.#loop(reason, count);
    const { user, system } = process.cpuUsage(start);
    const nanoseconds = ((user + system) * 1e3) / count;
    this.#leave();
    return { name, nanoseconds, exitsPerSecond: 1e9 / nanoseconds };
  }

  #loop(reason: number, count: number): void {
    const { core } = this;
    const { exports, vmcs } = core;
    for (let i = 0; i < count; i++) {
      const code = core.run(1_000_000n, 1_000_000n);
      if (code !== RunCode.VmExit) throw new Error(`run code ${code} instead of a VM exit`);
      const got = vmcs.readLow(f.VMCS_EXIT_REASON);
      if (got !== reason) throw new Error(`exit reason ${got} instead of ${reason}`);
      const length = vmcs.readLow(f.VMCS_EXIT_INSTRUCTION_LENGTH) as number;
      const low = vmcs.readLow(f.VMCS_GUEST_RIP) as number;
      const high = vmcs.readHigh(f.VMCS_GUEST_RIP) as number;
      // the length is undefined after an EPT violation
      vmcs.write(f.VMCS_GUEST_RIP, low + (reason === exits.REASON_EPT_VIOLATION ? 2 : length), high);
      const result = exports.vmresume();
      if (result !== VmxResult.Succeed) this.#must("VMRESUME", result);
    }
  }

  /** Out of the guest by its next exit. */
  #leave(): void {
    this.core.run(1_000_000n, 1_000_000n);
  }
}

/** The best of each case, so that another load on the machine counts least. */
export function bestOf(rounds: readonly (readonly ExitTiming[])[]): ExitTiming[] {
  return EXIT_CASES.map((_, i) =>
    rounds.map((round) => round[i]!).reduce((best, one) => (one.nanoseconds < best.nanoseconds ? one : best)),
  );
}

/** CPU time, best of `rounds`. */
export function timeExits(count: number, rounds: number): ExitTiming[] {
  const bench = new ExitBench();
  return bestOf(Array.from({ length: rounds }, () => EXIT_CASES.map((test) => bench.time(test, count))));
}
