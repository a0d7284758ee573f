/**
 * assembly/decode/operations.generated.ts, of which tables.ts makes OPERATIONS: {u8 kind, u8 member, u8 operand bytes, u8 form} of each operation. A kind is a family of
 * instructions with one handler. Operations come in groups, one for each form and size: only these are stored, and made into the table at start.
 */
import { OPERATIONS, OPERATIONS_END } from "../assembly/abi/layout.ts";
import { JIT_KINDS } from "./generate-jit.ts";

export const FORMS = ["", "rr", "rm", "mr", "ri", "mi", "reg", "mem"] as const;
export type Form = (typeof FORMS)[number];

const MEMBERS: Record<string, readonly string[]> = {
  alu: ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test"],
  unary: ["inc", "dec", "not", "neg"],
  shift: ["rol", "ror", "rcl", "rcr", "shl", "shr", "sar"],
  bit: ["bt", "bts", "btr", "btc"],
  bitImm: ["bt", "bts", "btr", "btc"],
  doubleShift: ["shld", "shrd"],
};

export interface Group {
  /** Number of its first operation. */
  readonly first: number;
  readonly family: string;
  readonly member: string | undefined;
  readonly forms: readonly Form[];
  /** Bits of the operands; 0: the record says it. */
  readonly bits: readonly number[];
  /** The count of a shift is CL. */
  readonly byCl: boolean;
}

function memberNumber({ family, member }: Group): number {
  if (member === undefined) return 0;
  const number = MEMBERS[family]?.indexOf(member) ?? Number(member);
  if (!(number >= 0)) throw new Error(`opcode table: ${family} has no member ${member}`);
  return number;
}

/** Families by the number of their kind: those with generated code first. */
export function kindsOf(groups: readonly Group[]): readonly string[] {
  const kinds = [...new Set([...JIT_KINDS, ...groups.map((group) => group.family)])];
  if (kinds.length > 256) throw new Error(`${kinds.length} kinds of operations, and a kind is a byte`);
  return kinds;
}

/** {form, forms from it to the second one, sizes, CL}, as fillOperations() in assembly/decode/tables.ts takes it apart. */
function shapeOf({ forms: [first = "", second = first], bits, byCl }: Group): number {
  const form = FORMS.indexOf(first);
  const sizes = bits.length > 1 ? 2 : bits[0] ? 1 : 0;
  return form | ((FORMS.indexOf(second) - form) << 3) | (sizes << 5) | (byCl ? 128 : 0);
}

/** assembly/abi/forms.generated.ts. */
export function formsFile(header: string): string {
  return `${header}/** The count of a shift is CL. */
export const FORM_CL: u32 = 128;
${FORMS.slice(1)
  .map((f, i) => `export const FORM_${f.toUpperCase()}: u32 = ${i + 1};`)
  .join("\n")}
`;
}

export function operationsFile(header: string, groups: readonly Group[], operations: number): string {
  if (operations * 4 > OPERATIONS_END - OPERATIONS)
    throw new Error(`no room for ${operations} operations at OPERATIONS`);
  const kinds = kindsOf(groups);
  const columns = [groups.map((group) => kinds.indexOf(group.family)), groups.map(memberNumber), groups.map(shapeOf)];
  const lines: string[] = [];
  for (const bytes of columns) {
    for (let i = 0; i < bytes.length; i += 40) lines.push(`  ${bytes.slice(i, i + 40).join(", ")},`);
  }
  return `${header}export const OPERATION_COUNT: u32 = ${operations};
export const GROUP_COUNT: u32 = ${groups.length};
/** Groups of operations that differ in form and size: their kinds, their members, their shapes. */
export const GROUPS: usize = memory.data<u8>([
${lines.join("\n")}
]);
`;
}
