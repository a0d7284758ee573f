/** src/disasm/table.generated.ts: the opcode rows as the disassembler wants them. */
import { HEADER } from "./generate-decode-table.ts";
import { type OpcodeRow, opcodeRows } from "./opcodes.ts";

const MAPS = ["one", "0f", "0f38", "0f3a", "vex0f", "vex0f38", "vex0f3a"];
const KEPT = ["d64", "f64", "noq", "natural", "lock"];

function line(r: OpcodeRow): string {
  const prefixes = r.prefixes ? r.prefixes.reduce<number>((mask, p) => mask | (1 << p), 0) : 15;
  const mod = r.mod === undefined ? 0 : r.mod === "mem" ? 1 : 2;
  const mode = r.long === undefined ? 0 : r.long ? 2 : 1;
  const numbers = [MAPS.indexOf(r.map), r.opcode, r.digit ?? -1, r.rm ?? -1, mod, prefixes, mode].join(" ");
  const attributes = r.attributes.filter((a) => KEPT.includes(a)).join(" ");
  return `${numbers};${r.mnemonic};${r.operands};${attributes}`;
}

export function disasmFile(): string {
  return `${HEADER}
/**
 * A line a row: map (one 0F 0F38 0F3A, then VEX 0F 0F38 0F3A), opcode, digit, rm, mod (1 memory, 2 register), prefix set,
 * mode (1 not 64-bit, 2 only), mnemonic, operands, attributes, the words between semicolons. Text, because engines parse a string
 * faster than an array.
 */
export const rows = \`
${opcodeRows.map(line).join("\n")}
\`;
`;
}
