// Rows of the opcode table that no model has: #UD, as on a processor whose CPUID lacks MMX, SSE, XSAVE, TSX, SMX and
// VM functions. @sdm 2A "Intel MMX Instructions", 2B, 2C: #UD without the feature.
import { describe, expect, it } from "vitest";
import { opcodeRows } from "../../scripts/opcodes.ts";
import { genericModel } from "../../src/index.ts";
import { CODE, DATA, World } from "../system/world.ts";

const PREFIX = [[], [0x66], [0xf3], [0xf2]];
const UNDEFINED_OPCODE = 6;

const rows = opcodeRows.filter((row) => row.handler === "ud");

/** With [ESI] or EDX as the operand. */
function code(row: (typeof rows)[number]): number[] {
  const mod = row.mod === "reg" ? 0xc2 : 6;
  const modrm = row.operands === "" && row.rm === undefined ? [] : [mod | ((row.digit ?? 0) << 3)];
  if (row.rm !== undefined) modrm[0] = 0xc0 | (row.digit! << 3) | row.rm;
  return [...PREFIX[row.prefixes?.[0] ?? 0]!, ...(row.map === "0f" ? [0x0f] : []), row.opcode, ...modrm, 0, 0];
}

describe.each(["protected", "long", "compatibility"] as const)("in %s mode", (kind) => {
  const w = new World(kind, 0, genericModel({ vmx: true }));
  const { registers } = w.machine;
  registers.rsi = BigInt(DATA);
  const start = registers.read();

  it.each(rows.map((row) => [`${row.mnemonic} ${row.opcode.toString(16)} ${row.digit ?? ""}`, row] as const))(
    "%s is #UD and changes nothing",
    (_name, row) => {
      registers.write({ rsp: start.rsp, rip: CODE, cs: start.cs, ss: start.ss, rflags: start.rflags });
      expect(w.run(code(row))).toMatchObject({ vector: UNDEFINED_OPCODE, rip: CODE });
      const { rip, rsp, rflags, cs, ss } = start;
      expect({ ...registers.read(), rip, rsp, rflags, cs, ss }).toEqual(start);
    },
  );
});
