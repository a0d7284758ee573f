/** The one-byte map, and rows of the 0F map that come in the same runs. */
import { cc, hex, row } from "./row.ts";

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
row("06", "push", "ES", "pushSeg", "no64");
row("0e", "push", "CS", "pushSeg", "no64");
row("16", "push", "SS", "pushSeg", "no64");
row("1e", "push", "DS", "pushSeg", "no64");
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
  row(hex(0x90 + r), r ? "xchg" : "nop", "Zv,rAX", r ? "xchgAccumulator<T>" : "nop90<T>");
  row(hex(0xb0 + r), "mov", "Zb,Ib", "mov");
  row(hex(0xb8 + r), "mov", "Zv,Iv", "mov");
  row(`0f ${hex(0xc8 + r)}`, "bswap", "Zv", "bswap<T>");
}
row("60", "pusha|pushad|", "", "pusha<T>", "no64 noq");
row("61", "popa|popad|", "", "popa<T>", "no64 noq");
row("62", "bound", "Gv,Ma", "bound", "no64 noq ends");
row("63", "arpl", "Ew,Gw", "arpl", "no64");
row("63", "movsxd", "Gv,Ez", "movsxd<T>", "only64");
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
  row(`0f ${hex(0x40 + k)}`, `cmov${c}`, "Gv,Ev", `cmov<T>:${k}`, "cmov");
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
for (let s = 0; s < 6; s++) row(`8c /${s}`, "mov", "RvMw,Sw", "movFromSeg");
row("8d", "lea", "Gv,Ml", "lea<T>");
for (const s of [0, 2, 3, 4, 5]) row(`8e /${s}`, "mov", "Sw,Ew", "movToSeg", "ends");
row("8f /0", "pop", "Ev", "popE<T>", "d64");
row("98", "cbw|cwde|cdqe", "", "cbw<T>");
row("99", "cwd|cdq|cqo", "", "cwd<T>");
row("9a", "call far", "Ap", "callFarPtr", "no64 noq ends");
row("9b", "fwait", "", "wait");
row("9c", "pushf|pushfd|pushfq", "", "pushf", "d64");
row("9d", "popf|popfd|popfq", "", "popf", "d64 ends");
for (const [op, name] of [
  ["9e", "sahf"],
  ["9f", "lahf"],
] as const) {
  row(op, name, "", name, "no64");
  row(op, name, "", name, "only64 lahf64");
}
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
for (const [k, name] of ["rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar"].entries()) {
  row(`c0 /${k}`, name, "Eb,Ib", `shift:${name}`);
  row(`c1 /${k}`, name, "Ev,Ib", `shift:${name}`);
  row(`d0 /${k}`, name, "Eb,1", `shift:${name}`);
  row(`d1 /${k}`, name, "Ev,1", `shift:${name}`);
  row(`d2 /${k}`, name, "Eb,CL", `shift:${name}`);
  row(`d3 /${k}`, name, "Ev,CL", `shift:${name}`);
}
row("c2", "ret", "Iw", "retImm<T>", "f64 ends");
row("c3", "ret", "", "ret<T>", "f64 ends");
row("c4", "les", "Gv,Mp", "les", "no64 noq ends");
row("c5", "lds", "Gv,Mp", "lds", "no64 noq ends");
row("c6 /0", "mov", "Eb,Ib", "mov");
row("c7 /0", "mov", "Ev,Iz", "mov");
row("c8", "enter", "Iw,Ib", "enter<T>", "d64");
row("c9", "leave", "", "leave<T>", "d64");
row("ca", "ret far", "Iw", "retFarImm", "ends");
row("cb", "ret far", "", "retFar", "ends");
row("cc", "int3", "", "int3", "ends");
row("cd", "int", "Ib", "intN", "ends");
row("ce", "into", "", "into", "no64 ends");
row("cf", "iret|iretd|iretq", "", "iret", "ends");
row("d4", "aam", "Ib", "aam", "no64");
row("d5", "aad", "Ib", "aad", "no64");
row("d6", "salc", "", "salc", "no64");
row("d7", "xlat", "XL", "xlat");
for (let k = 0; k < 8; k++) row(hex(0xd8 + k), "x87", "E", "x87", "ends");
row("e0", "loopne", "Jb", "loopne", "f64 ends");
row("e1", "loope", "Jb", "loope", "f64 ends");
row("e2", "loop", "Jb", "loop", "f64 ends");
row("e3", "jcxz|jecxz|jrcxz", "Jb", "jcxz", "f64 ends");
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
row("ea", "jmp far", "Ap", "jmpFarPtr", "no64 noq ends");
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
row("ff /3 mem", "call far", "Mp", "callFarMem", "ends");
row("ff /4", "jmp", "Ev", "jmpE<T>", "f64 ends");
row("ff /5 mem", "jmp far", "Mp", "jmpFarMem", "ends");
row("ff /6", "push", "Ev", "pushE<T>", "d64");
