// Instructions of every form of the opcode table, in NASM's syntax: what both assemblers are asked.
import { FORMS, type Form, type Mode } from "../../../web/assembler/names.ts";

const WORDS = ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di"];
const BYTES = ["al", "cl", "dl", "bl", "ah", "ch", "dh", "bh"];
const SIZE_NAMES: Readonly<Record<number, string>> = { 1: "byte ", 2: "word ", 4: "dword ", 8: "qword ", 16: "oword " };

const ADDRESSES: Readonly<Record<Mode, readonly string[]>> = {
  16: [
    "[bx]",
    "[bp]",
    "[si+0x10]",
    "[bp+di-0x80]",
    "[bx+si+0x1234]",
    "[0x4321]",
    "[es:bx+1]",
    "[eax+ecx*4+8]",
    "[fs:ebp]",
  ],
  32: [
    ...["[ebx]", "[ebp]", "[esp]", "[ecx+0x7f]", "[edx+0x80]", "[eax+ebx*8]", "[ebp+esi*2-4]", "[edi*4]"],
    ...["[0x12345678]", "[gs:eax]", "[bx+si]", "[esp+ecx]", "[eax*3+1]", "[fs:0x10]"],
  ],
  64: [
    ...["[rbx]", "[rbp]", "[rsp]", "[r12]", "[r13]", "[rcx+0x7f]", "[rdx-0x81]", "[rax+rbx*8]", "[r8+r9*2-4]"],
    ...[
      "[rdi*4]",
      "[0x1234]",
      "[gs:rax]",
      "[eax+r10d]",
      "[rel $+0x100]",
      "[rsp+rcx]",
      "[rip+8]",
      "[fs:r15+rsi*4+0x12345]",
    ],
  ],
};

/** The same choices every time. */
class Choices {
  #state = 12345;
  pick<T>(list: readonly T[]): T {
    this.#state = (Math.imul(this.#state, 1103515245) + 12345) & 0x7fffffff;
    return list[(this.#state >> 8) % list.length]!;
  }
}

function register(n: number, size: number): string {
  if (size === 1) return n < 8 ? BYTES[n]! : `r${n}b`;
  if (n >= 8) return `r${n}${size === 2 ? "w" : size === 4 ? "d" : ""}`;
  return `${size === 4 ? "e" : size === 8 ? "r" : ""}${WORDS[n]}`;
}

function bytesOf(letter: string, size: number): number {
  const table: Readonly<Record<string, number>> = {
    b: 1,
    w: 2,
    d: 4,
    q: 8,
    o: 16,
    v: size,
    n: size,
    z: Math.min(size, 4),
  };
  if (letter === "y" || letter === "u") return size === 8 ? 8 : 4;
  return table[letter] ?? 0;
}

const IMMEDIATES: Readonly<Record<string, readonly string[]>> = {
  Ib: ["0", "1", "5", "0x7f", "0x80", "255", "-1"],
  Ibs: ["1", "-1", "127", "-128"],
  Iw: ["0", "0x1234", "65535"],
};
const WIDE: Readonly<Record<number, readonly string[]>> = {
  2: ["0x1234", "0xffff", "0x80", "-129"],
  4: ["0x12345678", "0xffffffff", "0x80", "-129"],
  8: ["0x12345678", "-2", "0x80", "-0x80000000"],
};

function text(token: string, size: number, mode: Mode, choices: Choices, code: number): string {
  const numbers = mode === 64 ? [0, 1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 15] : [0, 1, 2, 3, 5, 6, 7];
  const reg = (bytes: number): string => register(choices.pick(numbers), bytes);
  const memory = (bytes: number): string => (SIZE_NAMES[bytes] ?? "") + choices.pick(ADDRESSES[mode]);
  const letter = token.slice(1);
  const bytes = bytesOf(letter, size);
  switch (token) {
    case "AL":
    case "CL":
    case "DX":
    case "ES":
    case "CS":
    case "SS":
    case "DS":
    case "FS":
    case "GS":
      return token.toLowerCase();
    case "rAX":
    case "eAX":
      return register(0, size);
    case "1":
      return "1";
    case "Sw":
      return choices.pick(["es", "ss", "ds", "fs", "gs"]);
    case "Cn":
      return choices.pick(["cr0", "cr2", "cr3", "cr4"]);
    case "Dn":
      return choices.pick(["dr0", "dr3", "dr7"]);
    case "RvMw":
      return choices.pick([reg(size), memory(2)]);
    case "Ib":
    case "Ibs":
    case "Iw":
      return choices.pick(IMMEDIATES[token]!);
    case "Iz":
    case "Iv":
      return choices.pick(WIDE[size]!);
    case "Jb":
      return choices.pick(["$+2", "$-100", "$+0x40"]);
    case "Jz":
      return choices.pick(["$+0x1234", "$-300", "near $+5"]);
    case "Ap":
      return `${size === (mode === 16 ? 2 : 4) ? "" : SIZE_NAMES[size]}0x18:0x1234`;
    case "Mp":
      return `${code === 0xff ? SIZE_NAMES[size] : ""}${choices.pick(ADDRESSES[mode])}`;
    case "Ob":
    case "Ov":
      return choices.pick(["[0x1234]", "[fs:0x20]"]);
  }
  switch (token[0]) {
    case "E":
      return choices.pick([reg(bytes), memory(bytes)]);
    case "G":
    case "R":
    case "B":
      return reg(bytes);
    case "Z":
      return register((code & 7) + (mode === 64 ? choices.pick([0, 8]) : 0), bytes);
    case "M":
      return letter === "b" || letter === "" || letter === "l" || letter === "s" || letter === "x" || letter === "a"
        ? choices.pick(ADDRESSES[mode])
        : memory(bytes);
  }
  throw new Error(`no text for ${token}`);
}

function sizesOf(form: Form, mode: Mode): number[] {
  if (form.size) return [form.size];
  if (form.attributes.has("natural")) return [mode === 64 ? 8 : 4];
  return mode === 64 ? [2, 4, 8] : [2, 4];
}

/** Forms that nasm's syntax says otherwise. */
function line(name: string, operands: readonly string[], form: Form): string {
  const far = form.tokens.includes("Mp") && name.endsWith(" far");
  const shown = far
    ? `${name.slice(0, -4)} far ${operands[0]}`
    : name === "ret far"
      ? `retf ${operands.join(", ")}`
      : name.replace(/ far$/, "");
  if (far || name === "ret far") return shown.trim();
  return `${shown} ${operands.join(", ")}`.trim();
}

/** Lines of a mode, each once. */
export function corpus(mode: Mode): string[] {
  const choices = new Choices();
  const lines = new Set<string>();
  for (const [name, forms] of FORMS) {
    for (const form of forms) {
      if (form.row[6] === (mode === 64 ? 1 : 2)) continue;
      for (const size of sizesOf(form, mode)) {
        const tokens = form.string || form.tokens[0] === "XL" ? [] : form.tokens;
        for (let i = 0; i < (tokens.length === 0 ? 1 : 3); i++) {
          const operands = tokens.map((token) => text(token, size, mode, choices, form.row[1]));
          lines.add(line(name, operands, form));
          const memory = operands[0]?.includes("[") && form.attributes.has("lock");
          if (memory && i === 0) lines.add(`lock ${line(name, operands, form)}`);
        }
        if (form.string) for (const prefix of ["rep", "repne"]) lines.add(`${prefix} ${name}`);
      }
    }
  }
  return [...lines];
}
