// Which rows of the opcode table run in a case, and why the others do not.
import { type OpcodeRow, opcodeRows } from "../opcodes.ts";

/** Mnemonics that never run natively here, with the reason. */
export const EXCLUDED: Readonly<Record<string, string>> = {};
const exclude = (reason: string, names: string): void => {
  for (const name of names.split(" ")) (EXCLUDED as Record<string, string>)[name] = reason;
};
exclude("leaves the case through the kernel", "int syscall sysenter int1");
exclude("answers differ from machine to machine", "cpuid rdtsc rdtscp rdpmc rdrand rdseed rdpid xgetbv");
exclude("the kernel answers for the processor", "sgdt sidt sldt str smsw");
exclude("a hypervisor may answer", "vmcall vmlaunch vmresume vmxoff vmxon vmread vmwrite vmclear vmptrld vmptrst");
exclude("a hypervisor may answer", "invept invvpid vmfunc rdrand/vmptrld rdseed/vmptrst vmclear/vmxon monitor mwait");
exclude("needs descriptors of its own", "lar lsl verr verw retf iret lds les lss lfs lgs");
exclude("no x87, MMX or SSE state is built", "x87 sse emms wait fxsave fxrstor ldmxcsr stmxcsr");
exclude("scripts/native/xsave.c has it", "xsave xsaveopt xsavec xsaves xrstor xrstors");
exclude("needs a feature that the kernel owns", "clac stac xsetbv");

/** Rows that need CPL 0: at CPL 3 each of them faults, so one in a while is enough. */
const PRIVILEGED = new Set(
  "cli sti hlt in out ins outs rdmsr wrmsr invd wbinvd clts lgdt lidt lldt ltr lmsw invlpg invpcid swapgs sysret sysexit".split(
    " ",
  ),
);

const OPERAND =
  /^(?:[EGM][a-z]*|R[vyn]|RvMw|B[y]|Z[bvy]|I(?:b|bs|z|v|w)|J[bz]|O[bv]|[XYAF][bv]?|XL|AL|rAX|eAX|DX|CL|1|[CDER]S|[FGS]S|Sw|[CD]n)$/;

/** The name without its spellings for other operand sizes; `cc:N` for Jcc, SETcc and CMOVcc with condition N. */
export function nameOf(row: OpcodeRow): string {
  const condition = /^(?:jcc|set|cmov<T>):(\d+)$/.exec(row.handler);
  return condition ? `cc:${condition[1]}` : row.mnemonic.split("|")[0]!;
}

export function isPrivileged(row: OpcodeRow): boolean {
  return PRIVILEGED.has(nameOf(row)) || /[CD]n/.test(row.operands);
}

/** Undefined where the row runs. */
export function whyNot(row: OpcodeRow): string | undefined {
  if (row.handler === "ud") return "no model has it, processors do";
  const reason = EXCLUDED[nameOf(row)];
  if (reason) return reason;
  if (/Sw|[CDEFGS]S/.test(row.operands) && row.handler !== "movFromSeg" && row.handler !== "pushSeg") {
    return "needs descriptors of its own";
  }
  if (/far/i.test(row.handler) || row.operands === "Ap") return "needs descriptors of its own";
  for (const operand of row.operands.split(",")) {
    if (operand !== "" && !OPERAND.test(operand)) return `operand ${operand} is not encoded`;
  }
  return undefined;
}

export const runnable: readonly OpcodeRow[] = opcodeRows.filter((row) => whyNot(row) === undefined);

const common = runnable.filter((row) => !isPrivileged(row));
const privileged = runnable.filter(isPrivileged);

function byMnemonic(rows: readonly OpcodeRow[]): OpcodeRow[][] {
  const groups = new Map<string, OpcodeRow[]>();
  for (const row of rows) {
    const name = nameOf(row).replace(/^cc:.*/, row.handler.split(":")[0]!);
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  return [...groups.values()];
}

/** Rows to choose from: all of them, grouped so that an instruction with many encodings does not crowd out the rest. */
export const GROUPS: readonly (readonly OpcodeRow[])[] = byMnemonic(common);
export const COMMON: readonly OpcodeRow[] = common;
export const RARE: readonly OpcodeRow[] = privileged;
