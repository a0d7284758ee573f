import { rows as text } from "./table.generated.ts";

/** Map, opcode, digit, rm, mod, prefix set, mode, mnemonic, operands, attributes: see the table. */
export type Row = readonly [number, number, number, number, number, number, number, string, string, string];

export function opcodeRows(): Row[] {
  return text
    .trim()
    .split("\n")
    .map((line) => {
      const [numbers, ...words] = line.split(";");
      return [...numbers!.split(" ").map(Number), ...words] as unknown as Row;
    });
}
