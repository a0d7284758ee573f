/**
 * The one opcode table. `npm run generate` derives the decoder's table, the dispatch switch, the disassembler's table and
 * docs/instructions.md from it.
 *
 * A row: place (opcodes/row.ts), mnemonic, SDM-style operands, handler, attributes.
 *
 * mnemonic   `a|b|c`: by operand size 16, 32, 64 bits.
 * operands   SDM letters: E rm, G reg, R rm that is a register, M rm that is memory, B VEX.vvvv, Z opcode register,
 *            I immediate, J branch, O moffs, A far pointer, S segment register, C and D control and debug register;
 *            b byte, w word, d doubleword, q quadword, v operand size, z 16 or 32, y 32 or 64, u likewise beside an
 *            operand that 66 makes smaller, n 32 or 64 by mode, bs sign-extended byte, p far pointer, l address alone,
 *            s descriptor-table pseudo-descriptor, o 128 bits; RvMw: a register of operand size or a word in memory;
 *            XL the byte of XLAT.
 * handler    `family:member` names a member of an operation family; `name<T>` gets the operand size as type argument;
 *            `name` is called once for all sizes and reads R_SIZE; `ud` raises #UD: an instruction that no model has.
 * attributes lock: LOCK is legal with a memory destination;  ends: ends the block;  d64: 64-bit operands by default in
 *            64-bit mode;  f64: always;  no64, only64: invalid / valid only there;  noq: never 64 bits;
 *            natural: 32 or 64 bits by mode alone;  a CPUID feature: #UD without it;  else: without the feature the
 *            prefix is ignored.
 */
import "./opcodes/one-byte.ts";
import "./opcodes/two-byte.ts";
import "./opcodes/system.ts";
import "./opcodes/extended.ts";

export {
  FEATURES,
  type Feature,
  type OpcodeMap,
  type OpcodeRow,
  opcodeRows,
  UNDEFINED_WITH_MODRM,
} from "./opcodes/row.ts";
