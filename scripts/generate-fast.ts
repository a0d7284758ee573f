/**
 * The short forms of instructions: bodies that short() holds itself (assembly/execute/fast.ts), numbered by R_FAST. The
 * order is that of short(): what needs no address, branches, reads, writes. A body that ends with `break` has a target
 * or a value to push, and says by `does` what becomes of it.
 */

export interface FastCase {
  readonly name: string;
  /** "": short() has one for several of them. */
  readonly body: string;
}

const BITS = [32, 64] as const;
const LOGIC = ["add", "or", "and", "sub", "xor"];
/** In the order of AluOp. */
const ALU = ["add", "or", "adc", "sbb", "and", "sub", "xor"];
const COMPARE = ["cmp", "test"];

/** Forms that have a twin without flags, for where nothing can see these. */
const loud: [name: string, body: (quiet: boolean) => string][] = [];
/** They set all flags and cannot stop: what is set before them is not seen. */
const setters: FastCase[] = [];
/** They leave the flags alone and cannot stop. */
const keepers: FastCase[] = [];
/** Register form and memory form of one operation. */
const either: [name: string, register: string, memory: string][] = [];
/** Likewise; they set flags or end a block. */
const eitherSets: [name: string, register: string, memory: string][] = [];
const others: FastCase[] = [];
/** They cannot always be carried out. */
const fallible: FastCase[] = [];
const reads: FastCase[] = [];
const writes: FastCase[] = [];

for (const b of BITS) {
  for (const k of LOGIC) {
    for (const form of ["rr", "ri"]) {
      loud.push([`alu:${k} ${form}${b}`, (quiet) => `Fast.${form}<u${b}>(rec, AluOp.${k}, ${quiet});`]);
    }
  }
}
for (const b of BITS) {
  for (const k of ["inc", "dec"]) {
    loud.push([`unary:${k} reg${b}`, (quiet) => `Fast.unaryReg<u${b}>(rec, UnaryOp.${k}, ${quiet});`]);
  }
  for (const k of ["shl", "shr", "sar"]) {
    loud.push([
      `shift:${k} reg${b} I`,
      (quiet) => `Fast.shift<u${b}>(rec, ShiftOp.${k}, load<u8>(rec, R_IMM), ${quiet});`,
    ]);
  }
}
for (const b of BITS) {
  for (const k of COMPARE) {
    for (const form of ["rr", "ri"]) {
      setters.push({ name: `alu:${k} ${form}${b}`, body: `Fast.${form}<u${b}>(rec, AluOp.${k}, false);` });
    }
  }
}
for (const k of [...LOGIC, ...COMPARE]) {
  for (const form of ["rr", "ri"]) {
    const body = `Fast.narrow${form === "rr" ? "Rr" : "Ri"}(rec, AluOp.${k});`;
    setters.push({ name: `alu:${k} ${form}N`, body });
  }
}
setters.push({ name: "unary:neg reg32", body: "Fast.unaryReg<u32>(rec, UnaryOp.neg, false);" });
for (const b of [8, 16, 32, 64]) {
  keepers.push({ name: `mov rr${b}`, body: `Fast.movRr<u${b}>(rec);` });
  keepers.push({ name: `mov ri${b}`, body: `Fast.movRi<u${b}>(rec);` });
  reads.push({ name: `mov rm${b}`, body: `Fast.movRm<u${b}>(rec, at);` });
  writes.push({ name: `mov mr${b}`, body: `Fast.movMr<u${b}>(rec, at);` });
  writes.push({ name: `mov mi${b}`, body: `Fast.movMi<u${b}>(rec, at);` });
}
for (const b of BITS) {
  keepers.push({ name: `lea<T> ${b}`, body: `Fast.lea<u${b}>(rec);` });
  for (const [name, from] of [
    ["movzx8", "u8"],
    ["movzx16", "u16"],
    ["movsx8", "i8"],
    ["movsx16", "i16"],
  ]) {
    if (b === 64 && from!.startsWith("u")) continue; // the form of 32 bits clears the upper half
    either.push([`${name}<T> ${b}`, `Fast.extend<u${b}, ${from}>(rec);`, `Fast.extendMem<u${b}, ${from}>(rec, at);`]);
  }
}
either.push(["movsxd<T> 64", "Fast.extend<u64, i32>(rec);", "Fast.extendMem<u64, i32>(rec, at);"]);
eitherSets.push(["imulGE<T> 32", "Fast.imul(rec, Fast.src<i32>(rec));", "Fast.imul(rec, load<i32>(at));"]);
eitherSets.push(["imulImm<T> 32", "Fast.imulBy(rec, Fast.src<i32>(rec));", "Fast.imulBy(rec, load<i32>(at));"]);
for (const [name, does] of [
  ["jmpE", "JUMP"],
  ["callE", "CALL"],
  ["pushE", "PUSH"],
]) {
  eitherSets.push([
    `${name}<T> A`,
    `value = Fast.anyDst(rec); does = ${does}; break;`,
    `value = Fast.any(rec, at); does = ${does}; break;`,
  ]);
}
keepers.push({ name: "nop", body: "rec += RECORD_SIZE; continue;" });
keepers.push({ name: "unary:not reg32", body: "Fast.unaryReg<u32>(rec, UnaryOp.not, false);" });
for (const k of ["adc", "sbb"]) {
  for (const form of ["rr", "ri"]) {
    for (const b of BITS) {
      others.push({ name: `alu:${k} ${form}${b}`, body: `Fast.${form}<u${b}>(rec, AluOp.${k}, false);` });
    }
    const body = `Fast.narrow${form === "rr" ? "Rr" : "Ri"}(rec, AluOp.${k});`;
    others.push({ name: `alu:${k} ${form}N`, body });
  }
}
for (const k of ["rol", "ror"]) {
  for (const b of BITS) {
    others.push({ name: `shift:${k} reg${b} I`, body: `Fast.rotate<u${b}>(rec, ShiftOp.${k});` });
  }
}
for (const k of ["inc", "dec"]) others.push({ name: `unary:${k} regN`, body: `Fast.narrowUnary(rec, UnaryOp.${k});` });
for (const k of ["shl", "shr", "sar"]) {
  others.push({ name: `shift:${k} reg32`, body: `Fast.shift<u32>(rec, ShiftOp.${k}, load<u8>(RCX), false);` });
}
for (const k of ["rol", "ror", "shl", "shr", "sar"]) {
  fallible.push({ name: `shift:${k} regN I`, body: "" });
}
for (const b of BITS) {
  for (const k of [...ALU, "cmp"]) {
    reads.push({ name: `alu:${k} rm${b}`, body: `Fast.rm<u${b}>(rec, AluOp.${k}, at);` });
  }
  for (const form of ["mr", "mi"]) {
    for (const k of COMPARE) {
      reads.push({ name: `alu:${k} ${form}${b}`, body: `Fast.${form}<u${b}>(rec, AluOp.${k}, at);` });
    }
    for (const k of LOGIC) {
      writes.push({ name: `alu:${k} ${form}${b}`, body: `Fast.${form}<u${b}>(rec, AluOp.${k}, at);` });
    }
  }
  for (const k of ["inc", "dec"]) {
    writes.push({ name: `unary:${k} mem${b}`, body: `Fast.unaryMem<u${b}>(UnaryOp.${k}, at);` });
  }
}
for (const k of [...LOGIC, "cmp"]) reads.push({ name: `alu:${k} rmN`, body: `Fast.narrowRm(rec, AluOp.${k}, at);` });
for (const form of ["mr", "mi"]) {
  const any = form === "mr" ? "anyMr" : "anyMi";
  for (const k of COMPARE) reads.push({ name: `alu:${k} ${form}N`, body: `Fast.${any}(rec, AluOp.${k}, at);` });
}
/** ALU operations on memory of any size, in one body: in the order of AluOp, with a register and with an immediate. */
const modifies: FastCase[] = ["mr", "mi"].flatMap((form) =>
  ALU.map((k) => ({
    name: `alu:${k} ${form}A`,
    body: "",
  })),
);

const list: FastCase[] = [{ name: "(whole handler)", body: "return rec | WHOLE;" }];
const first: Record<string, number> = {};
const mark = (name: string): void => {
  first[name] = list.length;
};
mark("LOUD");
for (const [name, body] of loud) list.push({ name, body: body(false) });
first.PARTIAL = list.length - loud.filter(([name]) => !name.startsWith("alu:")).length;
mark("QUIET");
for (const [name, body] of loud) list.push({ name: `${name} without flags`, body: body(true) });
mark("SETTERS");
list.push(...setters);
mark("KEEPERS");
list.push(...keepers);
mark("EITHER");
for (const [name, register] of either) list.push({ name, body: register });
mark("EITHER_SETS");
for (const [name, register] of eitherSets) list.push({ name, body: register });
mark("OTHERS");
list.push(...others);
mark("END");
list.push({ name: "(end of block)", body: "taken = false; break;" });
mark("JCC");
for (let k = 0; k < 16; k++) list.push({ name: `jcc:${k}`, body: `taken = Fast.condition(${k}); break;` });
list.push({ name: "jmpRel", body: "break;" });
list.push({
  name: "loop",
  body: "value = countDown(rec); taken = value != 0; if (!Follow.stays(rec, taken, end)) return rec | WHOLE; setCount(rec, value); break;",
});
mark("CPUID");
list.push({
  name: "cpuid",
  body: "if (!Follow.stays(rec, false, end) || !Fast.cpuid()) return rec | WHOLE; taken = false; break;",
});
mark("CALL");
list.push({ name: "callRel<T> A", body: "value = load<u64>(BLOCK_RIP) + load<u64>(rec, R_IMM); does = CALL; break;" });
mark("STRING");
list.push({ name: "(string)", body: "return rec | WHOLE;" });
mark("NARROW_SHIFT");
list.push(...fallible);
mark("READ");
list.push({ name: "popReg<T> A", body: "Fast.pop(rec, ea, at);" });
list.push({
  name: "ret<T> A",
  body: "value = Fast.any(rec, at); if (!Fast.reachable(value, end)) return rec | WHOLE; Fast.popped(rec, ea + load<u16>(rec, R_IMM)); does = RETURN; break;",
});
mark("READ_OPERAND");
list.push(...reads);
mark("EITHER_READ");
for (const [name, , memory] of [...either, ...eitherSets]) list.push({ name: `${name} memory`, body: memory });
mark("WRITE");
list.push(...writes);
first.MODIFY = first.WRITE! + writes.filter(({ name }) => name.startsWith("mov ")).length;
mark("PUSH");
list.push({ name: "pushReg<T> A", body: "Fast.push(rec, Fast.dst<u64>(rec), ea, at);" });
list.push({ name: "pushImm<T> A", body: "Fast.push(rec, load<u64>(rec, R_IMM), ea, at);" });
mark("MODIFY_ANY");
list.push(...modifies);

if (list.length > 256) throw new Error(`${list.length} short forms, and R_FAST is a byte`);

export const fastCases: readonly FastCase[] = list;
/** Where each kind of them begins. */
export const fastMarks: Readonly<Record<string, number>> = first;
const numbers = new Map(list.map((c, i) => [c.name, i]));

/** These are other forms too: their records say what differs. */
const ALIASES: Record<string, string> = {
  retImm: "ret",
  leave: "popReg",
  "movzx8<T> 64": "movzx8<T> 32",
  "movzx16<T> 64": "movzx16<T> 32",
};

/** The short form of a case of the whole handlers, 0: none. Cases are named as generate-opcodes.ts does. */
export function fastOf(comment: string, byImmediate: boolean): number {
  const [handler = "", shape = ""] = comment.split(" ");
  if (comment === "(end of block)") return first.END!;
  if (/^(?:movs|cmps|stos|lods|scas)<T>$/.test(handler)) return first.STRING!;
  // a condition that ends no block is that of a SETcc or CMOVcc
  const condition = /^(?:set|cmov<T>):(\d+)$/.exec(handler)?.[1];
  if (condition) return shape === "mem8" ? 0 : first.JCC! + Number(condition);
  if (shape === "") return numbers.get(handler) ?? 0;
  const [family = ""] = handler.split("<");
  const named = ALIASES[comment] ?? `${ALIASES[family] ?? family}${handler.slice(family.length)} ${shape}`;
  const name = `${named}${handler.startsWith("shift:") && byImmediate ? " I" : ""}`;
  const narrow = name.replace(/(8|16)(?=$| I$)/, "N");
  const any = name.replace(/\d+$/, "A");
  return numbers.get(name) ?? numbers.get(narrow) ?? numbers.get(any) ?? 0;
}

/** Short forms below END, and their twins, cannot fail. */
export function alwaysShort(fast: number): boolean {
  return fast > 0 && fast < first.END! && !(fast >= first.EITHER! && fast < first.OTHERS!);
}

export function fastTable(header: string, ofCase: readonly number[]): string {
  const lines: string[] = [];
  for (let i = 0; i < ofCase.length; i += 40) lines.push(`  ${ofCase.slice(i, i + 40).join(", ")},`);
  return `${header}// Short forms of instructions (scripts/generate-fast.ts): where each kind of them begins.
${Object.entries(first)
  .map(([name, n]) => `export const FAST_${name}: u32 = ${n};`)
  .join("\n")}
/** The short form of each operation, 0: none. */
export const FAST_OF: usize = memory.data<u8>([
${lines.join("\n")}
]);
`;
}
