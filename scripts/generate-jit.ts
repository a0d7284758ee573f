/** Writes assembly/jit/kinds.generated.ts: what the code generator needs to know of each case of the dispatch switch. */
export interface DispatchCase {
  /** `handler form+bits`, as generate-opcodes.ts names its cases. */
  readonly comment: string;
  readonly body: string;
}

/** Handlers with generated code, in the order of the Kind constants; `family:*` takes the member as its number. */
const KINDS = [
  "none",
  "alu",
  "mov",
  "unary",
  "shift",
  "lea<T>",
  "movzx8<T>",
  "movzx16<T>",
  "movsx8<T>",
  "movsx16<T>",
  "movsxd<T>",
  "pushReg<T>",
  "pushImm<T>",
  "popReg<T>",
  "jcc",
  "jmpRel",
  "callRel<T>",
  "ret<T>",
  "set",
  "cmov<T>",
  "imulGE<T>",
  "imulImm<T>",
  "cwd<T>",
  "cbw<T>",
  "nop",
  "xchg<T>",
  "xchgAccumulator<T>",
  "jmpE<T>",
  "callE<T>",
  "mul<T>",
  "imul<T>",
  "div<T>",
  "idiv<T>",
  "bswap<T>",
  "leave<T>",
  "pushE<T>",
  "retImm<T>",
  "loop",
  "jcxz",
  "(end of block)",
  "bitImm",
  "nop90<T>",
  "clc",
  "stc",
  "cmc",
  "movLoadOffset<T>",
  "movStoreOffset<T>",
  "bit",
  "doubleShift",
  "cpuid",
  "rdmsr",
  "wrmsr",
  "intN",
  "iret",
  "movs<T>",
  "stos<T>",
  "lods<T>",
  "scas<T>",
  "cmps<T>",
  "bsf<T>",
  "bsr<T>",
  "popcnt",
  "tzcnt",
  "lzcnt",
  "cmpxchg<T>",
  "xadd<T>",
  "movbeLoad",
  "movbeStore",
  "movnti",
  "andn",
  "blsr",
  "blsmsk",
  "blsi",
  "bextr",
  "bzhi",
  "mulx",
  "shlx",
  "shrx",
  "sarx",
  "rorx",
  "adcx",
  "adox",
  "cld",
  "std",
  "xlat",
  "loope",
  "loopne",
  "fence",
  "cli",
  "sti",
  "pushf",
  "popf",
  "lahf",
  "sahf",
  "pusha<T>",
  "popa<T>",
  "pushSeg",
  "movFromSeg",
] as const;
const MEMBERS: Record<string, readonly string[]> = {
  alu: ["add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test"],
  unary: ["inc", "dec", "not", "neg"],
  shift: ["rol", "ror", "rcl", "rcr", "shl", "shr", "sar"],
  bit: ["bt", "bts", "btr", "btc"],
  bitImm: ["bt", "bts", "btr", "btc"],
  doubleShift: ["shld", "shrd"],
};
const FORMS = ["", "rr", "rm", "mr", "ri", "mi", "reg", "mem"] as const;

const constant = (name: string): string =>
  `KIND_${name
    .replace(/<T>/, "")
    .replace("(end of block)", "end")
    .replace(/([a-z])([A-Z])/g, "$1_$2")
    .toUpperCase()}`;

export function jitKinds(header: string, cases: readonly DispatchCase[]): string {
  const bytes: number[] = [];
  for (const c of cases) {
    const [handler = "", shape = ""] = c.comment.startsWith("(") ? [c.comment] : c.comment.split(" ");
    const [family = "", member] = handler.split(":");
    const kind = (KINDS as readonly string[]).indexOf(family);
    const bits = Number(/\d+$/.exec(shape)?.[0] ?? 0);
    const form = (FORMS as readonly string[]).indexOf(shape.replace(/\d+$/, ""));
    let sub = 0;
    if (member !== undefined) sub = MEMBERS[family]?.indexOf(member) ?? Number(member);
    const byCl = c.body.includes("RCX");
    bytes.push(kind < 0 || form < 0 || sub < 0 ? 0 : kind, sub & 255, bits / 8, Math.max(form, 0) | (byCl ? 128 : 0));
  }
  const lines: string[] = [];
  for (let i = 0; i < bytes.length; i += 40) lines.push(`  ${bytes.slice(i, i + 40).join(", ")},`);
  return `${header}${KINDS.map((k, i) => `export const ${constant(k)}: u32 = ${i};`).join("\n")}
${FORMS.slice(1)
  .map((f, i) => `export const FORM_${f.toUpperCase()}: u32 = ${i + 1};`)
  .join("\n")}
/** The count of a shift is CL. */
export const FORM_CL: u32 = 128;
/** {u8 kind, u8 member, u8 operand bytes, u8 form} for each operation of the dispatch switch. */
export const KINDS: usize = memory.data<u8>([
${lines.join("\n")}
]);
`;
}
