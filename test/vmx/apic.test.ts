// APIC virtualization: TPR shadow, APIC-access page, x2APIC mode, register virtualization, virtual interrupts, posted
// interrupts. SDM 3C "APIC Virtualization and Virtual Interrupts".
import { beforeEach, describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { RunCode } from "../../assembly/abi/run.ts";
import { ACTIVITY, COUNT, EXTRA, STOP } from "../../assembly/abi/state.ts";
import type { Fields } from "./guests.ts";
import { HANDLER, IDT, RAX, RBX, RCX, RDX, Running, START, u32, VMCALL } from "./running.ts";

const vmx = new Running();
const VAPIC = 0x11000n;
const APIC_PAGE = 0x12000n;
const DESCRIPTOR = 0x13040n;
const NOTIFICATION = 0xf2;

const SECOND = u32(c.PRIMARY_REQUIRED, c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS);
const shadow = (threshold = 0n, more = 0): Fields => ({
  PRIMARY_PROC_BASED_CONTROLS: SECOND | u32(c.PRIMARY_USE_TPR_SHADOW, more),
  SECONDARY_PROC_BASED_CONTROLS: 0n,
  VIRTUAL_APIC_ADDRESS: VAPIC,
  TPR_THRESHOLD: threshold,
});
const secondary = (...bits: number[]): Fields => ({
  ...shadow(),
  SECONDARY_PROC_BASED_CONTROLS: u32(...bits),
  APIC_ACCESS_ADDRESS: APIC_PAGE,
});
const ACCESSES = c.SECONDARY_VIRTUALIZE_APIC_ACCESSES;
const REGISTERS = c.SECONDARY_APIC_REGISTER_VIRTUALIZATION;
const DELIVERY = c.SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
const X2APIC = c.SECONDARY_VIRTUALIZE_X2APIC_MODE;
const delivery = (...more: number[]): Fields => ({
  ...secondary(DELIVERY, ...more),
  PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_EXTERNAL_INTERRUPT_EXITING),
  GUEST_INTERRUPT_STATUS: 0n,
});
const posted = (): Fields => ({
  ...delivery(),
  PIN_BASED_CONTROLS: u32(c.PIN_REQUIRED, c.PIN_EXTERNAL_INTERRUPT_EXITING, c.PIN_PROCESS_POSTED_INTERRUPTS),
  PRIMARY_EXIT_CONTROLS: u32(c.EXIT_REQUIRED, c.EXIT_HOST_ADDRESS_SPACE_SIZE, c.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT),
  POSTED_INTERRUPT_NOTIFICATION_VECTOR: BigInt(NOTIFICATION),
  POSTED_INTERRUPT_DESCRIPTOR_ADDRESS: DESCRIPTOR,
});

const register = (offset: number) => vmx.read32(vmx.host(VAPIC + BigInt(offset)));
const setRegister = (offset: number, value: number) => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  vmx.poke(VAPIC + BigInt(offset), bytes);
};
/** Vectors set in ISR (100H) or IRR (200H). */
function vectors(base: number): number[] {
  const found = [];
  for (let v = 0; v < 256; v++) if ((register(base + (v >> 5) * 16) >>> (v & 31)) & 1) found.push(v);
  return found;
}
const request = (vector: number) =>
  setRegister(0x200 + (vector >> 5) * 16, register(0x200 + (vector >> 5) * 16) | (1 << (vector & 31)));
const ISR = 0x100;
const IRR = 0x200;
const TPR = 0x80;
const PPR = 0xa0;

beforeEach(() => {
  vmx.fresh();
  vmx.write32(ACTIVITY, 0);
});

describe("TPR shadow", () => {
  const TO_CR8 = [0x44, 0x0f, 0x22, 0xc0]; // mov cr8, rax
  const FROM_CR8 = [0x44, 0x0f, 0x20, 0xc3]; // mov rbx, cr8
  const cr8 = (set: Fields, value: bigint, code = TO_CR8) => {
    vmx.start(code, set, { [RAX]: value, [RBX]: 0x55n });
    return vmx.runToExit();
  };

  it("MOV to CR8 writes VTPR[7:4] and clears the rest", () => {
    setRegister(TPR, 0xffffffff);
    expect(cr8(shadow(), 7n).reason).toBe(18);
    expect(register(TPR)).toBe(0x70);
  });
  it("MOV from CR8 reads VTPR[7:4]", () => {
    setRegister(TPR, 0xa5);
    expect(cr8(shadow(), 0n, FROM_CR8).reason).toBe(18);
    expect(vmx.gpr(RBX)).toBe(10n);
  });
  it("bits above 3 are #GP(0), VTPR stays", () => {
    setRegister(TPR, 0x50);
    expect(cr8({ ...shadow(), EXCEPTION_BITMAP: 0x2000n }, 0x10n).reason).toBe(0);
    expect(register(TPR)).toBe(0x50);
  });
  it("CR8-load and CR8-store exiting go before", () => {
    setRegister(TPR, 0x50);
    expect(cr8(shadow(0n, c.PRIMARY_CR8_LOAD_EXITING), 1n)).toEqual({ reason: 28, qualification: 8n });
    expect(register(TPR)).toBe(0x50);
    vmx.fresh();
    expect(cr8(shadow(0n, c.PRIMARY_CR8_STORE_EXITING), 1n, FROM_CR8)).toEqual({ reason: 28, qualification: 0x318n });
  });
  it("without it CR8 is the processor's", () => {
    expect(cr8({}, 3n, [...TO_CR8, ...FROM_CR8]).reason).toBe(18);
    expect(vmx.gpr(RBX)).toBe(3n);
  });
  it("below the threshold: trap-like exit 43 after the instruction", () => {
    setRegister(TPR, 0x80);
    const before = vmx.read64(COUNT);
    expect(cr8(shadow(8n), 7n)).toEqual({ reason: 43, qualification: 0n });
    expect(vmx.read("GUEST_RIP")).toBe(START + 4n);
    expect(vmx.read64(COUNT) - before).toBe(1n);
    expect(register(TPR)).toBe(0x70);
    expect(vmx.read("EXIT_INSTRUCTION_LENGTH")).toBe(0n);
  });
  it("at the threshold: none", () => {
    setRegister(TPR, 0x80);
    expect(cr8(shadow(8n), 8n).reason).toBe(18);
  });
  it("the exit keeps the single-step trap pending", () => {
    setRegister(TPR, 0x80);
    expect(cr8({ ...shadow(8n), GUEST_RFLAGS: 0x102n }, 0n).reason).toBe(43);
    expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(0x4000n);
  });
  it("goes before the monitor trap flag", () => {
    setRegister(TPR, 0x80);
    expect(cr8(shadow(8n, c.PRIMARY_MONITOR_TRAP_FLAG), 0n).reason).toBe(43);
  });

  describe("at VM entry, with virtualize APIC accesses", () => {
    const set = (): Fields => ({ ...secondary(ACCESSES), TPR_THRESHOLD: 5n });
    it("exits before the first instruction", () => {
      setRegister(TPR, 0x40);
      const before = vmx.read64(COUNT);
      expect(cr8(set(), 0n, [0x90]).reason).toBe(43);
      expect([vmx.read("GUEST_RIP"), vmx.read64(COUNT) - before]).toEqual([START, 0n]);
    });
    it("not when VTPR is high enough", () => {
      setRegister(TPR, 0x50);
      expect(cr8(set(), 0n, [0x90]).reason).toBe(18);
    });
    it("after the delivery of an injected event", () => {
      expect(cr8({ ...set(), ENTRY_INTERRUPTION_INFO: 0x80000306n }, 0n, [0x90]).reason).toBe(43);
      expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 0x60n);
    });
    it("wakes from HLT, but not from shutdown", () => {
      expect(cr8({ ...set(), GUEST_ACTIVITY_STATE: 1n }, 0n, [0x90]).reason).toBe(43);
      expect(vmx.read("GUEST_ACTIVITY_STATE")).toBe(1n);
      vmx.write("GUEST_ACTIVITY_STATE", 2n);
      expect(vmx.enter(false).entered).toBe(true);
      expect(vmx.core.run(100n, 1000n)).toBe(RunCode.Shutdown);
    });
    it("whatever IF and blocking are; pending debug exceptions stay pending", () => {
      const blocked = { GUEST_INTERRUPTIBILITY_STATE: 2n, GUEST_PENDING_DEBUG_EXCEPTIONS: 1n };
      expect(cr8({ ...set(), ...blocked }, 0n, [0x90]).reason).toBe(43);
      expect(vmx.read("GUEST_PENDING_DEBUG_EXCEPTIONS")).toBe(1n);
    });
  });
});

describe("APIC-access page", () => {
  // [rbx] is the page; the operand is at +disp32
  const at = (opcode: number[], modrm: number, offset: number, immediate: number[] = []) => [
    ...opcode,
    modrm,
    offset & 255,
    offset >> 8,
    0,
    0,
    ...immediate,
  ];
  const load32 = (offset: number) => at([0x8b], 0x83, offset);
  const load8 = (offset: number) => at([0x8a], 0x83, offset);
  const load16 = (offset: number) => at([0x66, 0x8b], 0x83, offset);
  const load64 = (offset: number) => at([0x48, 0x8b], 0x83, offset);
  const store32 = (offset: number) => at([0x89], 0x83, offset);
  const store64 = (offset: number) => at([0x48, 0x89], 0x83, offset);
  const access = (code: number[], set: Fields, value = 0x1234_5678n) => {
    vmx.start(code, set, { [RBX]: APIC_PAGE, [RAX]: value });
    return vmx.runToExit();
  };
  const exit44 = (type: number, offset: number) => ({ reason: 44, qualification: BigInt((type << 12) | offset) });

  describe("without TPR shadow every access exits", () => {
    const set: Fields = {
      PRIMARY_PROC_BASED_CONTROLS: SECOND,
      SECONDARY_PROC_BASED_CONTROLS: u32(ACCESSES),
      APIC_ACCESS_ADDRESS: APIC_PAGE,
    };
    it.each([
      ["read", load32(TPR), exit44(0, TPR)],
      ["write", store32(TPR), exit44(1, TPR)],
      ["read of an odd byte", load8(0xfff), exit44(0, 0xfff)],
      ["PUSH", [0x53], exit44(1, 0xff8)],
      // the read of a read-modify-write comes first; Bochs answers alike (hypervisor-edges)
      ["OR to memory", at([0x83], 0x8b, 0x20, [1]), exit44(0, 0x20)],
      ["LOCK INC", at([0xf0, 0xff], 0x83, 0x30), exit44(0, 0x30)],
      ["XCHG", at([0x87], 0x83, 0x40), exit44(0, 0x40)],
      ["CMPXCHG", at([0x0f, 0xb1], 0x8b, 0x50), exit44(0, 0x50)],
      ["BTS", at([0x0f, 0xba], 0xab, 0x70, [3]), exit44(0, 0x70)],
    ] as const)("%s", (name, code, want) => {
      const stack: Fields = name === "PUSH" ? { GUEST_RSP: APIC_PAGE + 0x1000n } : {};
      expect(access([...code], { ...set, ...stack })).toEqual(want);
      expect(vmx.read("GUEST_RIP")).toBe(START);
      expect(vmx.read("GUEST_RFLAGS") & 0x10000n).toBe(0x10000n);
      expect(vmx.read("IDT_VECTORING_INFO")).toBe(0n);
    });
    it("fetch", () => {
      expect(access([0xff, 0xe3], set)).toEqual(exit44(2, 0));
      expect(vmx.read("GUEST_RIP")).toBe(APIC_PAGE);
    });
    it("during event delivery", () => {
      expect(access([0x0f, 0x0b], { ...set, GUEST_RSP: APIC_PAGE + 0x800n })).toMatchObject({ reason: 44 });
      expect(vmx.read("EXIT_QUALIFICATION") >> 12n).toBe(3n);
      expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000306n);
    });
    it("the host reaches the page", () => {
      vmx.poke64(APIC_PAGE + 0x80n, 0x99n);
      expect(access(load32(TPR), { ...set, SECONDARY_PROC_BASED_CONTROLS: 0n }).reason).toBe(18);
      expect(vmx.gpr(RAX)).toBe(0x99n);
      vmx.write("SECONDARY_PROC_BASED_CONTROLS", u32(ACCESSES));
      vmx.write("GUEST_RIP", START);
      vmx.enter(false);
      expect(vmx.runToExit()).toEqual(exit44(0, TPR));
    });
    it("another APIC-access address counts at once", () => {
      expect(access([...load32(0x1080)], set).reason).toBe(18);
      vmx.write("APIC_ACCESS_ADDRESS", APIC_PAGE + 0x1000n);
      vmx.write("GUEST_RIP", START);
      vmx.enter(false);
      vmx.setGpr(RBX, APIC_PAGE);
      expect(vmx.runToExit()).toEqual(exit44(0, TPR));
    });
  });

  describe("with TPR shadow", () => {
    const set = secondary(ACCESSES);
    it("TPR is read from and written to the virtual-APIC page", () => {
      setRegister(TPR, 0x30);
      expect(access([...load32(TPR), 0x89, 0xc2, ...at([0xc7], 0x83, TPR, [0x4f, 1, 2, 3])], set).reason).toBe(18);
      expect(vmx.gpr(RDX)).toBe(0x30n);
      // bytes 3:1 are cleared
      expect(register(TPR)).toBe(0x4f);
      expect(vmx.read32(vmx.host(APIC_PAGE + 0x80n))).toBe(0);
    });
    it("read-modify-write of TPR", () => {
      setRegister(TPR, 0x30);
      expect(access(at([0x83], 0x8b, TPR, [0x41]), set).reason).toBe(18); // or dword [rbx+80h], 41h
      expect(register(TPR)).toBe(0x71);
    });
    it.each([
      ["read of another register", load32(0x20), 0, 0x20],
      ["write of another register", store32(0xb0), 1, 0xb0],
      ["64-bit read", load64(TPR), 0, TPR],
      ["64-bit write", store64(TPR), 1, TPR],
      ["read across the low four bytes", load16(TPR + 3), 0, TPR + 3],
      ["read of the upper bytes", load8(TPR + 4), 0, TPR + 4],
      ["byte 1 of TPR", load8(TPR + 1), 0, TPR + 1],
    ] as const)("exit 44: %s", (_, code, type, offset) => {
      expect(access([...code], set)).toEqual(exit44(type, offset));
    });
    it("a store that drops TPR below the threshold exits after the instruction", () => {
      setRegister(TPR, 0x80);
      expect(access(store32(TPR), { ...set, TPR_THRESHOLD: 8n }, 0x7fn)).toEqual({ reason: 43, qualification: 0n });
      expect(vmx.read("GUEST_RIP")).toBe(START + 6n);
      expect(register(TPR)).toBe(0x7f);
    });
    it("only the first of two writes of an instruction is virtualized", () => {
      // movs dword: read and write of TPR, which the read must not follow
      const code = [0xa5];
      vmx.start(code, set, { [6]: APIC_PAGE + 0x80n, [7]: APIC_PAGE + 0x90n });
      expect(vmx.runToExit()).toEqual(exit44(1, 0x90));
    });
    it("REP STOS stops at each virtualized write", () => {
      setRegister(TPR, 0xf0);
      vmx.start([0xf3, 0xab], { ...set, TPR_THRESHOLD: 8n }, { [7]: APIC_PAGE + 0x80n, [RCX]: 3n, [RAX]: 0x40n });
      expect(vmx.runToExit().reason).toBe(43);
      expect(vmx.gpr(RCX)).toBe(2n);
      expect(vmx.read("GUEST_RIP")).toBe(START);
      expect(vmx.enter(false).entered).toBe(true);
    });
  });

  describe("APIC-register virtualization", () => {
    const set = secondary(ACCESSES, REGISTERS);
    const READABLE = [
      0x20, 0x30, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380,
      0x3e0,
    ];
    for (let offset = 0x100; offset < 0x280; offset += 16) READABLE.push(offset);
    const WRITABLE = [
      0x20, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0,
    ];
    const all = Array.from({ length: 0x50 }, (_, i) => i * 16);

    it("reads", () => {
      for (const offset of all) {
        vmx.fresh();
        setRegister(offset, 0xabc00000 + offset);
        const got = access(load32(offset), set);
        if (!READABLE.includes(offset)) expect(got, offset.toString(16)).toEqual(exit44(0, offset));
        else {
          expect(got.reason, offset.toString(16)).toBe(18);
          expect(vmx.gpr(RAX)).toBe(BigInt(0xabc00000 + offset));
        }
      }
    });
    it("writes: exit 56 after the instruction, but for TPR and ICR-high", () => {
      for (const offset of all) {
        vmx.fresh();
        const got = access(store32(offset), set);
        const name = offset.toString(16);
        if (!WRITABLE.includes(offset)) expect(got, name).toEqual(exit44(1, offset));
        else if (offset === TPR || offset === 0x310) expect(got.reason, name).toBe(18);
        else {
          expect(got, name).toEqual({ reason: 56, qualification: BigInt(offset) });
          expect(vmx.read("GUEST_RIP")).toBe(START + 6n);
          expect(register(offset)).toBe(0x12345678);
        }
      }
    });
    it("a read-modify-write reads, then writes: each is virtualized or exits", () => {
      const cases: [number, { reason: number; qualification: bigint }][] = [
        [0x100, exit44(1, 0x100)], // read-only
        [0x90, exit44(0, 0x90)],
        [0x320, { reason: 56, qualification: 0x320n }],
      ];
      for (const [offset, want] of cases) {
        vmx.fresh();
        setRegister(offset, 0x10);
        expect(access(at([0x81], 0x8b, offset, [1, 0, 0, 0]), set), offset.toString(16)).toEqual(want); // or dword
        expect(register(offset)).toBe(want.reason === 56 ? 0x11 : 0x10);
      }
    });
    it("ICR-high keeps its upper byte", () => {
      access(store32(0x310), set);
      expect(register(0x310)).toBe(0x12000000);
    });
    it("parts of a register", () => {
      setRegister(0x20, 0x11223344);
      expect(access(load8(0x23), set).reason).toBe(18);
      expect(vmx.gpr(RAX) & 0xffn).toBe(0x11n);
    });
    it("a fault of a later part drops the write", () => {
      // the next instruction runs as if nothing had been written
      expect(access([...at([0xc7], 0x83, 0x90, [1, 0, 0, 0])], set)).toEqual(exit44(1, 0x90));
      expect(register(0x90)).toBe(0);
    });
  });

  describe("through EPT", () => {
    const PML4 = 0x16000n;
    const set = (): Fields => ({
      ...secondary(ACCESSES, c.SECONDARY_ENABLE_EPT),
      EPT_POINTER: PML4 | 0x1en,
    });
    beforeEach(() => {
      vmx.poke64(PML4, (PML4 + 0x1000n) | 7n);
      vmx.poke64(PML4 + 0x1000n, 0xb7n);
    });
    it("the address is the one after translation", () => {
      setRegister(TPR, 0x20);
      expect(access(load32(TPR), set()).reason).toBe(18);
      expect(vmx.gpr(RAX)).toBe(0x20n);
    });
    it("a guest paging structure on the page: type 15, 10 during delivery", () => {
      // the PDPT
      expect(access([0x90], { ...set(), APIC_ACCESS_ADDRESS: 0xa000n })).toMatchObject({ reason: 44 });
      expect(vmx.read("EXIT_QUALIFICATION") >> 12n).toBe(15n);
      vmx.write("ENTRY_INTERRUPTION_INFO", 0x80000306n);
      vmx.enter(false);
      expect(vmx.runToExit().qualification >> 12n).toBe(10n);
      expect(vmx.read("IDT_VECTORING_INFO")).toBe(0x80000306n);
    });
  });
});

describe("virtualize x2APIC mode", () => {
  const RDMSR = [0x0f, 0x32];
  const WRMSR = [0x0f, 0x30];
  /** The bitmap page lets every MSR through. */
  const open = (set: Fields): Fields => ({
    ...set,
    PRIMARY_PROC_BASED_CONTROLS: set.PRIMARY_PROC_BASED_CONTROLS! | u32(c.PRIMARY_USE_MSR_BITMAPS),
    MSR_BITMAP_ADDRESS: 0x15000n,
    EXCEPTION_BITMAP: 0x2000n,
  });
  const msr = (code: number[], index: number, set: Fields, low = 0n, high = 0n) => {
    vmx.start(code, open(set), { [RCX]: BigInt(index), [RAX]: low, [RDX]: high });
    return vmx.runToExit();
  };
  const GP = 0x80000b0dn;

  it("RDMSR 808H reads VTPR, others are not virtual", () => {
    setRegister(TPR, 0x61);
    setRegister(TPR + 4, 0x77);
    expect(msr(RDMSR, 0x808, secondary(X2APIC)).reason).toBe(18);
    expect([vmx.gpr(RAX), vmx.gpr(RDX)]).toEqual([0x61n, 0x77n]);
    vmx.fresh();
    expect(msr(RDMSR, 0x802, secondary(X2APIC)).reason).toBe(0);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(GP);
  });
  it("with APIC-register virtualization every RDMSR of 800H-8FFH reads the page", () => {
    for (const index of [0x800, 0x802, 0x830, 0x83f, 0x8ff]) {
      vmx.fresh();
      setRegister((index & 0xff) << 4, index);
      setRegister(((index & 0xff) << 4) + 4, ~index);
      expect(msr(RDMSR, index, secondary(X2APIC, REGISTERS)).reason).toBe(18);
      expect([vmx.gpr(RAX), vmx.gpr(RDX)]).toEqual([BigInt(index), BigInt(~index >>> 0)]);
    }
  });
  it("the MSR bitmap goes before", () => {
    vmx.poke(0x15000n + 0x101n, [1]);
    expect(msr(RDMSR, 0x808, secondary(X2APIC)).reason).toBe(31);
  });
  it("WRMSR 808H writes VTPR; reserved bits are #GP(0)", () => {
    expect(msr(WRMSR, 0x808, secondary(X2APIC), 0x93n).reason).toBe(18);
    expect(register(TPR)).toBe(0x93);
    for (const [low, high] of [
      [0x100n, 0n],
      [0n, 1n],
    ] as const) {
      vmx.fresh();
      expect(msr(WRMSR, 0x808, secondary(X2APIC), low, high).reason).toBe(0);
      expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(GP);
      expect(register(TPR)).toBe(0);
    }
  });
  it("WRMSR 808H below the threshold: exit 43 after it", () => {
    setRegister(TPR, 0x80);
    expect(msr(WRMSR, 0x808, { ...secondary(X2APIC), TPR_THRESHOLD: 8n }, 0x10n).reason).toBe(43);
    expect(vmx.read("GUEST_RIP")).toBe(START + 2n);
  });
  it("WRMSR 80BH and 83FH are virtual with virtual-interrupt delivery only", () => {
    for (const index of [0x80b, 0x83f]) {
      vmx.fresh();
      expect(msr(WRMSR, index, secondary(X2APIC)).reason).toBe(0);
      expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(GP);
    }
  });
  it("WRMSR 80BH is an EOI, 0 only", () => {
    setRegister(ISR + 16, 1 << 3); // 35
    setRegister(ISR + 32, 1 << 1); // 65
    const set = { ...delivery(X2APIC), GUEST_INTERRUPT_STATUS: 65n << 8n };
    expect(msr(WRMSR, 0x80b, set).reason).toBe(18);
    expect(vectors(ISR)).toEqual([35]);
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(35n << 8n);
    expect(register(PPR)).toBe(0x20);
    vmx.fresh();
    expect(msr(WRMSR, 0x80b, set, 1n).reason).toBe(0);
  });
  it("WRMSR 83FH is a self-IPI; vectors below 16 exit with 56", () => {
    expect(msr(WRMSR, 0x83f, delivery(X2APIC), 0x41n).reason).toBe(18);
    expect(vectors(IRR)).toEqual([0x41]);
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x41n);
    vmx.fresh();
    expect(msr(WRMSR, 0x83f, delivery(X2APIC), 0x0fn)).toEqual({ reason: 56, qualification: 0x3f0n });
    expect(vmx.read("GUEST_RIP")).toBe(START + 2n);
    expect(register(0x3f0)).toBe(0x0f);
    vmx.fresh();
    expect(msr(WRMSR, 0x83f, delivery(X2APIC), 0x141n).reason).toBe(0);
  });
});

describe("virtual-interrupt delivery", () => {
  const STI_NOP = [0xfb, 0x90, 0x90];
  const VECTOR = 0x31;
  const target = (vector: number) => HANDLER + 16n * BigInt(vector);
  const pending = (status: bigint, more: Fields = {}): Fields => ({
    ...delivery(),
    GUEST_INTERRUPT_STATUS: status,
    GUEST_RFLAGS: 0x202n,
    ...more,
  });

  it("an interrupt requested at VM entry is delivered before the first instruction", () => {
    request(VECTOR);
    request(0x22);
    vmx.start([0x90], pending(BigInt(VECTOR)));
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(target(VECTOR));
    expect(vmx.stack(1)).toEqual([START]);
    expect(vectors(ISR)).toEqual([VECTOR]);
    expect(vectors(IRR)).toEqual([0x22]);
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(BigInt((VECTOR << 8) | 0x22));
    expect(register(PPR)).toBe(0x30);
    // an interrupt gate cleared IF; no exit saw it
    expect(vmx.read("GUEST_RFLAGS") & 0x200n).toBe(0n);
  });
  it("VM entry virtualizes PPR", () => {
    setRegister(TPR, 0x45);
    vmx.start([0x90], pending(0x3100n));
    expect(register(PPR)).toBe(0x45);
    vmx.runToExit();
    vmx.write("GUEST_INTERRUPT_STATUS", 0x7100n);
    vmx.enter(false);
    expect(register(PPR)).toBe(0x70);
  });
  it("PPR holds back its class and those below", () => {
    request(VECTOR);
    setRegister(TPR, 0x30);
    vmx.start([0x90], pending(BigInt(VECTOR)));
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
    expect(vectors(IRR)).toEqual([VECTOR]);
  });
  it("IF = 0 holds it back, STI for one instruction more", () => {
    request(VECTOR);
    vmx.start(STI_NOP, pending(BigInt(VECTOR), { GUEST_RFLAGS: 2n }));
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(target(VECTOR));
    expect(vmx.stack(1)).toEqual([START + 2n]);
  });
  it("wakes from HLT", () => {
    request(VECTOR);
    vmx.start([0x90], pending(BigInt(VECTOR), { GUEST_ACTIVITY_STATE: 1n }));
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(target(VECTOR));
  });
  it("interrupt-window exiting: exit 7 instead", () => {
    request(VECTOR);
    const set = pending(BigInt(VECTOR));
    set.PRIMARY_PROC_BASED_CONTROLS! |= u32(c.PRIMARY_INTERRUPT_WINDOW_EXITING);
    vmx.start([0x90], set);
    expect(vmx.runToExit().reason).toBe(7);
    expect(vectors(IRR)).toEqual([VECTOR]);
  });
  it("goes before an external interrupt, after an NMI", () => {
    request(VECTOR);
    vmx.start([0x90], pending(BigInt(VECTOR)));
    vmx.core.raiseInterrupt(0x40);
    expect(vmx.runToExit().reason).toBe(1);
    expect(vmx.read("GUEST_RIP")).toBe(target(VECTOR));
    vmx.core.raiseInterrupt(-1);
    vmx.fresh();
    request(VECTOR);
    vmx.start([0x90], pending(BigInt(VECTOR)));
    vmx.core.raiseNmi();
    vmx.code([0x90, ...VMCALL], target(2));
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(target(2) + 1n);
    expect(vectors(IRR)).toEqual([VECTOR]);
  });
  it("lowering TPR lets it in", () => {
    request(VECTOR);
    setRegister(TPR, 0x40);
    vmx.start([0x44, 0x0f, 0x22, 0xc0, 0x90], pending(BigInt(VECTOR)), { [RAX]: 2n });
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(target(VECTOR));
    expect(vmx.stack(1)).toEqual([START + 4n]);
  });
  it("an exit during the delivery reports an external interrupt", () => {
    request(VECTOR);
    vmx.gate(VECTOR, 0n, false);
    vmx.start([0x90], pending(BigInt(VECTOR), { EXCEPTION_BITMAP: 1n << 11n }));
    expect(vmx.runToExit().reason).toBe(0);
    expect(vmx.read("IDT_VECTORING_INFO")).toBe(BigInt((0x80000000 | VECTOR) >>> 0));
    expect(vmx.read("EXIT_INTERRUPTION_ERROR_CODE")).toBe(BigInt(VECTOR * 8 + 3));
    expect(vectors(ISR)).toEqual([VECTOR]);
  });

  describe("EOI through the APIC-access page", () => {
    const EOI = [0xc7, 0x83, 0xb0, 0, 0, 0, 0, 0, 0, 0]; // mov dword [rbx+0b0h], 0
    const set = (bitmaps: Fields = {}, more: Fields = {}): Fields => ({
      ...delivery(ACCESSES),
      EOI_EXIT_BITMAP_0: 0n,
      EOI_EXIT_BITMAP_1: 0n,
      EOI_EXIT_BITMAP_2: 0n,
      EOI_EXIT_BITMAP_3: 0n,
      GUEST_INTERRUPT_STATUS: 0x9100n,
      ...bitmaps,
      ...more,
    });
    const eoi = (fields: Fields) => {
      setRegister(ISR + 4 * 16, 1 << 17); // 91H
      setRegister(ISR + 16, 1 << 2); // 22H
      vmx.start(EOI, fields, { [RBX]: APIC_PAGE });
      return vmx.runToExit();
    };
    it("clears the highest vector in service", () => {
      expect(eoi(set()).reason).toBe(18);
      expect(vectors(ISR)).toEqual([0x22]);
      expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x2200n);
      expect(register(PPR)).toBe(0x20);
      expect(register(0xb0)).toBe(0);
    });
    it("exit 45 for vectors of the bitmap, after the instruction", () => {
      expect(eoi(set({ EOI_EXIT_BITMAP_2: 1n << 17n }))).toEqual({ reason: 45, qualification: 0x91n });
      expect(vmx.read("GUEST_RIP")).toBe(START + 10n);
      expect(vectors(ISR)).toEqual([0x22]);
    });
    it("lets the next interrupt in", () => {
      request(0x31);
      eoi(set({}, { GUEST_INTERRUPT_STATUS: 0x9131n, GUEST_RFLAGS: 0x202n }));
      expect(vmx.read("GUEST_RIP")).toBe(target(0x31));
      expect(vectors(ISR)).toEqual([0x22, 0x31]);
    });
  });

  describe("self-IPI through ICR-low", () => {
    const send = (icr: number, set = delivery(ACCESSES)) => {
      vmx.start([0x89, 0x83, 0, 3, 0, 0], set, { [RBX]: APIC_PAGE, [RAX]: BigInt(icr) }); // mov [rbx+300h], eax
      return vmx.runToExit();
    };
    it("fixed, edge, to self", () => {
      expect(send(0x44031).reason).toBe(18);
      expect(vectors(IRR)).toEqual([0x31]);
      expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x31n);
    });
    it.each([
      ["no shorthand", 0x31],
      ["all including self", 0x80031],
      ["all but self", 0xc0031],
      ["level-triggered", 0x48031],
      ["NMI", 0x40431],
      ["delivery status", 0x41031],
      ["reserved bit 13", 0x42031],
      ["reserved bit 31", 0x80040031],
      ["vector 15", 0x4000f],
    ])("exit 56: %s", (_, icr) => {
      expect(send(icr >>> 0)).toEqual({ reason: 56, qualification: 0x300n });
      expect(vectors(IRR)).toEqual([]);
      expect(register(0x300)).toBe(icr >>> 0);
    });
    it("without virtual-interrupt delivery: exit 44", () => {
      expect(send(0x44031, secondary(ACCESSES)).reason).toBe(44);
    });
  });
});

describe("posted interrupts", () => {
  const pir = (vector: number) => vmx.poke(DESCRIPTOR + BigInt(vector >> 3), [1 << (vector & 7)]);
  const notify = () => {
    vmx.poke(DESCRIPTOR + 32n, [1]); // ON
    vmx.core.raiseInterrupt(NOTIFICATION);
  };
  it("the notification moves PIR to VIRR and the interrupt is delivered, without an exit", () => {
    pir(0x31);
    pir(0x22);
    vmx.start([0x90], { ...posted(), GUEST_RFLAGS: 0x202n });
    notify();
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 16n * 0x31n);
    expect(vectors(ISR)).toEqual([0x31]);
    expect(vectors(IRR)).toEqual([0x22]);
    expect(vmx.peek64(DESCRIPTOR)).toBe(0n);
    expect(vmx.peek64(DESCRIPTOR + 32n)).toBe(0n);
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x3122n);
  });
  it("with IF = 0 it is processed all the same", () => {
    pir(0x31);
    vmx.start([0x90], posted());
    notify();
    vmx.runToExit();
    expect(vmx.read("GUEST_RIP")).toBe(START + 1n);
    expect(vectors(IRR)).toEqual([0x31]);
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x31n);
  });
  it("the other bits of the descriptor stay", () => {
    vmx.poke64(DESCRIPTOR + 32n, 0xffff_ffff_ffff_fffen);
    vmx.start([0x90], posted());
    notify();
    vmx.poke64(DESCRIPTOR + 32n, 0xffff_ffff_ffff_ffffn);
    vmx.runToExit();
    expect(vmx.peek64(DESCRIPTOR + 32n)).toBe(0xffff_ffff_ffff_fffen);
  });
  it("RVI does not fall", () => {
    pir(0x22);
    setRegister(TPR, 0xf0);
    vmx.start([0x90], { ...posted(), GUEST_INTERRUPT_STATUS: 0x50n });
    notify();
    vmx.runToExit();
    expect(vmx.read("GUEST_INTERRUPT_STATUS")).toBe(0x50n);
  });
  it("wakes from HLT", () => {
    pir(0x31);
    vmx.start([0xf4], { ...posted(), GUEST_RFLAGS: 0x202n });
    expect(vmx.core.run(100n, 1000n)).toBe(RunCode.Halt);
    notify();
    vmx.write32(EXTRA, 1);
    expect(vmx.runToExit().reason).toBe(18);
    expect(vmx.read("GUEST_RIP")).toBe(HANDLER + 16n * 0x31n);
    expect(vmx.stack(1)).toEqual([START + 1n]);
  });
  it("another vector exits with it acknowledged", () => {
    vmx.start([0x90], { ...posted(), GUEST_RFLAGS: 0x202n });
    vmx.core.raiseInterrupt(0x40);
    expect(vmx.runToExit().reason).toBe(1);
    expect(vmx.read("EXIT_INTERRUPTION_INFO")).toBe(0x80000040n);
    expect(vmx.read32(STOP)).toBe(0);
    expect(vmx.peek64(IDT)).not.toBe(0n);
  });
});
