/** The 0F map but for its system instructions. */
import { hex, row } from "./row.ts";

row("0f 0b", "ud2", "", "ud2", "ends");
row("0f b9", "ud1", "Gv,Ev", "ud2", "ends");
row("0f ff", "ud0", "Gv,Ev", "ud2", "ends");
row("0f a0", "push", "FS", "pushSeg", "d64");
row("0f a1", "pop", "FS", "popSeg", "d64 ends");
row("0f a8", "push", "GS", "pushSeg", "d64");
row("0f a9", "pop", "GS", "popSeg", "d64 ends");
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
row("0f af", "imul", "Gv,Ev", "imulGE<T>");
row("0f b0", "cmpxchg", "Eb,Gb", "cmpxchg<T>", "lock");
row("0f b1", "cmpxchg", "Ev,Gv", "cmpxchg<T>", "lock");
row("0f b2 mem", "lss", "Gv,Mp", "lss", "ends");
row("0f b4 mem", "lfs", "Gv,Mp", "lfs", "ends");
row("0f b5 mem", "lgs", "Gv,Mp", "lgs", "ends");
row("0f b6", "movzx", "Gv,Eb", "movzx8<T>");
row("0f b7", "movzx", "Gv,Ew", "movzx16<T>");
row("0f be", "movsx", "Gv,Eb", "movsx8<T>");
row("0f bf", "movsx", "Gv,Ew", "movsx16<T>");
row("0f bc", "bsf", "Gv,Ev", "bsf<T>");
row("0f bd", "bsr", "Gv,Ev", "bsr<T>");
row("0f c0", "xadd", "Eb,Gb", "xadd<T>", "lock");
row("0f c1", "xadd", "Ev,Gv", "xadd<T>", "lock");
row("n0 0f c3 mem", "movnti", "My,Gy", "movnti", "sse2");

// MMX and SSE: no model has them
for (const [from, to] of [
  [0x10, 0x17],
  [0x28, 0x2f],
  [0x50, 0x77],
  [0x7c, 0x7f],
  [0xc2, 0xc2],
  [0xc4, 0xc6],
  [0xd0, 0xfe],
] as [number, number][]) {
  for (let k = from; k <= to; k++) {
    const immediate = (k >= 0x70 && k <= 0x73) || (k >= 0xc2 && k <= 0xc6);
    row(`0f ${hex(k)}`, "simd", k === 0x77 ? "" : immediate ? "E,Ib" : "E", "ud", "ends");
  }
}
