// Accessed and dirty flags for EPT, page-modification log, mode-based execute control, EPTP switching.
// SDM 3C "Accessed and Dirty Flags for EPT", "Page-Modification Logging", "EPT Violations", "EPTP Switching".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { VmxResult } from "../../assembly/abi/run.ts";
import type { Fields } from "./guests.ts";
import { RAX, RBX, RCX, RDX, RSI, Running, START, u32, VMCALL } from "./running.ts";

const vmx = new Running();
const PML4 = 0x11000n;
const PDPT = 0x12000n;
const PD = 0x13000n;
const PT = 0x14000n;
const LOG = 0x15000n;
const LIST = 0x16000n;
const OTHER = 0x17000n; // a second set of tables: PML4, PDPT, PD, PT
const WB = 6n << 3n;
const RWX = 7n;
const USER_X = 0x400n;
const A = 0x100n;
const D = 0x200n;
const DATA = 0x20000n;
const READ = [0x8b, 0x03]; // mov eax, [rbx]
const WRITE = [0x89, 0x03]; // mov [rbx], eax
const VMFUNC = [0x0f, 0x01, 0xd4];

const SECOND = u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);
const ept = (...more: number[]): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: SECOND,
  SECONDARY_PROC_BASED_CONTROLS: u32(c.SECONDARY_ENABLE_EPT, ...more),
  EPT_POINTER: PML4 | 0x1en,
});
const flags = (...more: number[]): Fields => ({ ...ept(...more), EPT_POINTER: PML4 | 0x5en });
const pml = (index: bigint): Fields => ({ ...flags(c.SECONDARY_ENABLE_PML), PML_ADDRESS: LOG, PML_INDEX: index });
const split = (): Fields => ept(c.SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);

function identity(root = PML4, rights = RWX | USER_X): void {
  const [pdpt, pd, pt] = [root + 0x1000n, root + 0x2000n, root + 0x3000n];
  vmx.poke64(root, pdpt | rights);
  vmx.poke64(pdpt, pd | rights);
  vmx.poke64(pd, pt | rights);
  for (let page = 0n; page < 128n; page++) vmx.poke64(pt + 8n * page, (page << 12n) | WB | rights);
}
const entry = (page: bigint) => vmx.peek64(PT + 8n * page);
const map = (page: bigint, value: bigint) => vmx.poke64(PT + 8n * page, value);
const flagsOf = (page: bigint) => entry(page) & (A | D);
/** The next entry at the instruction after VMCALL or the one that exited. */
function again(rip: bigint): void {
  vmx.write("GUEST_RIP", rip);
  expect(vmx.enter(false)).toMatchObject({ entered: true });
}

beforeEach(() => {
  vmx.fresh();
  identity();
});

function exit(code: readonly number[], set: Fields, at = DATA + 0x10n) {
  vmx.start(code, set, { [RBX]: at, [RAX]: 0x5an });
  return vmx.runToExit();
}

describe("accessed and dirty flags", () => {
  it("stay clear without EPTP bit 6", () => {
    expect(exit(WRITE, ept()).reason).toBe(18);
    expect(flagsOf(0x20n)).toBe(0n);
  });
  it("a read sets A on every level and no D", () => {
    expect(exit(READ, flags()).reason).toBe(18);
    expect([PML4, PDPT, PD].map((at) => vmx.peek64(at) & (A | D))).toEqual([A, A, A]);
    expect(flagsOf(0x20n)).toBe(A);
  });
  it("a fetch sets A", () => {
    exit(READ, flags());
    expect(flagsOf(START >> 12n)).toBe(A);
  });
  it("a write sets A and D", () => {
    exit(WRITE, flags());
    expect(flagsOf(0x20n)).toBe(A | D);
  });
  it("a write after a read sets D", () => {
    exit([...READ, ...WRITE], flags());
    expect(flagsOf(0x20n)).toBe(A | D);
  });
  it("guest paging structures count as written", () => {
    exit(READ, flags());
    // CR3 and the page of the PDPT
    expect([flagsOf(4n), flagsOf(10n)]).toEqual([A | D, A | D]);
  });
  it("flags that software clears are set again", () => {
    exit([...WRITE, ...VMCALL, ...WRITE], flags());
    map(0x20n, entry(0x20n) & ~(A | D));
    again(START + 5n);
    vmx.runToExit();
    expect(flagsOf(0x20n)).toBe(A | D);
  });
  it("a large page has one D", () => {
    vmx.poke64(PD, 0x80n | WB | RWX);
    exit(WRITE, flags());
    expect(vmx.peek64(PD) & (A | D)).toBe(A | D);
  });
  it("a violation sets none on the leaf", () => {
    map(0x20n, DATA | WB | 1n);
    expect(exit(WRITE, flags())).toEqual({ reason: 48, qualification: 0x18an });
    expect(flagsOf(0x20n)).toBe(0n);
  });
  it("a guest paging structure that is read-only violates, with read and write in the qualification", () => {
    map(4n, 0x4000n | WB | 5n);
    const got = exit(READ, flags());
    expect(got).toEqual({ reason: 48, qualification: 0xabn });
    expect(vmx.read("GUEST_PHYSICAL_ADDRESS") >> 12n).toBe(4n);
  });
  it("without the flags a read-only paging structure with A set is enough", () => {
    vmx.poke64(0x4000n, 0xa027n);
    vmx.poke64(0xa000n, 0xe7n);
    map(4n, 0x4000n | WB | 5n);
    expect(exit(READ, ept()).reason).toBe(18);
  });
  it("PDPTEs that MOV to CR3 loads are read, not written", () => {
    vmx.poke64(0x16000n, 0x18001n);
    vmx.poke64(0x18000n, 0xe3n);
    // mov eax, cr3; mov cr3, eax
    exit([0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8], {
      ...flags(),
      PRIMARY_PROC_BASED_CONTROLS: SECOND,
      ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
      GUEST_CR4: 0x2020n,
      GUEST_IA32_EFER: 0n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
      GUEST_CR3: 0x16000n,
      GUEST_PDPTE0: 0x18001n,
    });
    expect(vmx.read("EXIT_REASON")).toBe(18n);
    expect(flagsOf(0x16n)).toBe(A);
    expect(flagsOf(0x18n)).toBe(A | D);
  });
});

describe("page-modification log", () => {
  const log = (index: bigint) => vmx.peek64(LOG + 8n * index);

  it("has the pages whose D is set, downwards", () => {
    exit(WRITE, pml(511n));
    const index = vmx.read("PML_INDEX");
    const pages = [];
    for (let i = 511n; i > index; i--) pages.push(log(i));
    expect(pages).toEqual([0x4000n, 0xa000n, DATA]);
  });
  it("a page is logged once", () => {
    exit([...WRITE, ...WRITE, ...READ], pml(100n));
    expect(vmx.read("PML_INDEX")).toBe(97n);
  });
  it("index 0 is the last entry; then the log is full", () => {
    expect(exit(WRITE, pml(2n)).reason).toBe(18);
    expect(vmx.read("PML_INDEX")).toBe(0xffffn);
    expect(log(0n)).toBe(DATA);
  });
  it("exit 62 instead of the access when it is full", () => {
    vmx.poke64(DATA + 0x10n, 0n);
    expect(exit(WRITE, pml(1n))).toEqual({ reason: 62, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("GUEST_RFLAGS") & 0x10000n).toBe(0x10000n);
    expect(flagsOf(0x20n)).toBe(0n);
    expect(vmx.peek64(DATA + 0x10n)).toBe(0n);
    // the host empties it
    vmx.write("PML_INDEX", 511n);
    again(START);
    vmx.setGpr(RBX, DATA + 0x10n);
    vmx.setGpr(RAX, 0x5an);
    expect(vmx.runToExit().reason).toBe(18);
    expect(log(511n)).toBe(DATA);
    expect(vmx.peek64(DATA + 0x10n)).toBe(0x5an);
  });
  it("an accessed flag needs no room but an index in range all the same", () => {
    vmx.poke64(0x4000n, 0xa027n);
    for (const page of [4n, 10n]) map(page, (page << 12n) | WB | RWX | A | D);
    expect(exit(READ, pml(512n)).reason).toBe(62);
    expect(flagsOf(START >> 12n)).toBe(0n);
  });
  it("full and nothing to set: no exit", () => {
    for (let page = 0n; page < 128n; page++) map(page, (page << 12n) | WB | RWX | A | D);
    for (const at of [PML4, PDPT, PD]) vmx.poke64(at, vmx.peek64(at) | A);
    expect(exit(WRITE, pml(0xffffn)).reason).toBe(18);
  });
  it("without EPTP bit 6 nothing is logged", () => {
    expect(exit(WRITE, { ...pml(511n), EPT_POINTER: PML4 | 0x1en }).reason).toBe(18);
    expect(vmx.read("PML_INDEX")).toBe(511n);
  });
  it("during the delivery of an event: IDT-vectoring information", () => {
    for (let page = 0n; page < 128n; page++) if (page !== 0xfn) map(page, (page << 12n) | WB | RWX | A | D);
    for (const at of [PML4, PDPT, PD]) vmx.poke64(at, vmx.peek64(at) | A);
    expect(exit([0x0f, 0x0b], pml(0xffffn)).reason).toBe(62);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000306n);
  });
});

describe("mode-based execute control", () => {
  const JUMP = [0xff, 0xe3]; // jmp rbx
  const TARGET = 0x21000n;
  /** The PDE of identityPaging() as a supervisor page. */
  const supervisor = () => vmx.poke64(0xa000n, 0x83n);

  // rights: R, W, X for supervisor-mode addresses, bit 10 X for user-mode addresses
  it.each([
    ["supervisor page, X", true, 7n, true],
    ["supervisor page, user X only", true, 3n | USER_X, false],
    ["user page, user X", false, 3n | USER_X, true],
    ["user page, supervisor X only", false, 7n, false],
  ] as const)("%s", (_, isSupervisor, rights, runs) => {
    if (isSupervisor) supervisor();
    vmx.code(VMCALL, TARGET);
    map(0x21n, TARGET | WB | rights);
    const got = exit(JUMP, split(), TARGET);
    if (runs) {
      expect(got.reason).toBe(18);
      return;
    }
    const x = rights & 4n ? 0x20n : 0n;
    const user = rights & USER_X ? 0x40n : 0n;
    expect(got).toEqual({ reason: 48, qualification: 0x184n | 0x18n | x | user });
  });
  it("bit 10 is ignored without the control", () => {
    vmx.code(VMCALL, TARGET);
    map(0x21n, TARGET | WB | 3n | USER_X);
    expect(exit(JUMP, ept(), TARGET)).toEqual({ reason: 48, qualification: 0x19cn });
  });
  it("an entry with bit 10 alone is present", () => {
    map(0x20n, DATA | WB | USER_X);
    expect(exit(READ, split())).toEqual({ reason: 48, qualification: 0x1c1n });
    map(0x20n, DATA | (2n << 3n) | USER_X);
    again(START);
    vmx.setGpr(RBX, DATA);
    expect(vmx.runToExit().reason).toBe(49);
  });
  it("without paging every address is a user-mode one", () => {
    map(START >> 12n, START | WB | 7n);
    const real: Fields = {
      ...ept(c.SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT, c.SECONDARY_UNRESTRICTED_GUEST),
      ENTRY_CONTROLS: u32(c.ENTRY_REQUIRED),
      GUEST_CR0: 0x31n,
      GUEST_CR4: 0x2000n,
      GUEST_IA32_EFER: 0n,
      GUEST_CS_ACCESS_RIGHTS: 0xc09bn,
    };
    expect(exit([], real)).toMatchObject({ reason: 48, qualification: 0x1bcn });
  });
  it("the same tables with and without the control", () => {
    vmx.code(VMCALL, TARGET);
    map(0x21n, TARGET | WB | 7n);
    expect(exit(JUMP, split(), TARGET).reason).toBe(48);
    vmx.write("SECONDARY_PROC_BASED_CONTROLS", u32(c.SECONDARY_ENABLE_EPT));
    again(TARGET);
    expect(vmx.runToExit().reason).toBe(18);
  });
});

describe("EPTP switching", () => {
  const functions = (controls = 1n): Fields => ({
    ...ept(c.SECONDARY_ENABLE_VM_FUNCTIONS),
    VM_FUNCTION_CONTROLS: controls,
    EPTP_LIST_ADDRESS: LIST,
  });
  const start = (set: Fields, leaf: bigint, index: bigint, code: number[] = []) => {
    vmx.start([...VMFUNC, ...code], set, { [RAX]: leaf, [RCX]: index, [RSI]: DATA, [RDX]: 0n });
    return vmx.runToExit();
  };
  const READ_SI = [0x8b, 0x16]; // mov edx, [rsi]

  it("takes the EPT pointer from the list", () => {
    identity(OTHER);
    vmx.poke64(OTHER + 0x3000n + 8n * 0x20n, 0x21000n | WB | RWX);
    vmx.poke64(0x21000n, 0x77n);
    vmx.poke64(LIST + 8n * 5n, OTHER | 0x1en);
    // translations of the first tables are cached: the guest reads before and after
    vmx.poke64(DATA, 0x66n);
    vmx.start([...READ_SI, 0x89, 0xd7, ...VMFUNC, ...READ_SI], functions(), { [RAX]: 0n, [RCX]: 5n, [RSI]: DATA });
    expect(vmx.runToExit().reason).toBe(18);
    expect([vmx.gpr(7), vmx.gpr(RDX)]).toEqual([0x66n, 0x77n]);
    expect(vmx.read("EPT_POINTER")).toBe(OTHER | 0x1en);
  });
  it("entry 511 exists, with accessed and dirty flags too", () => {
    identity(OTHER);
    vmx.poke64(LIST + 8n * 511n, OTHER | 0x5en);
    expect(start(functions(), 0n, 511n, READ_SI).reason).toBe(18);
    expect(vmx.peek64(OTHER) & A).toBe(A);
  });
  it.each([
    ["function 0 not enabled", 0n, 0n, 0n, 0n],
    ["function 1", 1n, 1n, 0n, 0n],
    ["function 63", 1n, 63n, 0n, 0n],
    ["entry 512", 1n, 0n, 512n, OTHER | 0x1en],
    ["32 bits of ECX", 1n, 0n, 0x80000000n, OTHER | 0x1en],
    ["an EPT pointer with memory type 1", 1n, 0n, 0n, OTHER | 0x19n],
    ["an EPT pointer with reserved bits", 1n, 0n, 0n, OTHER | 0x81en],
    ["an EPT pointer too wide", 1n, 0n, 0n, (1n << 50n) | 0x1en],
  ])("exit 59: %s", (_, controls, leaf, index, value) => {
    vmx.poke64(LIST, value);
    expect(start(functions(controls), leaf, index)).toEqual({ reason: 59, qualification: 0n });
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(3n);
    expect(vmx.read("GUEST_RIP")).toBe(START);
    expect(vmx.read("EPT_POINTER")).toBe(PML4 | 0x1en);
  });
  it("only EAX and ECX count", () => {
    identity(OTHER);
    vmx.poke64(LIST, OTHER | 0x1en);
    expect(start(functions(), 1n << 32n, 1n << 32n).reason).toBe(18);
    expect(vmx.read("EPT_POINTER")).toBe(OTHER | 0x1en);
  });
  it.each([
    ["function 64", functions(), 64n],
    ["control off", ept(), 0n],
  ] as const)("#UD: %s", (_, set, leaf) => {
    expect(start({ ...set, EXCEPTION_BITMAP: 0x40n }, leaf, 0n).reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000306n);
  });
  it("at CPL 3 as well", () => {
    const user: Fields = {
      GUEST_CS_SELECTOR: 0x13n,
      GUEST_CS_ACCESS_RIGHTS: 0xa0fbn,
      GUEST_SS_SELECTOR: 0x1bn,
      GUEST_SS_ACCESS_RIGHTS: 0xc0f3n,
    };
    identity(OTHER);
    vmx.poke64(LIST, OTHER | 0x1en);
    expect(start({ ...functions(), ...user }, 0n, 0n).reason).toBe(18);
    expect(vmx.read("EPT_POINTER")).toBe(OTHER | 0x1en);
  });
  it("INVEPT takes an EPT pointer with accessed and dirty flags", () => {
    expect(vmx.core.invept(1, PML4 | 0x5en)).toBe(VmxResult.Succeed);
  });
});
