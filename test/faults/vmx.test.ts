// VMX instructions with a memory operand in a page that is not present or read-only: the fault changes nothing.
import { expect, it } from "vitest";
import { opcodeRows } from "../../scripts/opcodes.ts";
import { genericModel } from "../../src/index.ts";
import { CODE, DATA, TABLES, World } from "../system/world.ts";

const PAGE_FAULT = 14;
const VMXON_REGION = 0x90000;
const VMCS = 0x91000;
const PT = TABLES + 0x3000;
const EDGE = DATA + 0x1000;
const WRITES = ["vmptrst", "vmread"];
const MEMORY = /^vm(?:on|xon|clear|ptrld|ptrst|read|write)$|^inv(?:ept|vpid)$/;
const rows = opcodeRows.filter((row) => MEMORY.test(row.mnemonic));
const PREFIX = [[], [0x66], [0xf3], [0xf2]];

/** Root operation (but for VMXON) with a current VMCS; RSI points at the operand, four bytes before the edge of two pages. */
function world(root: boolean): World {
  const w = new World("long", 0, genericModel({ vmx: true }));
  const { machine } = w;
  for (let i = 0; i < 512; i++) w.write64(PT + 8 * i, BigInt(i * 4096) | 7n);
  w.write64(TABLES + 0x2000, BigInt(PT) | 7n);
  machine.writeMsr(0x3a, 5n);
  const revision = Number(machine.readMsr(0x480)! & 0x7fffffffn);
  w.write32(VMXON_REGION, revision);
  w.write32(VMCS, revision);
  w.write64(DATA, BigInt(VMXON_REGION));
  w.write64(DATA + 8, BigInt(VMCS));
  machine.registers.write({ cr0: 0x80010031, cr4: 0x2020, rsi: DATA, rip: CODE });
  if (!root) {
    machine.registers.rsi = BigInt(EDGE - 4);
    w.write64(EDGE - 4, BigInt(VMXON_REGION));
    return w;
  }
  // vmxon [rsi]; vmclear [rsi + 8]; vmptrld [rsi + 8]
  w.run([0xf3, 0x0f, 0xc7, 0x36, 0x66, 0x0f, 0xc7, 0x76, 8, 0x0f, 0xc7, 0x76, 8], 3);
  expect(Number(machine.registers.rip)).toBe(CODE + 13);
  machine.registers.write({ rsi: EDGE - 4, rcx: 1, rdx: 0x4000, rip: CODE });
  w.write64(EDGE - 4, BigInt(VMCS));
  w.write64(EDGE + 4, 0n);
  return w;
}

/** With RCX, or RDX where it names a VMCS field, as the register operand. */
const code = (row: (typeof rows)[number]): number[] => [
  ...PREFIX[row.prefixes![0]!]!,
  0x0f,
  ...(row.map === "0f38" ? [0x38] : []),
  row.opcode,
  ((row.digit ?? (row.operands.includes("En") ? 2 : 1)) << 3) | 6,
];

it.each(rows.map((row) => [row.mnemonic, row] as const))("%s", (name, row) => {
  for (const [page, mask] of [
    [EDGE - 0x1000, 0n],
    [EDGE, 0n],
    [EDGE - 0x1000, 5n],
    [EDGE, 5n],
  ] as const) {
    const w = world(name !== "vmxon");
    const { machine } = w;
    w.write64(PT + (page / 4096) * 8, BigInt(page) | mask);
    const before = machine.registers.read();
    const memory = machine.readMemory(DATA, 0x20000);
    const outcome = w.run(code(row));
    if (mask && !WRITES.includes(name)) {
      expect(outcome.vector).toBe("none");
      continue;
    }
    expect(outcome).toMatchObject({ vector: PAGE_FAULT, rip: CODE, error: WRITES.includes(name) ? (mask ? 3 : 2) : 0 });
    const { cr2, ...after } = machine.registers.read();
    expect(Number(cr2) >> 12).toBe(page >> 12);
    const { rip, rsp, rflags, cs, ss } = before;
    // SS of the frame is loaded again by IRET
    expect({ ...after, rip, rsp, rflags, cs, ss }).toEqual({ ...before, cr2: undefined });
    expect(outcome.flags! & ~0x10000).toBe(Number(rflags));
    expect(Buffer.from(machine.readMemory(DATA, 0x20000)).equals(Buffer.from(memory))).toBe(true);
  }
});

it("all rows with a memory operand are here", () => {
  expect(rows.map((row) => row.mnemonic).sort()).toEqual(
    ["invept", "invvpid", "vmclear", "vmptrld", "vmptrst", "vmread", "vmwrite", "vmxon"].sort(),
  );
});
