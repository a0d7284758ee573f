/**
 * The one opcode table. `npm run generate` derives the decoder's table, the dispatch switch and docs/instructions.md from it.
 *
 * A row: opcode (with /digit for a group member), mnemonic, SDM-style operands, handler, attributes.
 *
 * operands   SDM letters: E rm, G reg, Z opcode register, I immediate, J branch, O moffs, M memory only, A far pointer,
 *            S segment register; b byte, w word, v operand size, z 16 or 32, bs sign-extended byte.
 * handler    `family:member` names a member of an operation family; `name<T>` gets the operand size as type argument;
 *            `name` is called once for all sizes and reads R_SIZE; `todo` exists but is not built.
 * attributes lock: LOCK is legal with a memory destination;  ends: ends the block;  d64: 64-bit operands by default in
 *            64-bit mode;  f64: always;  no64, only64: invalid / valid only there;  noq: never 64 bits;
 *            natural: 32 or 64 bits by mode alone.
 */
export interface OpcodeRow {
  readonly map: "one" | "0f";
  readonly opcode: number;
  /** modrm.reg of a group member. */
  readonly digit?: number | undefined;
  /** The whole modrm byte, for register-form instructions of group 7. */
  readonly modrm?: number | undefined;
  readonly mnemonic: string;
  readonly operands: string;
  readonly handler: string;
  readonly attributes: readonly string[];
}

export const opcodeRows: OpcodeRow[] = [];

/** `row("0f ba /4", "bt", "Ev,Ib", "bitImm:bt", "lock")` */
function row(code: string, mnemonic: string, operands: string, handler: string, attributes = ""): void {
  const parts = code.split(" ");
  const map = parts[0] === "0f" ? "0f" : "one";
  if (map === "0f") parts.shift();
  const opcode = Number.parseInt(parts.shift() ?? "", 16);
  let digit: number | undefined;
  let modrm: number | undefined;
  for (const p of parts) {
    if (p.startsWith("/")) digit = Number(p.slice(1));
    else modrm = Number.parseInt(p, 16);
  }
  const list = attributes ? attributes.split(" ") : [];
  opcodeRows.push({ map, opcode, digit, modrm, mnemonic, operands, handler, attributes: list });
}

const hex = (n: number): string => n.toString(16).padStart(2, "0");
const cc = ["o", "no", "b", "nb", "z", "nz", "be", "nbe", "s", "ns", "p", "np", "l", "nl", "le", "nle"];

// --- one-byte map ---
for (const [k, name] of ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp"].entries()) {
  const base = k * 8;
  const lock = name === "cmp" ? "" : "lock";
  row(hex(base), name, "Eb,Gb", `alu:${name}`, lock);
  row(hex(base + 1), name, "Ev,Gv", `alu:${name}`, lock);
  row(hex(base + 2), name, "Gb,Eb", `alu:${name}`);
  row(hex(base + 3), name, "Gv,Ev", `alu:${name}`);
  row(hex(base + 4), name, "AL,Ib", `alu:${name}`);
  row(hex(base + 5), name, "rAX,Iz", `alu:${name}`);
  row(`80 /${k}`, name, "Eb,Ib", `alu:${name}`, lock);
  row(`81 /${k}`, name, "Ev,Iz", `alu:${name}`, lock);
  row(`82 /${k}`, name, "Eb,Ib", `alu:${name}`, `${lock} no64`.trim());
  row(`83 /${k}`, name, "Ev,Ibs", `alu:${name}`, lock);
}
row("06", "push", "ES", "pushSeg", "no64 ends");
row("0e", "push", "CS", "pushSeg", "no64 ends");
row("16", "push", "SS", "pushSeg", "no64 ends");
row("1e", "push", "DS", "pushSeg", "no64 ends");
row("07", "pop", "ES", "popSeg", "no64 ends");
row("17", "pop", "SS", "popSeg", "no64 ends");
row("1f", "pop", "DS", "popSeg", "no64 ends");
row("27", "daa", "", "daa", "no64");
row("2f", "das", "", "das", "no64");
row("37", "aaa", "", "aaa", "no64");
row("3f", "aas", "", "aas", "no64");
for (let r = 0; r < 8; r++) {
  row(hex(0x40 + r), "inc", "Zv", "unary:inc", "no64 noq");
  row(hex(0x48 + r), "dec", "Zv", "unary:dec", "no64 noq");
  row(hex(0x50 + r), "push", "Zv", "pushReg<T>", "d64");
  row(hex(0x58 + r), "pop", "Zv", "popReg<T>", "d64");
  row(hex(0x90 + r), r ? "xchg" : "nop", "Zv", r ? "xchgAccumulator<T>" : "nop90<T>");
  row(hex(0xb0 + r), "mov", "Zb,Ib", "mov");
  row(hex(0xb8 + r), "mov", "Zv,Iv", "mov");
  row(`0f ${hex(0xc8 + r)}`, "bswap", "Zv", "bswap<T>");
}
row("60", "pusha", "", "pusha<T>", "no64 noq");
row("61", "popa", "", "popa<T>", "no64 noq");
row("62", "bound", "Gv,M", "todo", "no64 noq ends");
row("63", "movsxd", "Gv,Ed", "movsxd<T>");
row("68", "push", "Iz", "pushImm<T>", "d64");
row("69", "imul", "Gv,Ev,Iz", "imulImm<T>");
row("6a", "push", "Ibs", "pushImm<T>", "d64");
row("6b", "imul", "Gv,Ev,Ibs", "imulImm<T>");
row("6c", "ins", "Yb,DX", "ins", "ends");
row("6d", "ins", "Yv,DX", "ins", "noq ends");
row("6e", "outs", "DX,Xb", "outs", "ends");
row("6f", "outs", "DX,Xv", "outs", "noq ends");
for (const [k, c] of cc.entries()) {
  row(hex(0x70 + k), `j${c}`, "Jb", `jcc:${k}`, "f64 ends");
  row(`0f ${hex(0x80 + k)}`, `j${c}`, "Jz", `jcc:${k}`, "f64 ends");
  row(`0f ${hex(0x40 + k)}`, `cmov${c}`, "Gv,Ev", `cmov<T>:${k}`);
  row(`0f ${hex(0x90 + k)}`, `set${c}`, "Eb", `set:${k}`);
}
row("84", "test", "Eb,Gb", "alu:test");
row("85", "test", "Ev,Gv", "alu:test");
row("a8", "test", "AL,Ib", "alu:test");
row("a9", "test", "rAX,Iz", "alu:test");
row("86", "xchg", "Eb,Gb", "xchg<T>", "lock");
row("87", "xchg", "Ev,Gv", "xchg<T>", "lock");
row("88", "mov", "Eb,Gb", "mov");
row("89", "mov", "Ev,Gv", "mov");
row("8a", "mov", "Gb,Eb", "mov");
row("8b", "mov", "Gv,Ev", "mov");
row("8c", "mov", "Ev,Sw", "movFromSeg", "ends");
row("8d", "lea", "Gv,M", "lea<T>");
row("8e", "mov", "Sw,Ew", "movToSeg", "ends");
row("8f /0", "pop", "Ev", "popE<T>", "d64");
row("98", "cbw", "", "cbw<T>");
row("99", "cwd", "", "cwd<T>");
row("9a", "call", "Ap", "callFarPtr", "no64 noq ends");
row("9b", "wait", "", "wait");
row("9c", "pushf", "Fv", "pushf", "d64 ends");
row("9d", "popf", "Fv", "popf", "d64 ends");
row("9e", "sahf", "", "sahf");
row("9f", "lahf", "", "lahf");
row("a0", "mov", "AL,Ob", "movLoadOffset<T>");
row("a1", "mov", "rAX,Ov", "movLoadOffset<T>");
row("a2", "mov", "Ob,AL", "movStoreOffset<T>");
row("a3", "mov", "Ov,rAX", "movStoreOffset<T>");
for (const [op, name, operands] of [
  [0xa4, "movs", "Y,X"],
  [0xa6, "cmps", "X,Y"],
  [0xaa, "stos", "Y,A"],
  [0xac, "lods", "A,X"],
  [0xae, "scas", "A,Y"],
] as const) {
  row(hex(op), name, `${operands}b`, `${name}<T>`);
  row(hex(op + 1), name, `${operands}v`, `${name}<T>`);
}
for (const [k, name] of ["rol", "ror", "rcl", "rcr", "shl", "shr", "sal", "sar"].entries()) {
  const family = name === "sal" ? "shl" : name;
  row(`c0 /${k}`, name, "Eb,Ib", `shift:${family}`);
  row(`c1 /${k}`, name, "Ev,Ib", `shift:${family}`);
  row(`d0 /${k}`, name, "Eb,1", `shift:${family}`);
  row(`d1 /${k}`, name, "Ev,1", `shift:${family}`);
  row(`d2 /${k}`, name, "Eb,CL", `shift:${family}`);
  row(`d3 /${k}`, name, "Ev,CL", `shift:${family}`);
}
row("c2", "ret", "Iw", "retImm<T>", "f64 ends");
row("c3", "ret", "", "ret<T>", "f64 ends");
row("c4", "les", "Gv,Mp", "todo", "no64 noq ends");
row("c5", "lds", "Gv,Mp", "todo", "no64 noq ends");
row("c6 /0", "mov", "Eb,Ib", "mov");
row("c7 /0", "mov", "Ev,Iz", "mov");
row("c8", "enter", "Iw,Ib", "enter<T>", "d64");
row("c9", "leave", "", "leave<T>", "d64");
row("ca", "retf", "Iw", "retFarImm", "ends");
row("cb", "retf", "", "retFar", "ends");
row("cc", "int3", "", "int3", "ends");
row("cd", "int", "Ib", "intN", "ends");
row("ce", "into", "", "into", "no64 ends");
row("cf", "iret", "", "iret", "ends");
row("d4", "aam", "Ib", "aam", "no64");
row("d5", "aad", "Ib", "aad", "no64");
row("d6", "salc", "", "salc", "no64");
row("d7", "xlat", "", "xlat");
for (let k = 0; k < 8; k++) row(hex(0xd8 + k), "x87", "E", "todo", "ends");
row("e0", "loopne", "Jb", "loopne", "f64 ends");
row("e1", "loope", "Jb", "loope", "f64 ends");
row("e2", "loop", "Jb", "loop", "f64 ends");
row("e3", "jcxz", "Jb", "jcxz", "f64 ends");
row("e4", "in", "AL,Ib", "inImm", "ends");
row("e5", "in", "eAX,Ib", "inImm", "noq ends");
row("e6", "out", "Ib,AL", "outImm", "ends");
row("e7", "out", "Ib,eAX", "outImm", "noq ends");
row("ec", "in", "AL,DX", "inDx", "ends");
row("ed", "in", "eAX,DX", "inDx", "noq ends");
row("ee", "out", "DX,AL", "outDx", "ends");
row("ef", "out", "DX,eAX", "outDx", "noq ends");
row("e8", "call", "Jz", "callRel<T>", "f64 ends");
row("e9", "jmp", "Jz", "jmpRel", "f64 ends");
row("ea", "jmp", "Ap", "jmpFarPtr", "no64 noq ends");
row("eb", "jmp", "Jb", "jmpRel", "f64 ends");
row("f1", "int1", "", "int1", "ends");
row("f4", "hlt", "", "hlt", "ends");
row("f5", "cmc", "", "cmc");
row("f8", "clc", "", "clc");
row("f9", "stc", "", "stc");
row("fa", "cli", "", "cli", "ends");
row("fb", "sti", "", "sti", "ends");
row("fc", "cld", "", "cld");
row("fd", "std", "", "std");
for (const [op, e, i] of [
  ["f6", "Eb", "Ib"],
  ["f7", "Ev", "Iz"],
] as const) {
  row(`${op} /0`, "test", `${e},${i}`, "alu:test");
  row(`${op} /1`, "test", `${e},${i}`, "alu:test");
  row(`${op} /2`, "not", e, "unary:not", "lock");
  row(`${op} /3`, "neg", e, "unary:neg", "lock");
  row(`${op} /4`, "mul", e, "mul<T>");
  row(`${op} /5`, "imul", e, "imul<T>");
  row(`${op} /6`, "div", e, "div<T>");
  row(`${op} /7`, "idiv", e, "idiv<T>");
}
row("fe /0", "inc", "Eb", "unary:inc", "lock");
row("fe /1", "dec", "Eb", "unary:dec", "lock");
row("ff /0", "inc", "Ev", "unary:inc", "lock");
row("ff /1", "dec", "Ev", "unary:dec", "lock");
row("ff /2", "call", "Ev", "callE<T>", "f64 ends");
row("ff /3", "call", "Mp", "callFarMem", "ends");
row("ff /4", "jmp", "Ev", "jmpE<T>", "f64 ends");
row("ff /5", "jmp", "Mp", "jmpFarMem", "ends");
row("ff /6", "push", "Ev", "pushE<T>", "d64");

// --- 0F map ---
row("0f 00 /0", "sldt", "Ev", "sldt", "ends");
row("0f 00 /1", "str", "Ev", "str", "ends");
row("0f 00 /2", "lldt", "Ew", "lldt", "ends");
row("0f 00 /3", "ltr", "Ew", "ltr", "ends");
row("0f 00 /4", "verr", "Ew", "todo", "ends");
row("0f 00 /5", "verw", "Ew", "todo", "ends");
row("0f 01 /0", "sgdt", "M", "sgdt", "ends");
row("0f 01 /1", "sidt", "M", "sidt", "ends");
row("0f 01 /2", "lgdt", "M", "lgdt", "ends");
row("0f 01 /3", "lidt", "M", "lidt", "ends");
row("0f 01 /4", "smsw", "Ev", "smsw", "ends");
row("0f 01 /6", "lmsw", "Ew", "lmsw", "ends");
row("0f 01 /7", "invlpg", "M", "invlpg", "ends");
for (const [modrm, name] of [
  ["c1", "vmcall"],
  ["c2", "vmlaunch"],
  ["c3", "vmresume"],
  ["c4", "vmxoff"],
] as const) {
  row(`0f 01 ${modrm}`, name, "", name, "ends");
}
row("0f 01 c8", "monitor", "", "todo", "ends");
row("0f 01 c9", "mwait", "", "todo", "ends");
row("0f 01 d0", "xgetbv", "", "todo", "ends");
row("0f 01 d1", "xsetbv", "", "todo", "ends");
row("0f 01 d4", "vmfunc", "", "todo", "ends");
row("0f 01 f8", "swapgs", "", "swapgs", "only64 ends");
row("0f 01 f9", "rdtscp", "", "todo", "ends");
row("0f 02", "lar", "Gv,Ew", "todo", "ends");
row("0f 03", "lsl", "Gv,Ew", "todo", "ends");
row("0f 05", "syscall", "", "syscall", "ends");
row("0f 06", "clts", "", "clts", "ends");
row("0f 07", "sysret", "", "sysret", "ends");
row("0f 08", "invd", "", "invd", "ends");
row("0f 09", "wbinvd", "", "wbinvd", "ends");
row("0f 0b", "ud2", "", "ud2", "ends");
row("0f 0d", "prefetchw", "E", "nop");
for (let k = 0x18; k < 0x20; k++) row(`0f ${hex(k)}`, "nop", "E", "nop");
row("0f 20", "mov", "Rd,Cd", "movFromCr", "natural ends");
row("0f 21", "mov", "Rd,Dd", "movFromDr", "natural ends");
row("0f 22", "mov", "Cd,Rd", "movToCr", "natural ends");
row("0f 23", "mov", "Dd,Rd", "movToDr", "natural ends");
row("0f 30", "wrmsr", "", "wrmsr", "ends");
row("0f 31", "rdtsc", "", "rdtsc", "ends");
row("0f 32", "rdmsr", "", "rdmsr", "ends");
row("0f 33", "rdpmc", "", "rdpmc", "ends");
row("0f 34", "sysenter", "", "sysenter", "ends");
row("0f 35", "sysexit", "", "sysexit", "ends");
row("0f 37", "getsec", "", "todo", "ends");
row("0f 38", "0F38 map", "E", "todo", "ends");
row("0f 3a", "0F3A map", "E", "todo", "ends");
row("0f 77", "emms", "", "todo", "ends");
row("0f a0", "push", "FS", "pushSeg", "d64 ends");
row("0f a1", "pop", "FS", "popSeg", "d64 ends");
row("0f a8", "push", "GS", "pushSeg", "d64 ends");
row("0f a9", "pop", "GS", "popSeg", "d64 ends");
row("0f a2", "cpuid", "", "cpuid", "ends");
for (const [op, digit, name] of [
  ["a3", 4, "bt"],
  ["ab", 5, "bts"],
  ["b3", 6, "btr"],
  ["bb", 7, "btc"],
] as const) {
  row(`0f ${op}`, name, "Ev,Gv", `bit:${name}`, name === "bt" ? "" : "lock");
  row(`0f ba /${digit}`, name, "Ev,Ib", `bitImm:${name}`, name === "bt" ? "" : "lock");
}
row("0f a4", "shld", "Ev,Gv,Ib", "doubleShift:shld");
row("0f a5", "shld", "Ev,Gv,CL", "doubleShift:shld");
row("0f ac", "shrd", "Ev,Gv,Ib", "doubleShift:shrd");
row("0f ad", "shrd", "Ev,Gv,CL", "doubleShift:shrd");
for (const [k, name] of ["fxsave", "fxrstor", "ldmxcsr", "stmxcsr", "xsave"].entries()) {
  row(`0f ae /${k}`, name, "E", "todo", "ends");
}
row("0f ae /5", "lfence", "E", "fence");
row("0f ae /6", "mfence", "E", "fence");
row("0f ae /7", "sfence", "E", "fence");
row("0f af", "imul", "Gv,Ev", "imulGE<T>");
row("0f b0", "cmpxchg", "Eb,Gb", "cmpxchg<T>", "lock");
row("0f b1", "cmpxchg", "Ev,Gv", "cmpxchg<T>", "lock");
row("0f b2", "lss", "Gv,Mp", "todo", "ends");
row("0f b4", "lfs", "Gv,Mp", "todo", "ends");
row("0f b5", "lgs", "Gv,Mp", "todo", "ends");
row("0f b6", "movzx", "Gv,Eb", "movzx8<T>");
row("0f b7", "movzx", "Gv,Ew", "movzx16<T>");
row("0f b8", "popcnt", "Gv,Ev", "todo", "ends");
row("0f be", "movsx", "Gv,Eb", "movsx8<T>");
row("0f bf", "movsx", "Gv,Ew", "movsx16<T>");
row("0f b9", "ud1", "E", "ud2", "ends");
row("0f bc", "bsf", "Gv,Ev", "bsf<T>");
row("0f bd", "bsr", "Gv,Ev", "bsr<T>");
row("0f c0", "xadd", "Eb,Gb", "xadd<T>", "lock");
row("0f c1", "xadd", "Ev,Gv", "xadd<T>", "lock");
row("0f c7 /1", "cmpxchg8b", "E", "todo", "lock ends");
for (const [k, name] of [
  [3, "xrstors"],
  [4, "xsavec"],
  [5, "xsaves"],
  [6, "rdrand/vmptrld"],
  [7, "rdseed/vmptrst"],
] as const) {
  row(`0f c7 /${k}`, name, "E", k === 6 ? "vmptrldGroup" : k === 7 ? "vmptrstGroup" : "todo", "ends");
}
row("0f 78", "vmread", "E", "vmread", "natural ends");
row("0f 79", "vmwrite", "E", "vmwrite", "natural ends");
// MMX and SSE
for (const [from, to] of [
  [0x10, 0x17],
  [0x28, 0x2f],
  [0x50, 0x76],
  [0x7c, 0x7f],
  [0xc2, 0xc6],
  [0xd0, 0xfe],
] as const) {
  for (let k = from; k <= to; k++) row(`0f ${hex(k)}`, "sse", "E", "todo", "ends");
}
row("0f ff", "ud0", "E", "ud2", "ends");
