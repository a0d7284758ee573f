// What a VM exit saves and loads. SDM 3C "Saving Guest State", "Saving MSRs", "Loading Host State", "Loading MSRs",
// "VMX Aborts"; what VM entry loads: "Loading Guest State".
import { readFileSync } from "node:fs";
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RegionFlag } from "../../assembly/abi/layout.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import * as s from "../../assembly/abi/state.ts";
import { type Fields, identityEpt, longGuest, realGuest } from "./guests.ts";
import { RAX, Running, START, u32 } from "./running.ts";

const vmx = new Running();
beforeEach(() => vmx.fresh());

const NOP = [0x90];
const NAMES = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];
const segment = (name: string) => s.SEGS + NAMES.indexOf(name) * s.SEG_SIZE;
const EXIT = [c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE];
const exits = (...bits: number[]): Fields => ({ PRIMARY_EXIT_CONTROLS: u32(...EXIT, ...bits) });
const entries = (...bits: number[]): Fields => ({
  ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED, c.ENTRY_IA_32E_MODE_GUEST, ...bits),
});

/** Guest-state values that no reset or host value equals. */
const distinct: Fields = {
  GUEST_CR3: 0x4018n,
  GUEST_DR7: 0x401n,
  GUEST_IA32_DEBUGCTL: 1n,
  GUEST_IA32_PAT: 0x0001040506070000n,
  GUEST_IA32_EFER: 0xd00n,
  GUEST_IA32_SYSENTER_CS: 0x1234n,
  GUEST_IA32_SYSENTER_ESP: 0xffff_8000_0000_1111n,
  GUEST_IA32_SYSENTER_EIP: 0x2222n,
  GUEST_GDTR_BASE: 0x3333n,
  GUEST_GDTR_LIMIT: 0x44n,
  GUEST_IDTR_BASE: 0x5555n,
  GUEST_IDTR_LIMIT: 0x66n,
  GUEST_ES_SELECTOR: 0x23n,
  GUEST_ES_ACCESS_RIGHTS: 0xd0f3n,
  GUEST_FS_SELECTOR: 0x53n,
  GUEST_FS_ACCESS_RIGHTS: 0x50f3n,
  GUEST_FS_LIMIT: 0x777n,
  GUEST_FS_BASE: 0xffff_8000_0000_8888n,
  GUEST_GS_BASE: 0x9999n,
  GUEST_LDTR_SELECTOR: 0x48n,
  GUEST_LDTR_ACCESS_RIGHTS: 0x82n,
  GUEST_LDTR_BASE: 0xffff_8000_0000_aaaan,
  GUEST_LDTR_LIMIT: 0xbbn,
  GUEST_TR_SELECTOR: 0x50n,
  GUEST_TR_BASE: 0xccccn,
  GUEST_TR_LIMIT: 0xddn,
  GUEST_RSP: 0xeeeen,
  GUEST_RFLAGS: 0x200ed7n & ~0x200n,
};

describe("round trip", () => {
  it("a guest that changes nothing is saved as it was loaded", () => {
    const all = {
      ...longGuest(),
      ...distinct,
      ...exits(c.EXIT_SAVE_DEBUG_CONTROLS, c.EXIT_SAVE_IA32_PAT, c.EXIT_SAVE_IA32_EFER),
      ...entries(c.ENTRY_LOAD_DEBUG_CONTROLS, c.ENTRY_LOAD_IA32_PAT, c.ENTRY_LOAD_IA32_EFER),
    };
    vmx.start([], all);
    expect(vmx.runToExit().reason).toBe(18);
    for (const [name, value] of Object.entries(all)) expect(vmx.read(name), name).toBe(value);
  });
});

describe("VM entry loads", () => {
  it("MSRs and debug registers only by their controls", () => {
    vmx.core.wrmsr(0x277, 0x0606060606060606n);
    vmx.start(NOP, { ...distinct, ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED, c.ENTRY_IA_32E_MODE_GUEST) });
    expect(vmx.read64(s.MSR_PAT)).toBe(0x0606060606060606n);
    expect(vmx.read64(s.DR7)).toBe(0x400n);
    expect(vmx.read64(s.MSR_DEBUGCTL)).toBe(0n);
    // LMA and LME by the control, the others stay: NXE and SCE of the host
    expect(vmx.read64(s.EFER)).toBe(0xd01n);
  });
  it("EFER from its field with the control", () => {
    vmx.start(NOP, { ...distinct, ...entries(c.ENTRY_LOAD_IA32_EFER) });
    expect(vmx.read64(s.EFER)).toBe(0xd00n);
  });
  it("CPL is SS.DPL", () => {
    const user: Fields = {
      GUEST_CS_SELECTOR: 0x13n,
      GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
      GUEST_SS_SELECTOR: 0x1bn,
      GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
    };
    vmx.start(NOP, user);
    expect(vmx.read32(s.CPL)).toBe(3);
  });
  it("CR0.CD and NW stay as they were", () => {
    vmx.start(NOP, { GUEST_CR0: 0xe0000031n });
    expect(vmx.read64(s.CR0)).toBe(0x80000031n);
  });
  it("the MSR list, in order", () => {
    vmx.poke64(0x10000n, 0xc0000102n);
    vmx.poke64(0x10008n, 1n);
    vmx.poke64(0x10010n, 0xc0000102n);
    vmx.poke64(0x10018n, 2n);
    vmx.start(NOP, { ENTRY_MSR_LOAD_COUNT: 2n, ENTRY_MSR_LOAD_ADDRESS: 0x10000n });
    expect(vmx.read64(s.MSR_KERNEL_GS_BASE)).toBe(2n);
  });
});

describe("VM exit loads the host", () => {
  const load = (set: Fields = {}) => {
    vmx.start(NOP, { ...distinct, ...set });
    expect(vmx.runToExit().reason).toBe(18);
  };
  it("control registers, RIP, RSP and RFLAGS", () => {
    load({ ...entries(c.ENTRY_LOAD_DEBUG_CONTROLS), HOST_CR3: 0x123000n, HOST_CR4: 0x2030n });
    expect(vmx.read64(s.CR0)).toBe(0x80000031n);
    expect(vmx.read64(s.CR3)).toBe(0x123000n);
    expect(vmx.read64(s.CR4)).toBe(0x2030n);
    expect(vmx.read64(s.RIP)).toBe(vmx.read("HOST_RIP"));
    expect(vmx.gpr(4)).toBe(vmx.read("HOST_RSP"));
    expect(vmx.core.getRflags()).toBe(2n);
    expect(vmx.read64(s.DR7)).toBe(0x400n);
    expect(vmx.read64(s.MSR_DEBUGCTL)).toBe(0n);
    expect(vmx.read32(s.CPL)).toBe(0);
  });
  it("segments", () => {
    load({ HOST_DS_SELECTOR: 0x20n, HOST_FS_SELECTOR: 0n, HOST_FS_BASE: 0x77n });
    const at = (name: string) => ({
      selector: vmx.read32(segment(name) + s.SG_SELECTOR),
      base: vmx.read64(segment(name) + s.SG_BASE),
      limit: vmx.read32(segment(name) + s.SG_LIMIT),
      rights: vmx.read32(segment(name) + s.SG_ATTR),
    });
    expect(at("CS")).toEqual({ selector: 0x10, base: 0n, limit: 0xffffffff, rights: 0xa09b });
    expect(at("SS")).toEqual({ selector: 0x18, base: 0n, limit: 0xffffffff, rights: 0xc093 });
    expect(at("DS")).toEqual({ selector: 0x20, base: 0n, limit: 0xffffffff, rights: 0xc093 });
    expect(at("ES").rights & 0x10000).toBe(0x10000);
    expect(at("FS")).toMatchObject({ selector: 0, base: 0x77n });
    expect(at("FS").rights & 0x10000).toBe(0x10000);
    expect(at("GS").base).toBe(vmx.read("HOST_GS_BASE"));
    expect(at("TR")).toEqual({ selector: 0x40, base: vmx.read("HOST_TR_BASE"), limit: 0x67, rights: 0x8b });
    expect(at("LDTR").rights & 0x10000).toBe(0x10000);
    expect(vmx.read64(s.GDTR_BASE)).toBe(vmx.read("HOST_GDTR_BASE"));
    expect(vmx.read32(s.GDTR_LIMIT)).toBe(0xffff);
    expect(vmx.read32(s.IDTR_LIMIT)).toBe(0xffff);
  });
  it("SYSENTER MSRs always, PAT and EFER by their controls", () => {
    load();
    expect(vmx.read64(s.MSR_SYSENTER_CS)).toBe(0x10n);
    expect(vmx.read64(s.MSR_SYSENTER_ESP)).toBe(vmx.read("HOST_IA32_SYSENTER_ESP"));
    vmx.fresh();
    load({ ...entries(c.ENTRY_LOAD_IA32_PAT), ...exits(c.EXIT_LOAD_IA32_EFER), HOST_IA32_EFER: 0x500n });
    expect(vmx.read64(s.MSR_PAT)).toBe(distinct.GUEST_IA32_PAT);
    expect(vmx.read64(s.EFER)).toBe(0x500n);
    vmx.fresh();
    load({ ...entries(c.ENTRY_LOAD_IA32_PAT), ...exits(c.EXIT_LOAD_IA32_PAT) });
    expect(vmx.read64(s.MSR_PAT)).toBe(vmx.read("HOST_IA32_PAT"));
  });
  it("leaves what is not in the VMCS: general registers, CR2, DR0-3, DR6, KERNEL_GS_BASE", () => {
    vmx.start([0x48, 0xc7, 0xc0, 1, 0, 0, 0, 0x0f, 0x23, 0xc0], {}); // mov rax, 1; mov dr0, rax
    vmx.write64(s.CR2, 0x99n);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.gpr(RAX)).toBe(1n);
    expect(vmx.read64(s.DR0)).toBe(1n);
    expect(vmx.read64(s.CR2)).toBe(0x99n);
  });
  it("from a real-mode guest too", () => {
    vmx.poke64(0x5000n, 0x6007n);
    vmx.poke64(0x6000n, 0xb7n);
    vmx.start([], realGuest());
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read32(s.MODE) & s.ModeBit.Code64).toBe(s.ModeBit.Code64);
    expect(vmx.read("GUEST_CR0")).toBe(0x30n);
  });
});

describe("VM exit saves", () => {
  it("IA-32e mode guest follows EFER.LMA", () => {
    vmx.start([], {});
    vmx.runToExit();
    expect(vmx.read("ENTRY_CONTROLS") & 0x200n).toBe(0x200n);
  });
  it("what the guest changed by instructions", () => {
    // mov ecx,c0000100h; mov eax,1234h; xor edx,edx; wrmsr (FS_BASE)
    const code = [0xb9, 0, 1, 0, 0xc0, 0xb8, 0x34, 0x12, 0, 0, 0x31, 0xd2, 0x0f, 0x30];
    vmx.start(code, {
      PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_USE_MSR_BITMAPS),
      MSR_BITMAP_ADDRESS: 0x9000n,
    });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_FS_BASE")).toBe(0x1234n);
    expect(vmx.read("GUEST_RIP")).toBe(START + BigInt(code.length));
  });
  it("the MSR-store list, in order, before host MSRs are loaded", () => {
    vmx.poke64(0x10000n, 0xc0000102n);
    vmx.poke64(0x10010n, 0x174n);
    vmx.start(NOP, {
      EXIT_MSR_STORE_COUNT: 2n,
      EXIT_MSR_STORE_ADDRESS: 0x10000n,
      GUEST_IA32_SYSENTER_CS: 0x77n,
    });
    vmx.write64(s.MSR_KERNEL_GS_BASE, 0x55n);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.peek64(0x10008n)).toBe(0x55n);
    expect(vmx.peek64(0x10018n)).toBe(0x77n);
  });
  it("RFLAGS.RF as 0 when an instruction exits", () => {
    vmx.start([], { GUEST_RFLAGS: 0x10002n });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RFLAGS")).toBe(2n);
  });
});

describe("MSR-load list of the exit", () => {
  it("is loaded after the host state", () => {
    vmx.poke64(0x10000n, 0x174n);
    vmx.poke64(0x10008n, 0x99n);
    vmx.start(NOP, { EXIT_MSR_LOAD_COUNT: 1n, EXIT_MSR_LOAD_ADDRESS: 0x10000n });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read64(s.MSR_SYSENTER_CS)).toBe(0x99n);
  });
});

describe("VMX abort", () => {
  const abort = (set: Fields): number => {
    vmx.start(NOP, set);
    expect(vmx.core.run(100n, 10_000n)).toBe(RunCode.VmxAbort);
    expect(Number(vmx.peek64(vmx.vmcs) >> 32n)).toBe(vmx.read32(s.VMX_ABORT));
    return vmx.read32(s.VMX_ABORT);
  };
  it("1: an MSR cannot be stored", () => {
    vmx.poke64(0x10000n, 0xdeadn);
    expect(abort({ EXIT_MSR_STORE_COUNT: 1n, EXIT_MSR_STORE_ADDRESS: 0x10000n })).toBe(1);
  });
  it("3: the region of the current VMCS is no memory any more", () => {
    // RAM in three pieces, the VMCS in one of its own
    const own = new Running();
    own.fresh();
    const { core, base } = own;
    const page = Number(own.vmcs) / 4096;
    core.unmapRegion(0n);
    core.mapRegion(0n, page, base, RegionFlag.Ram);
    core.mapRegion(own.vmcs, 1, own.host(own.vmcs), RegionFlag.Ram);
    core.mapRegion(own.vmcs + 4096n, 100, own.host(own.vmcs + 4096n), RegionFlag.Ram);
    own.fresh();
    own.start(NOP, {});
    core.unmapRegion(own.vmcs);
    expect(core.run(100n, 10_000n)).toBe(RunCode.VmxAbort);
    expect(own.read32(s.VMX_ABORT)).toBe(3);
    // shutdown in which only RESET helps; the guest has run up to the instruction that exits
    expect(own.read32(s.ACTIVITY)).toBe(2);
    own.restart();
    expect(own.read32(s.VMX_ABORT)).toBe(0);
  });
  // SDM 3C "VMX Aborts": 5 is a machine check during the exit, of which there is no source
  it("every indicator that the processor can give has a test", () => {
    const source = readFileSync(new URL("../../assembly/vmx/exit.ts", import.meta.url), "utf8");
    const given = [...source.matchAll(/^const ABORT_\w+: u32 = (\d+);$/gm)].map((m) => Number(m[1]));
    expect(given).toEqual([1, 2, 3, 4, 6]);
    const tests = readFileSync(new URL(import.meta.url), "utf8");
    for (const code of given) expect(tests).toMatch(new RegExp(`^  it\\("${code}: `, "m"));
  });
  it("4: a host MSR cannot be loaded", () => {
    vmx.poke64(0x10000n, 0xdeadn);
    expect(abort({ EXIT_MSR_LOAD_COUNT: 1n, EXIT_MSR_LOAD_ADDRESS: 0x10000n })).toBe(4);
  });
});

describe("VMX abort with a host that is not in IA-32e mode", () => {
  const HOST_CODE = 0x6800n;
  const PDPTES = 0x9000n;
  const MOV_CR0_PG = [...[0x0f, 0x20, 0xc0], ...[0x0d, 0, 0, 0, 0x80], ...[0x0f, 0x22, 0xc0]];

  /** Root operation in 32-bit protected mode with PAE paging. */
  function narrowHost(): void {
    identityEpt(vmx);
    vmx.write64(s.EFER, 0n);
    vmx.write32(segment("CS") + s.SG_ATTR, 0xc09b);
    vmx.core.stateChanged();
    vmx.poke64(PDPTES, 0x1000n | 1n);
  }
  /** Unpaged 32-bit code, then VMCALL. */
  const run = (code: number[], set: Fields): RunCode => {
    narrowHost();
    vmx.start(code, {
      ...realGuest(),
      PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED),
      HOST_RIP: HOST_CODE,
      HOST_CR3: PDPTES,
      GUEST_CR0: 0x31n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
      GUEST_CS_LIMIT: 0xffffffffn,
      ...set,
    });
    return vmx.core.run(100n, 10_000n);
  };
  const code = () => [vmx.read32(s.VMX_ABORT), Number(vmx.peek64(vmx.vmcs) >> 32n)];

  it("none with good PDPTEs", () => {
    expect(run(NOP, {})).toBe(RunCode.VmExit);
    expect(vmx.read32(s.VMX_ABORT)).toBe(0);
    expect(vmx.read64(s.PDPTE)).toBe(0x1001n);
    expect(vmx.read64(s.EFER) & 0x500n).toBe(0n);
  });
  it("2: a PDPTE of the host has a reserved bit", () => {
    vmx.poke64(PDPTES + 8n, 0x2003n);
    expect(run(NOP, {})).toBe(RunCode.VmxAbort);
    expect(code()).toEqual([2, 2]);
  });
  it("6: the guest has gone to IA-32e mode", () => {
    const loadEfer = { ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED, c.ENTRY_LOAD_IA32_EFER), GUEST_IA32_EFER: 0x100n };
    const guest = { ...loadEfer, GUEST_CR3: 0x4000n, GUEST_CR4: 0x2020n };
    expect(run(MOV_CR0_PG, guest)).toBe(RunCode.VmxAbort);
    expect(code()).toEqual([6, 6]);
  });
});

describe("late entry failure", () => {
  it("loads the host but leaves the guest area, other exit fields and the valid bit", () => {
    vmx.start(NOP, {});
    vmx.runToExit();
    const before = { rip: vmx.read("GUEST_RIP"), length: vmx.read("EXIT_INSTRUCTION_LENGTH") };
    vmx.write("GUEST_RFLAGS", 0n);
    vmx.write("ENTRY_INTERRUPTION_INFO", 0x80000306n);
    expect(vmx.enter(false)).toMatchObject({ entered: false, reason: 0x80000021, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(before.rip);
    expect(vmx.read("GUEST_RFLAGS")).toBe(0n);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(before.length);
    expect(vmx.read("ENTRY_INTERRUPTION_INFO")).toBe(0x80000306n);
  });
  it("makes run() return at once", () => {
    vmx.start(NOP, {});
    vmx.runToExit();
    vmx.write("GUEST_RFLAGS", 0n);
    vmx.core.vmresume();
    expect(vmx.core.run(100n, 1000n)).toBe(RunCode.VmExit);
    expect(vmx.read("EXIT_REASON")).toBe(0x80000021n);
  });
  it("after MSR loading: the entry number", () => {
    vmx.poke64(0x10000n, 0xdeadn);
    vmx.start(NOP, {});
    vmx.runToExit();
    vmx.write("ENTRY_MSR_LOAD_COUNT", 1n);
    vmx.write("ENTRY_MSR_LOAD_ADDRESS", 0x10000n);
    expect(vmx.enter(false)).toMatchObject({ reason: 0x80000022, qualification: 1n });
    expect(vmx.read64(s.RIP)).toBe(vmx.read("HOST_RIP"));
  });
});

describe("launch state", () => {
  it("VMRESUME after an exit, VMLAUNCH only after VMCLEAR", () => {
    vmx.start(NOP, {});
    vmx.runToExit();
    expect(vmx.enter()).toMatchObject({ error: 4 });
    expect(vmx.enter(false).entered).toBe(true);
    vmx.runToExit();
    vmx.select();
    expect(vmx.enter(false)).toMatchObject({ error: 5 });
    expect(vmx.enter().entered).toBe(true);
  });
  it("a failed entry leaves it clear", () => {
    vmx.start(NOP, {});
    vmx.runToExit();
    vmx.select();
    vmx.write("GUEST_RFLAGS", 0n);
    expect(vmx.enter().reason).toBe(0x80000021);
    vmx.write("GUEST_RFLAGS", 2n);
    expect(vmx.enter().entered).toBe(true);
  });
});

describe("host-visible counts", () => {
  it("exits and entries", () => {
    const [entered, left] = [vmx.read64(s.ENTRIES), vmx.read64(s.EXITS)];
    vmx.start(NOP, {});
    vmx.runToExit();
    expect(vmx.read64(s.ENTRIES) - entered).toBe(1n);
    expect(vmx.read64(s.EXITS) - left).toBe(1n);
  });
  it("an exiting instruction is not counted", () => {
    vmx.start([0x90, 0x90], {});
    const before = vmx.read64(s.COUNT);
    vmx.runToExit();
    expect(vmx.read64(s.COUNT) - before).toBe(2n);
  });
});
