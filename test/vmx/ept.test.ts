// EPT violations and misconfigurations. SDM 3C "EPT Translation Mechanism", table 27-7.
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import type { Fields } from "./guests.ts";
import { RAX, RBX, Running, START, u32 } from "./running.ts";

const vmx = new Running();
const PML4 = 0x11000n;
const PDPT = 0x12000n;
const PD = 0x13000n;
const PT = 0x14000n;
const WB = 6n << 3n;
const RWX = 7n;

const EPT: Fields = {
  PRIMARY_PROC_BASED_CONTROLS: u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS),
  SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_ENABLE_EPT),
  EPT_POINTER: PML4 | 0x1en,
};

/** The first 2 MiB identity-mapped by 4 KiB pages. */
function identity(): void {
  vmx.poke64(PML4, PDPT | RWX);
  vmx.poke64(PDPT, PD | RWX);
  vmx.poke64(PD, PT | RWX);
  for (let page = 0n; page < 128n; page++) vmx.poke64(PT + 8n * page, (page << 12n) | WB | RWX);
}
const map = (page: bigint, entry: bigint) => vmx.poke64(PT + 8n * page, entry);

beforeEach(() => {
  vmx.fresh();
  identity();
});

const DATA = 0x20000n;
const READ = [0x8b, 0x03]; // mov eax, [rbx]
const WRITE = [0x89, 0x03]; // mov [rbx], eax
const RMW = [0x01, 0x03]; // add [rbx], eax

function exit(code: readonly number[], set: Fields = {}, at = DATA + 0x10n) {
  vmx.start(code, { ...EPT, ...set }, { [RBX]: at, [RAX]: 0x5an });
  return vmx.runToExit();
}
/** Qualification: access 2:0, rights 5:3, linear address valid and final translation. */
const q = (access: number, rights: number) => BigInt(access | (rights << 3) | 0x180);

describe("translation", () => {
  it("goes through all four levels", () => {
    map(0x20n, 0x21000n | WB | RWX);
    vmx.poke64(0x21010n, 0x1122334455667788n);
    expect(exit(READ).reason).toBe(18);
    expect(vmx.gpr(RAX)).toBe(0x55667788n);
  });
  it("2 MiB and 1 GiB pages", () => {
    vmx.poke64(PD, 0x80n | WB | RWX);
    vmx.poke64(DATA + 0x10n, 0x42n);
    expect(exit(READ).reason).toBe(18);
    expect(vmx.gpr(RAX)).toBe(0x42n);
    vmx.fresh();
    identity();
    vmx.poke64(PDPT, 0x80n | WB | RWX);
    vmx.poke64(DATA + 0x10n, 0x43n);
    expect(exit(READ).reason).toBe(18);
    expect(vmx.gpr(RAX)).toBe(0x43n);
  });
  it("a change of an entry acts at once", () => {
    vmx.poke64(0x21010n, 7n);
    expect(exit(READ).reason).toBe(18);
    map(0x20n, 0x21000n | WB | RWX);
    vmx.write("GUEST_RIP", START);
    expect(vmx.enter(false).entered).toBe(true);
    vmx.setGpr(RBX, DATA + 0x10n);
    vmx.runToExit();
    expect(vmx.gpr(RAX)).toBe(7n);
  });
});

describe("violations", () => {
  const cases = [
    { title: "read of an absent page", code: READ, entry: 0n, qualification: q(1, 0) },
    { title: "write to an absent page", code: WRITE, entry: 0n, qualification: q(2, 0) },
    { title: "write to a read-only page", code: WRITE, entry: 1n, qualification: q(2, 1) },
    { title: "write to a read-execute page", code: WRITE, entry: 5n, qualification: q(2, 5) },
    { title: "read of an execute-only page", code: READ, entry: 4n, qualification: q(1, 4) },
  ];
  it.each(cases)("$title", ({ code, entry, qualification }) => {
    map(0x20n, entry ? DATA | WB | entry : 0n);
    expect(exit(code)).toEqual({ reason: 48, qualification });
    expect(vmx.read("GUEST_PHYSICAL_ADDRESS")).toBe(DATA + 0x10n);
    expect(vmx.read("GUEST_LINEAR_ADDRESS")).toBe(DATA + 0x10n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("GUEST_RFLAGS") & 0x10000n).toBe(0x10000n);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0n);
  });
  it("a read-modify-write sets the write bit", () => {
    map(0x20n, DATA | WB | 1n);
    const got = exit(RMW);
    expect(got.reason).toBe(48);
    expect(got.qualification & ~1n).toBe(q(2, 1));
  });
  it("fetch from a page without execute", () => {
    map(0x21n, 0x21000n | WB | 3n);
    const got = exit([0xff, 0xe3], {}, 0x21000n); // jmp rbx
    expect(got).toEqual({ reason: 48, qualification: q(4, 3) });
    expect(vmx.read("GUEST_RIP")).toBe(0x21000n);
  });
  it("rights are those of all levels together", () => {
    vmx.poke64(PD, PT | 5n);
    const got = exit(WRITE);
    // the guest's own page walk sets accessed flags first: 4000H lies in the same 2 MiB
    expect(got.reason).toBe(48);
    expect((got.qualification >> 3n) & 7n).toBe(5n);
  });
  it("access to a guest paging-structure entry: bit 8 is 0", () => {
    map(4n, 0n);
    const got = exit(READ);
    expect(got.reason).toBe(48);
    expect(got.qualification & 0x1c0n).toBe(0x80n);
    expect(vmx.read("GUEST_PHYSICAL_ADDRESS") >> 12n).toBe(4n);
    expect(vmx.read("GUEST_LINEAR_ADDRESS")).toBe(START);
  });
  it("an absent upper level", () => {
    vmx.poke64(PDPT + 8n, 0n);
    vmx.poke64(0xa000n + 8n, 0x40000087n);
    const got = exit(READ, {}, 0x40000000n);
    expect(got).toEqual({ reason: 48, qualification: q(1, 0) });
    expect(vmx.read("GUEST_PHYSICAL_ADDRESS")).toBe(0x40000000n);
  });
  it("during the delivery of an event: IDT-vectoring information, RF as pushed", () => {
    map(0xfn, 0n); // the stack page
    vmx.start([0x0f, 0x0b], EPT);
    expect(vmx.runToExit().reason).toBe(48);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000306n);
    expect(vmx.read("GUEST_RFLAGS") & 0x10000n).toBe(0x10000n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
  });
});

// SDM 3C "Saving RIP, RSP, RFLAGS, and SSP": RF as delivery would have pushed it; "Vectored-Event Injection" pushes RFLAGS
// as VM entry has loaded it
describe("RF during the delivery of an event that VM entry injects", () => {
  it.each([
    ["a fault, RF = 0", 0x80000306n, 2n],
    ["a fault, RF = 1", 0x80000306n, 0x10002n],
    ["an external interrupt", 0x80000021n, 0x202n],
    ["INT3", 0x80000603n, 2n],
  ])("%s", (_, info, flags) => {
    map(0xfn, 0n);
    vmx.start([0x90], {
      ...EPT,
      ENTRY_INTERRUPTION_INFO: info,
      ENTRY_INSTRUCTION_LENGTH: 1n,
      GUEST_RFLAGS: flags,
    });
    expect(vmx.runToExit().reason).toBe(48);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(info);
    expect(vmx.read("GUEST_RFLAGS")).toBe(flags);
  });
});

describe("misconfigurations", () => {
  const cases = [
    { title: "write only", level: PT, entry: DATA | WB | 2n },
    { title: "write and execute", level: PT, entry: DATA | WB | 6n },
    { title: "memory type 2", level: PT, entry: DATA | (2n << 3n) | RWX },
    { title: "memory type 3", level: PT, entry: DATA | (3n << 3n) | RWX },
    { title: "memory type 7", level: PT, entry: DATA | (7n << 3n) | RWX },
    { title: "address too wide", level: PT, entry: (1n << 46n) | WB | RWX },
    { title: "PDE bit 3", level: PD, entry: PT | 8n | RWX },
    { title: "PDE bit 6", level: PD, entry: PT | 0x40n | RWX },
    { title: "2 MiB page not aligned", level: PD, entry: 0x1000n | 0x80n | WB | RWX },
    { title: "PDPTE bit 4", level: PDPT, entry: PD | 0x10n | RWX },
    { title: "1 GiB page not aligned", level: PDPT, entry: 0x200000n | 0x80n | WB | RWX },
    { title: "PML4E bit 7", level: PML4, entry: PDPT | 0x80n | RWX },
  ];
  it.each(cases)("$title", ({ level, entry }) => {
    vmx.poke64(level === PT ? PT + 8n * 0x20n : level, entry);
    expect(exit(READ).reason).toBe(49);
    if (level === PT) expect(vmx.read("GUEST_PHYSICAL_ADDRESS")).toBe(DATA + 0x10n);
  });
  it.each([0n, 1n, 4n, 5n, 6n])("memory type %i is none", (type) => {
    map(0x20n, DATA | (type << 3n) | RWX);
    expect(exit(READ).reason).toBe(18);
  });
  it("beats the missing right of a level above", () => {
    vmx.poke64(PD, PT | 5n);
    map(0x20n, DATA | (2n << 3n) | RWX);
    expect([48, 49]).toContain(exit(READ).reason);
  });
  it("ignored bits of absent entries are none", () => {
    map(0x20n, 0xffff_ffff_ffff_fff8n);
    expect(exit(READ).reason).toBe(48);
  });
});

describe("PDPTEs with EPT", () => {
  const pae: Fields = {
    ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
    GUEST_CR4: 0x2020n,
    GUEST_IA32_EFER: 0n,
    GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
    GUEST_CR3: 0xdead000n & 0x3ffe0n,
    GUEST_PDPTE0: 0x16001n,
    GUEST_PDPTE1: 0n,
    GUEST_PDPTE2: 0n,
    GUEST_PDPTE3: 0n,
  };
  it("come from the VMCS and are saved there", () => {
    vmx.poke64(0x16000n, 0xe3n); // 2 MiB page
    vmx.start([], { ...EPT, ...pae });
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_PDPTE0")).toBe(0x16001n);
  });
});
