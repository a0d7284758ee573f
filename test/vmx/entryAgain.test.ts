// VM entries that repeat: what an entry or exit keeps of the one before never shows.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { CR2, CR3, RIP, SEG_SIZE, SEGS, TR_VPID } from "../../assembly/abi/state.ts";
import { type Fields, identityEpt, longGuest, writeFields } from "./guests.ts";
import { R9, RBX, Running, START, u32, VMCALL } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

/** xorshift32 */
function generator(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const SPACES = 20; // more than the TLB has contexts for
const table = (space: number) => 0x30000n + BigInt(space) * 0x1000n;
const data = (frame: number) => 0x50000n + BigInt(frame) * 0x1000n;
const content = (frame: number) => 0x5eed0000n + BigInt(frame);
/** PML4 entry 4, then entries 1, 2 and 3: one page is all four tables. */
const LINEAR = 0xffff_ffff_ffff_ffffn & ((4n << 39n) | (1n << 30n) | (2n << 21n) | (3n << 12n));
const SHIFTED = 0x70000n;

/** EPT tables that put the next data frame in the place of each. */
function shiftedEpt(): void {
  vmx.poke64(SHIFTED, (SHIFTED + 0x1000n) | 7n);
  vmx.poke64(SHIFTED + 0x1000n, (SHIFTED + 0x2000n) | 7n);
  vmx.poke64(SHIFTED + 0x2000n, (SHIFTED + 0x3000n) | 7n);
  for (let page = 0n; page < 128n; page++) vmx.poke64(SHIFTED + 0x3000n + 8n * page, (page << 12n) | 0x37n);
  for (let i = 0; i < SPACES; i++) {
    vmx.poke64(SHIFTED + 0x3000n + 8n * (data(i) >> 12n), data((i + 1) % SPACES) | 0x37n);
  }
}

const EPT: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
  SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_ENABLE_EPT, c.SECONDARY_ENABLE_VPID),
  EPT_POINTER: 0x501en,
  VPID: 1n,
};

describe("VMRESUME again and again", () => {
  it("goes to the address space that CR3, the EPT pointer and the VPID name", () => {
    const next = generator(0x1f123bb5);
    identityEpt(vmx);
    shiftedEpt();
    const maps = Array.from({ length: SPACES }, (_, i) => i);
    for (let i = 0; i < SPACES; i++) {
      vmx.poke64(data(i), content(i));
      vmx.poke64(table(i), 0xa007n);
      for (const entry of [4n, 1n, 2n]) vmx.poke64(table(i) + 8n * entry, table(i) | 7n);
      vmx.poke64(table(i) + 24n, data(i) | 7n);
    }
    let space = 0;
    let shifted = 0;
    vmx.start([0x8b, 0x03], { ...EPT, GUEST_CR3: table(0) }, { [RBX]: LINEAR }); // mov eax, [rbx]
    for (let n = 0; n < 4000; n++) {
      expect(vmx.runToExit().reason).toBe(18);
      expect([n, vmx.gpr(0)]).toEqual([n, content((maps[space]! + shifted) % SPACES)]);
      vmx.write("GUEST_RIP", START);
      const change = next(16);
      if (change < 10) {
        space = next(change < 5 ? 3 : SPACES);
        vmx.write("GUEST_CR3", table(space));
      } else if (change < 12) {
        shifted = next(2);
        vmx.write("EPT_POINTER", (shifted ? SHIFTED : 0x5000n) | 0x1en);
      } else if (change < 13) {
        vmx.write("VPID", BigInt(1 + next(3)));
      } else if (change < 15) {
        const changed = next(SPACES);
        maps[changed] = next(SPACES);
        vmx.poke64(table(changed) + 24n, data(maps[changed]!) | 7n);
      } else {
        expect(vmx.core.invept(2, 0n)).toBe(0);
      }
      expect(vmx.enter(false)).toMatchObject({ entered: true });
    }
  });

  it("leaves root operation its own address space", () => {
    identityEpt(vmx);
    vmx.start([], EPT);
    for (let n = 0; n < 3; n++) {
      expect(vmx.runToExit().reason).toBe(18);
      expect(vmx.read32(TR_VPID)).toBe(0);
      // CR3 of the host is 3000H, where no table is
      expect(BigInt.asUintN(64, vmx.core.translate(0x7000n, 0))).toBe(0xffff_ffff_ffff_ffffn);
      vmx.write("GUEST_RIP", START);
      expect(vmx.enter(false)).toMatchObject({ entered: true });
      expect(vmx.core.translate(0x7000n, 0)).toBe(0x7000n);
    }
  });

  it("loads every register field that VMWRITE changed, and saves what the guest changed", () => {
    const next = generator(0x2545f491);
    const NATURAL = [
      "GUEST_RSP",
      "GUEST_FS_BASE",
      "GUEST_GS_BASE",
      "GUEST_GDTR_BASE",
      "GUEST_IDTR_BASE",
      "GUEST_TR_BASE",
    ];
    const SHORT = ["GUEST_ES_SELECTOR", "GUEST_DS_SELECTOR", "GUEST_GDTR_LIMIT", "GUEST_IDTR_LIMIT"];
    const MSRS = ["GUEST_IA32_SYSENTER_ESP", "GUEST_IA32_SYSENTER_EIP", "GUEST_CR3"];
    vmx.start([], longGuest());
    const wanted = new Map<string, bigint>();
    for (let n = 0; n < 500; n++) {
      expect(vmx.runToExit().reason).toBe(18);
      for (const [name, value] of wanted) expect([n, name, vmx.read(name)]).toEqual([n, name, value]);
      wanted.clear();
      for (let k = next(3); k > 0; k--) {
        const all = [...NATURAL, ...SHORT, ...MSRS];
        const name = all[next(all.length)]!;
        let value = BigInt(next(0x10000));
        if (name === "GUEST_CR3") value = 0x4000n | (BigInt(next(2)) << 3n);
        if (name.endsWith("SELECTOR")) value &= 0xfff8n; // the DPL is 0, so must be the RPL
        wanted.set(name, value);
        vmx.write(name, value);
      }
      vmx.write("GUEST_RIP", START);
      expect(vmx.enter(false)).toMatchObject({ entered: true });
    }
  });

  it("of a guest that changes its segments by itself", () => {
    // mov es, eax
    vmx.start([0x8e, 0xc0, ...VMCALL, 0x8e, 0xe0], { GUEST_GDTR_LIMIT: 0x2fn }, { 0: 0x18n });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_ES_SELECTOR")).toBe(0x18n);
    vmx.setGpr(0, 0n);
    vmx.write("GUEST_RIP", START);
    vmx.enter(false);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_ES_SELECTOR")).toBe(0n);
    expect(vmx.read("GUEST_ES_ACCESS_RIGHTS") & 0x10000n).toBe(0x10000n);
    // the host has its own again
    expect(vmx.read32(SEGS + 0 * SEG_SIZE + 12)).toBe(0);
    expect(vmx.read64(CR2)).toBe(0n);
  });
});

describe("a hypervisor in guest code that resumes again and again", () => {
  const ROOT = 0x7400n;
  const HANDLER = 0x7500n;
  const CPUID = [0x0f, 0xa2];
  const ZERO_EAX_ECX = [0x31, 0xc0, 0x31, 0xc9];

  it("has an exit for each CPUID of its guest, though it executes CPUID of that leaf itself", () => {
    writeFields(vmx, { ...longGuest(), HOST_CR3: 0x4000n, HOST_RIP: HANDLER });
    // guest: CPUID, then VMCALL
    vmx.code([...CPUID, ...VMCALL]);
    vmx.code([...ZERO_EAX_ECX, ...CPUID, ...ZERO_EAX_ECX, 0x0f, 0x01, 0xc2], ROOT); // VMLAUNCH
    vmx.code(
      [
        ...[...ZERO_EAX_ECX, ...CPUID],
        ...[0x49, 0xff, 0xc1], // inc r9
        ...[0x49, 0x83, 0xf9, 0x05, 0x74, 0x07], // cmp r9, 5; je done
        ...[...ZERO_EAX_ECX, 0x0f, 0x01, 0xc3], // VMRESUME to the same CPUID
        0xf4, // done: HLT
      ],
      HANDLER,
    );
    vmx.setGpr(R9, 0n);
    vmx.write64(CR3, 0x4000n);
    vmx.write64(RIP, ROOT);
    vmx.core.stateChanged();
    expect(vmx.core.run(1000n, 1000n)).toBe(RunCode.Halt);
    expect(vmx.gpr(R9)).toBe(5n);
    expect(vmx.read("EXIT_REASON")).toBe(10n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });
});
