// Exit reason and qualification in words. @sdm 3C "Basic VM-Exit Information", "Exit Qualification"
import * as reason from "../../assembly/abi/exits.ts";

export interface ExitFields {
  readonly reason: number;
  readonly qualification: bigint;
  /** VM-exit interruption information. */
  readonly interruption: number;
  /** undefined: not known. */
  readonly guestPhysical: bigint | undefined;
  /** RAX and RCX of the guest. */
  readonly rax: bigint;
  readonly rcx: bigint;
}

const EXCEPTIONS = "#DE #DB NMI #BP #OF #BR #UD #NM #DF #9 #TS #NP #SS #GP #PF #15 #MF #AC #MC #XM #VE #CP".split(" ");
const TASK_SOURCES = ["CALL", "IRET", "JMP", "a task gate"];
const GPRS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;
const low = (value: bigint): number => Number(value & 0xffff_ffffn);

function ioText(q: number): string {
  const size = (q & 7) + 1;
  const repeated = q & 32 ? "REP " : "";
  const name = q & 16 ? (q & 8 ? "INS" : "OUTS") : q & 8 ? "IN" : "OUT";
  return `${repeated}${name} ${q & 8 ? "from" : "to"} port ${hex(q >>> 16)}, ${size} byte${size > 1 ? "s" : ""}`;
}

function crText(q: number): string {
  const cr = `CR${q & 15}`;
  const gpr = GPRS[(q >> 8) & 15]!;
  const kind = (q >> 4) & 3;
  if (kind === 0) return `MOV ${cr}, ${gpr}`;
  if (kind === 1) return `MOV ${gpr}, ${cr}`;
  return kind === 2 ? "CLTS" : `LMSW ${hex((q >>> 16) & 0xffff)}`;
}

function eptText(q: number, gpa: bigint | undefined): string {
  const access = [q & 1 ? "read" : "", q & 2 ? "write" : "", q & 4 ? "fetch" : ""].filter((text) => text !== "");
  const allowed = [q & 8 ? "r" : "-", q & 16 ? "w" : "-", q & 32 ? "x" : "-"].join("");
  const walk = q & 0x80 && !(q & 0x100) ? ", in a page walk" : "";
  const where = gpa === undefined ? "" : ` of guest-physical ${hex(gpa)}`;
  return `${access.join(" and ")}${where}, the EPT allows ${allowed}${walk}`;
}

function eventText(info: number, qualification: bigint): string {
  const vector = info & 0xff;
  const type = (info >> 8) & 7;
  if (type === 2) return "NMI";
  if (type === 0) return `interrupt ${hex(vector)}`;
  const name = EXCEPTIONS[vector] ?? `vector ${vector}`;
  return vector === 14 ? `#PF at ${hex(qualification)}` : name;
}

/** What the qualification says; "" where it says nothing. */
export function exitText(fields: ExitFields): string {
  const { qualification, interruption } = fields;
  const q = low(qualification);
  switch (fields.reason & 0xffff) {
    case reason.REASON_EXCEPTION_OR_NMI:
    case reason.REASON_EXTERNAL_INTERRUPT:
      return interruption >>> 31 ? eventText(interruption, qualification) : "";
    case reason.REASON_TASK_SWITCH:
      return `to TSS ${hex(q & 0xffff)} by ${TASK_SOURCES[q >>> 30]}`;
    case reason.REASON_CPUID:
      return `leaf ${hex(low(fields.rax))}, subleaf ${hex(low(fields.rcx))}`;
    case reason.REASON_INVLPG:
      return `of ${hex(qualification)}`;
    case reason.REASON_VMCALL:
      return `rax ${hex(fields.rax)}`;
    case reason.REASON_CR_ACCESS:
      return crText(q);
    case reason.REASON_DR_ACCESS:
      return q & 16 ? `MOV ${GPRS[(q >> 8) & 15]}, DR${q & 7}` : `MOV DR${q & 7}, ${GPRS[(q >> 8) & 15]}`;
    case reason.REASON_IO_INSTRUCTION:
      return ioText(q);
    case reason.REASON_RDMSR:
    case reason.REASON_WRMSR:
      return `MSR ${hex(low(fields.rcx))}`;
    case reason.REASON_EPT_VIOLATION:
      return eptText(q, fields.guestPhysical);
    case reason.REASON_EPT_MISCONFIGURATION:
      return fields.guestPhysical === undefined ? "" : `at guest-physical ${hex(fields.guestPhysical)}`;
    default:
      return q === 0 ? "" : `qualification ${hex(qualification)}`;
  }
}
