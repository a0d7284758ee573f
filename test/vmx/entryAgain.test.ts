// VM entries that repeat: what an entry or exit keeps of the one before never shows.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { CPUID_ENTRY, CPUID_TABLE } from "../../assembly/abi/layout.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { CR2, CR3, EFER, RIP, SEG_CS, SEG_SIZE, SEGS, SG_ATTR, TR_VPID } from "../../assembly/abi/state.ts";
import { CR4_FSGSBASE, CR4_SMAP } from "../../assembly/abi/x86.ts";
import { type Fields, identityEpt, longGuest, protectedGuest, writeFields } from "./guests.ts";
import { field } from "./harness.ts";
import { R9, RBX, RCX, Running, START, u32, VMCALL } from "./running.ts";

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

  it("goes through the EPT tables that the guest has switched to", () => {
    const LIST = 0x13000n;
    const SWITCH = 0x7100n;
    identityEpt(vmx);
    shiftedEpt();
    vmx.poke64(LIST, 0x501en);
    vmx.poke64(LIST + 8n, SHIFTED | 0x1en);
    vmx.poke64(table(0), 0xa007n);
    for (const entry of [4n, 1n, 2n]) vmx.poke64(table(0) + 8n * entry, table(0) | 7n);
    vmx.poke64(table(0) + 24n, data(0) | 7n);
    for (let i = 0; i < 2; i++) vmx.poke64(data(i), content(i));
    vmx.code([0x31, 0xc0, 0x0f, 0x01, 0xd4, ...VMCALL], SWITCH); // xor eax, eax; vmfunc
    const set = {
      ...EPT,
      SECONDARY_PROC_BASED_CONTROLS: u32(
        ...[c.SECONDARY_ENABLE_EPT, c.SECONDARY_ENABLE_VPID, c.SECONDARY_ENABLE_VM_FUNCTIONS],
      ),
      VM_FUNCTION_CONTROLS: 1n,
      EPTP_LIST_ADDRESS: LIST,
      GUEST_CR3: table(0),
    };
    const goTo = (rip: bigint) => {
      expect(vmx.runToExit().reason).toBe(18);
      vmx.write("GUEST_RIP", rip);
      expect(vmx.enter(false)).toMatchObject({ entered: true });
    };
    vmx.start([0x8b, 0x03], set, { [RBX]: LINEAR });
    for (const list of [1, 0, 1, 1, 0, 0, 1]) {
      goTo(SWITCH);
      vmx.setGpr(RCX, BigInt(list));
      goTo(START);
      expect(vmx.runToExit().reason).toBe(18);
      expect(vmx.gpr(0)).toBe(content(list));
      expect(vmx.enter(false)).toMatchObject({ entered: true });
    }
  });

  it("allows accesses to user pages under SMAP as RFLAGS.AC says", () => {
    const set = { GUEST_CR4: 0x2020n | BigInt(CR4_SMAP), EXCEPTION_BITMAP: 1n << 14n };
    const AC = 0x40002n;
    vmx.start([0x8b, 0x03], { ...set, GUEST_RFLAGS: AC }, { [RBX]: 0x8000n });
    for (const flags of [AC, AC, 2n, AC, 2n, 2n, AC]) {
      expect(vmx.runToExit().reason).toBe(18);
      vmx.write("GUEST_RIP", START);
      vmx.write("GUEST_RFLAGS", flags);
      expect(vmx.enter(false)).toMatchObject({ entered: true });
      expect(vmx.runToExit().reason).toBe(flags === AC ? 18 : 0);
      vmx.write("GUEST_RIP", START);
      vmx.write("GUEST_RFLAGS", AC);
      expect(vmx.enter(false)).toMatchObject({ entered: true });
    }
  });

  it("is to IA-32e mode when the guest has gone there by itself", () => {
    identityEpt(vmx);
    const set = {
      ...EPT,
      SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_ENABLE_EPT, c.SECONDARY_UNRESTRICTED_GUEST),
      ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED, c.ENTRY_LOAD_IA32_EFER),
      PRIMARY_EXIT_CONTROLS: u32(
        ...[c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE, c.EXIT_SAVE_IA32_EFER, c.EXIT_LOAD_IA32_EFER],
      ),
      HOST_IA32_EFER: 0xd00n,
    };
    const guest = { ...protectedGuest(), ...set, GUEST_CR0: 0x31n, GUEST_CR4: 0x2020n, GUEST_IA32_EFER: 0x100n };
    // mov eax, cr0; or eax, 80000000h; mov cr0, eax
    vmx.start([0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0], guest);
    for (let n = 0; n < 3; n++) {
      expect(vmx.runToExit().reason).toBe(18);
      expect(vmx.read("ENTRY_CONTROLS") & BigInt(c.ENTRY_IA_32E_MODE_GUEST)).toBe(BigInt(c.ENTRY_IA_32E_MODE_GUEST));
      expect(vmx.read("GUEST_IA32_EFER")).toBe(0x500n);
      vmx.write("GUEST_RIP", START);
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

/** Entry failure for invalid guest state, with its bit 31. */
const INVALID_GUEST_STATE = 0x80000021;

/** One VMWRITE after entries that were good, and what the next VMRESUME comes to. @sdm 3C "Checks on the Guest State Area" */
const LATE: readonly [field: string, value: bigint, guest: () => Fields, outcome: object][] = [
  ["GUEST_RFLAGS", 0x0an, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RFLAGS", 0x8002n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RFLAGS", 1n << 40n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RFLAGS", 0n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RFLAGS", 0x20002n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RIP", START | (1n << 48n), longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RIP", START | (1n << 63n), longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_RIP", START | (1n << 32n), protectedGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_CR3", 0x4000n | (1n << 46n), longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_ACTIVITY_STATE", 4n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_INTERRUPTIBILITY_STATE", 0x20n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_INTERRUPTIBILITY_STATE", 3n, longGuest, { reason: INVALID_GUEST_STATE }],
  ["GUEST_PENDING_DEBUG_EXCEPTIONS", 0x10n, longGuest, { reason: INVALID_GUEST_STATE }],
  // type 1 is reserved
  ["ENTRY_INTERRUPTION_INFO", 0x80000120n, longGuest, { error: 7 }],
];

describe("VMRESUME after entries that were good", () => {
  /** Twice in and out, the second time by VMRESUME. */
  function settle(guest: () => Fields): void {
    vmx.start([], guest());
    // 32-bit paging for the guests that have it: the first 64 KiB
    if (guest === protectedGuest) {
      vmx.poke64(0x4000n, 0xb007n);
      for (let page = 0n; page < 16n; page += 2n) {
        vmx.poke64(0xb000n + 4n * page, (page << 12n) | 7n | ((((page + 1n) << 12n) | 7n) << 32n));
      }
    }
    for (let n = 0; n < 2; n++) {
      expect(vmx.runToExit().reason).toBe(18);
      vmx.write("GUEST_RIP", START);
      if (n === 0) expect(vmx.enter(false)).toMatchObject({ entered: true });
    }
  }

  it.each(LATE)("fails when %s is %s since", (name, value, guest, outcome) => {
    settle(guest);
    vmx.write(name, value);
    expect(vmx.enter(false)).toMatchObject({ entered: false, ...outcome });
  });

  it("takes blocking by NMI that is new", () => {
    settle(longGuest);
    vmx.write("GUEST_INTERRUPTIBILITY_STATE", 8n);
    expect(vmx.enter(false)).toMatchObject({ entered: true });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_INTERRUPTIBILITY_STATE")).toBe(8n);
  });

  it("sees what was stored to the region by its address, as a snapshot stores it", () => {
    settle(longGuest);
    const offset = vmx.core.vmcsOffset(field("GUEST_GDTR_LIMIT").encoding) & 0xfff;
    vmx.poke64(vmx.vmcs + BigInt(offset), 0x1_0000n); // bits 31:16 of the limit must be 0
    expect(vmx.enter(false)).toMatchObject({ entered: false, reason: INVALID_GUEST_STATE });
  });

  it("fails when the processor has lost a feature that CR4 of the guest has on", () => {
    settle(() => ({ ...longGuest(), GUEST_CR4: 0x2020n | BigInt(CR4_FSGSBASE) }));
    const leaf = (place: number, number: number, eax: number, rest: number) => {
      const at = CPUID_TABLE + CPUID_ENTRY * place;
      for (const [i, word] of [number, 0, 0, eax, rest, rest, rest].entries()) vmx.write32(at + 4 * i, word >>> 0);
    };
    try {
      leaf(0, 0, 7, 0x756e_6547);
      leaf(1, 1, 0, -1);
      leaf(2, 7, 0, 0);
      leaf(3, -1, 0, 0);
      vmx.core.cpuidChanged();
      expect(vmx.enter(false)).toMatchObject({ entered: false, reason: INVALID_GUEST_STATE });
    } finally {
      for (let place = 0; place < 4; place++) leaf(place, 0, 0, 0);
      vmx.core.cpuidChanged();
    }
  });

  it("fails when the hypervisor has left IA-32e mode since", () => {
    settle(longGuest);
    vmx.write64(EFER, 0n);
    vmx.write32(SEGS + SEG_CS + SG_ATTR, 0xc09b);
    vmx.core.stateChanged();
    expect(vmx.enter(false)).toMatchObject({ entered: false, error: 8 });
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
