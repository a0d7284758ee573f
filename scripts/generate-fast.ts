/**
 * The short forms of instructions: bodies that dispatch() holds itself (assembly/execute/fast.ts), numbered by R_FAST.
 * The order is that of dispatch(): what needs no address, stack, branches, reads, writes.
 */

export interface FastCase {
  readonly name: string;
  readonly body: string;
}

const BITS = [32, 64] as const;
const LOGIC = ["add", "or", "and", "sub", "xor"];
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
const others: FastCase[] = [];
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
    loud.push([`shift:${k} reg${b} I`, (quiet) => `Fast.shift<u${b}>(rec, ShiftOp.${k}, ${quiet});`]);
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
    either.push([`${name}<T> ${b}`, `Fast.extend<u${b}, ${from}>(rec);`, `Fast.extendMem<u${b}, ${from}>(rec, at);`]);
  }
}
either.push(["movsxd<T> 64", "Fast.extend<u64, i32>(rec);", "Fast.extendMem<u64, i32>(rec, at);"]);
keepers.push({ name: "nop", body: "" });
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
  const narrow = form === "mr" ? "narrowMr" : "narrowMi";
  for (const k of COMPARE) reads.push({ name: `alu:${k} ${form}N`, body: `Fast.${narrow}(rec, AluOp.${k}, at);` });
}

const list: FastCase[] = [{ name: "(whole handler)", body: "" }];
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
mark("OTHERS");
list.push(...others);
mark("END");
list.push({ name: "(end of block)", body: "taken = false; break;" });
mark("JCC");
for (let k = 0; k < 16; k++) list.push({ name: `jcc:${k}`, body: `taken = Fast.condition(${k}); break;` });
mark("JMP");
list.push({ name: "jmpRel", body: "break;" });
mark("LOOP");
list.push({
  name: "loop",
  body: "ea = countDown(rec); taken = ea != 0; if (taken && !Fast.reachable(Fast.relative(rec))) return rec | WHOLE; setCount(rec, ea); break;",
});
mark("CPUID");
list.push({ name: "cpuid", body: "if (!Fast.cpuid()) return rec | WHOLE; taken = false; break;" });
mark("STACK");
for (const b of BITS) {
  list.push({
    name: `popReg<T> ${b}`,
    body: `store<u64>(RSP, u64((ea + ${b / 8}) as u${b})); Fast.setDst<u${b}>(rec, load<u${b}>(at));`,
  });
}
mark("RET");
for (const b of BITS) {
  list.push({
    name: `ret<T> ${b}`,
    body: `target = u64(load<u${b}>(at)); if (!Fast.reachable(target)) return rec | WHOLE; store<u64>(RSP, u64((ea + ${b / 8}) as u${b})); break;`,
  });
}
mark("CALL");
for (const b of BITS) {
  list.push({
    name: `callRel<T> ${b}`,
    body: `target = Fast.relative(rec); if (!Fast.reachable(target)) return rec | WHOLE; store<u${b}>(at, Fast.next(rec) as u${b}); store<u64>(RSP, ea); break;`,
  });
}
mark("PUSH");
for (const b of BITS) {
  list.push({
    name: `pushReg<T> ${b}`,
    body: `store<u${b}>(at, Fast.dst<u${b}>(rec)); store<u64>(RSP, ea);`,
  });
  list.push({
    name: `pushImm<T> ${b}`,
    body: `store<u${b}>(at, load<u${b}>(rec, R_IMM)); store<u64>(RSP, ea);`,
  });
}
mark("READ");
list.push(...reads);
mark("EITHER_READ");
for (const [name, , memory] of either) list.push({ name: `${name} memory`, body: memory });
mark("WRITE");
list.push(...writes);
first.MODIFY = first.WRITE! + writes.filter(({ name }) => name.startsWith("mov ")).length;

if (list.length > 256) throw new Error(`${list.length} short forms, and R_FAST is a byte`);

export const fastCases: readonly FastCase[] = list;
const numbers = new Map(list.map((c, i) => [c.name, i]));

/** The short form of a case of the whole handlers, 0: none. Cases are named as generate-opcodes.ts does. */
export function fastOf(comment: string, byImmediate: boolean): number {
  const [handler = "", shape = ""] = comment.split(" ");
  if (comment === "(end of block)") return first.END!;
  if (
    handler === "nop" ||
    handler === "loop" ||
    handler === "jmpRel" ||
    handler === "cpuid" ||
    handler.startsWith("jcc:")
  ) {
    return numbers.get(handler)!;
  }
  const name = `${handler} ${shape}${handler.startsWith("shift:") && byImmediate ? " I" : ""}`;
  const narrow = handler.startsWith("alu:") ? name.replace(/(?<=[rm][rmi])(8|16)$/, "N") : name;
  return numbers.get(name) ?? numbers.get(narrow) ?? 0;
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
